-- What waits in the queue, the next to go first: $1 limit, $2 route (NULL: every one), and the key
-- behind which to begin: $3 at, $4 account_id, $5 line, $6 route, $7 due_at, $8 id.
-- Every step follows an index, from one route to the next and from line to line: never all rows.
WITH RECURSIVE named AS (
    (SELECT route FROM queue_line WHERE claimed_by IS NULL ORDER BY route LIMIT 1)
    UNION ALL
    SELECT (SELECT l.route FROM queue_line l WHERE l.claimed_by IS NULL AND l.route > n.route
            ORDER BY l.route LIMIT 1)
    FROM named n WHERE n.route IS NOT NULL
), chosen AS (
    SELECT $2::text COLLATE "C" AS route WHERE $2 IS NOT NULL
    UNION ALL
    SELECT route FROM named WHERE $2 IS NULL AND route IS NOT NULL
), claimed AS MATERIALIZED (     -- few, and found by the index that has only these
    SELECT account_id, line, route, next_at, tries FROM queue_line WHERE claimed_by >= 0
), found AS (
    SELECT one.* FROM chosen c CROSS JOIN LATERAL (
        SELECT l.next_at AS at, l.next_at, l.tries, q.*
        FROM queue_line l CROSS JOIN LATERAL (
            SELECT q.* FROM queued q
            WHERE q.account_id = l.account_id AND q.line = l.line AND q.route = l.route
              AND (q.due_at, q.id) > (
                  CASE WHEN (l.next_at, l.account_id, l.line, l.route) = ($3, $4, $5, $6)
                       THEN $7 ELSE '-infinity'::timestamptz END,
                  CASE WHEN (l.next_at, l.account_id, l.line, l.route) = ($3, $4, $5, $6)
                       THEN $8 ELSE 0::bigint END)
            ORDER BY q.due_at, q.id LIMIT $1
        ) q
        WHERE l.route = c.route AND l.claimed_by IS NULL AND l.next_at >= $3
          AND (l.next_at, l.account_id, l.line, l.route) >= ($3, $4, $5, $6)
        ORDER BY l.next_at, l.account_id, l.line, q.due_at, q.id LIMIT $1
    ) one
    UNION ALL
    -- A line of which one is on its way comes before all others.
    SELECT one.* FROM (
        SELECT timestamptz '2000-01-01 00:00:00+00' AS at, l.next_at, l.tries, q.*
        FROM claimed l CROSS JOIN LATERAL (
            SELECT q.* FROM queued q
            WHERE q.account_id = l.account_id AND q.line = l.line AND q.route = l.route
              AND (q.due_at, q.id) > (
                  CASE WHEN (l.account_id, l.line, l.route) = ($4, $5, $6)
                       THEN $7 ELSE '-infinity'::timestamptz END,
                  CASE WHEN (l.account_id, l.line, l.route) = ($4, $5, $6)
                       THEN $8 ELSE 0::bigint END)
            ORDER BY q.due_at, q.id LIMIT $1
        ) q
        WHERE ($2::text IS NULL OR l.route = $2)
          AND (timestamptz '2000-01-01 00:00:00+00', l.account_id, l.line, l.route)
              >= ($3, $4, $5, $6)
        ORDER BY l.account_id, l.line, l.route, q.due_at, q.id LIMIT $1
    ) one
), page AS (
    SELECT * FROM found ORDER BY at, account_id, line, route, due_at, id LIMIT $1
)
SELECT p.at, p.account_id, p.line, p.id, a.name AS account, p.route, p.sending,
       m.source_addr, m.destination_addr, m.segments, credits(p.price_micro) AS price,
       p.attempts, p.due_at, greatest(p.next_at, p.due_at) AS next_at, p.expires_at,
       p.last_status, p.last_reason
FROM page p
JOIN account a ON a.id = p.account_id
LEFT JOIN message m ON m.account_id = p.account_id AND m.id = p.id
ORDER BY p.at, p.account_id, p.line, p.route, p.due_at, p.id
