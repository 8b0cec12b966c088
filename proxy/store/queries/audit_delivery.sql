-- What was delivered to the client is no longer waiting for it.
SELECT coalesce(a.name, 'account ' || w.account_id) AS account,
       format('%s %s is waiting and was delivered', w.kind, w.id) AS detail
FROM delivery w
JOIN delivered d ON d.account_id = w.account_id AND d.id = w.id
LEFT JOIN account a ON a.id = w.account_id
LIMIT $1
