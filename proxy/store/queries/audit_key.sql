-- A key that added credits stands for one row of that amount.
SELECT a.name AS account,
       format('the key %L stands for %s credits, its row for %s', k.key, credits(k.amount_micro),
              coalesce(credits(l.amount_micro)::text, 'nothing')) AS detail
FROM credit_key k
JOIN account a ON a.id = k.account_id
LEFT JOIN ledger l ON l.account_id = k.account_id AND l.id = k.ledger_id
WHERE l.amount_micro IS DISTINCT FROM k.amount_micro OR l.operation NOT IN ('add', 'grant')
LIMIT $1
