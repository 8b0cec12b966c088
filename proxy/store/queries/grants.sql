-- $1: the account's name
SELECT g.id, time_from_id(g.id) AS granted_at, l.actor AS by, l.note,
       credits(g.amount_micro) AS amount, credits(g.left_micro) AS left, g.expires_at
FROM account a
CROSS JOIN LATERAL live_grants(a.id) g
JOIN ledger l ON l.account_id = a.id AND l.id = g.id
WHERE a.name = $1 AND g.left_micro > 0
ORDER BY g.expires_at, g.id
