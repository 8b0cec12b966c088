-- Lets lines go now that wait for another try: $1 accounts, $2 lines, $3 routes.  A line whose
-- messages are all scheduled for later goes on waiting: there is nothing in it to try.
WITH waiting AS MATERIALIZED (
    SELECT l.account_id, l.line, l.route
    FROM unnest($1::bigint[], $2::text[], $3::text[]) AS u(account_id, line, route)
    JOIN queue_line l ON l.account_id = u.account_id AND l.line = u.line AND l.route = u.route
    WHERE l.claimed_by IS NULL AND l.next_at > now()
      AND EXISTS (SELECT FROM queued q WHERE q.account_id = l.account_id AND q.line = l.line
                    AND q.route = l.route AND q.due_at <= now())
    ORDER BY l.account_id, l.line, l.route
    FOR UPDATE OF l
)
UPDATE queue_line l SET next_at = now(), tries = 0
FROM waiting w
WHERE l.account_id = w.account_id AND l.line = w.line AND l.route = w.route AND l.claimed_by IS NULL
RETURNING l.account_id
