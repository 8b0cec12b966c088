-- The rows of a period by operation, in the order of the type.
-- $1 account id  $2 first id  $3 the first id behind
SELECT o.operation::text AS operation, coalesce(l.rows, 0) AS rows, coalesce(l.micro, 0)::bigint AS micro
FROM unnest(enum_range(NULL::operation)) AS o(operation)
LEFT JOIN (SELECT operation, count(*) AS rows, sum(amount_micro) AS micro FROM ledger
           WHERE account_id = $1 AND id >= $2 AND id < $3 GROUP BY 1) l USING (operation)
ORDER BY o.operation
