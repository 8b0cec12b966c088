-- What waits in the queue of one account ($1), oldest first: $2 larger than this id, $3 limit,
-- $4 route (NULL: every one).
WITH page AS (
    SELECT q.*, l.next_at
    FROM (SELECT * FROM queued
          WHERE account_id = $1 AND id > $2 AND ($4::text IS NULL OR route = $4)
          ORDER BY id LIMIT $3) q
    JOIN queue_line l ON l.account_id = q.account_id AND l.line = q.line AND l.route = q.route
)
SELECT p.account_id, p.line, p.id, a.name AS account, p.route, p.sending,
       m.source_addr, m.destination_addr, m.segments, credits(p.price_micro) AS price,
       p.attempts, p.due_at, greatest(p.next_at, p.due_at) AS next_at, p.expires_at,
       p.last_status, p.last_reason
FROM page p
JOIN account a ON a.id = p.account_id
LEFT JOIN message m ON m.account_id = p.account_id AND m.id = p.id
ORDER BY p.id
