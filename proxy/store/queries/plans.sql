SELECT p.id, p.name, credits(p.amount_micro) AS credits, p.every::text AS every, p.roll_over,
       p.created_at,
       array(SELECT a.name FROM account_plan ap JOIN account a ON a.id = ap.account_id
             WHERE ap.plan_id = p.id AND ap.ended_at IS NULL ORDER BY a.name) AS accounts
FROM plan p
ORDER BY p.name
