-- What a plan granted for a period is a grant in the ledger.
SELECT a.name AS account,
       CASE WHEN l.id IS NULL
            THEN format('plan %s for %s: its ledger row %s does not exist', p.name, g.period, g.ledger_id)
            ELSE format('plan %s for %s: its ledger row %s is no grant but %s of %s', p.name, g.period,
                        l.id, l.operation, credits(l.amount_micro)) END AS detail
FROM plan_grant g
JOIN account a ON a.id = g.account_id
JOIN plan p ON p.id = g.plan_id
LEFT JOIN ledger l ON l.account_id = g.account_id AND l.id = g.ledger_id
WHERE l.id IS NULL OR l.operation <> 'grant'
LIMIT $1
