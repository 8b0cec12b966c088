-- The rows of a period, oldest first, as v_credit_log has them; but the balance is carried forward
-- from row to row.  ('use' rows have the id of their message, so that the days are known of both.)
-- $1 account id  $2 first id  $3 the first id behind  $4 the balance before, in micro-credits
SELECT time_from_id(l.id) AS at,
       coalesce(l.actor, CASE l.operation WHEN 'use' THEN lo.system_id ELSE 'smpp-proxy' END) AS by,
       l.operation::text AS operation,
       credits(l.amount_micro) AS change,
       credits($4::numeric + sum(l.amount_micro) OVER (ORDER BY l.id)) AS balance,
       l.message_id, l.note
FROM ledger l
LEFT JOIN message m ON l.operation = 'use' AND m.account_id = l.account_id AND m.id = l.id
                   AND m.id >= $2 AND m.id < $3
LEFT JOIN login lo ON lo.id = m.login_id
WHERE l.account_id = $1 AND l.id >= $2 AND l.id < $3
ORDER BY l.id
