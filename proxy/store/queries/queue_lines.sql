-- Some lines of the queue, in order: $1 the lowest and $2 the highest account, $3 route (NULL: every
-- one), $4 limit, and the key behind which to begin: $1 account_id, $5 line, $6 route.
SELECT account_id, line, route FROM queue_line
WHERE (account_id, line, route) > ($1::bigint, $5::text, $6::text)
  AND account_id <= $2 AND ($3::text IS NULL OR route = $3)
ORDER BY account_id, line, route
LIMIT $4
