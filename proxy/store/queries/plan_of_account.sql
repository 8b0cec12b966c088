-- $1 account  $2 plan
SELECT ap.account_id, ap.plan_id, ap.started_at, p.name, p.amount_micro, p.every::text AS every,
       p.roll_over, a.timezone,
       (SELECT max(g.period) FROM plan_grant g
        WHERE g.account_id = ap.account_id AND g.plan_id = ap.plan_id) AS last_period
FROM account_plan ap
JOIN plan p ON p.id = ap.plan_id
JOIN account a ON a.id = ap.account_id
WHERE ap.account_id = $1 AND ap.plan_id = $2 AND ap.ended_at IS NULL
