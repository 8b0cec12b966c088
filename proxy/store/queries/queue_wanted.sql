-- Some messages of the queue, in the order of their lines: $1 the lowest and $2 the highest account,
-- $3 route (NULL: every one), $4 not younger than this id, $5 limit, and the key behind which to
-- begin: $1 account_id, $6 line, $7 route, $8 due_at, $9 id.
SELECT account_id, line, route, due_at, id, sending
FROM queued
WHERE (account_id, line, route, due_at, id) > ($1::bigint, $6::text, $7::text, $8::timestamptz, $9::bigint)
  AND account_id <= $2 AND ($3::text IS NULL OR route = $3) AND id <= $4
ORDER BY account_id, line, route, due_at, id
LIMIT $5
