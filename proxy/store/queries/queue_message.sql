-- One message of the queue ($1 its id), how its line stands, and how many are before it there.
WITH RECURSIVE owner AS (        -- from one account to the next by the index: the id alone has none
    SELECT min(account_id) AS id FROM queued
    UNION ALL
    SELECT (SELECT min(q.account_id) FROM queued q WHERE q.account_id > o.id) FROM owner o
    WHERE o.id IS NOT NULL
)
SELECT q.id, a.name AS account, q.route, q.sending, q.line,
       (SELECT count(*) FROM queued b
        WHERE b.account_id = q.account_id AND b.line = q.line AND b.route = q.route
          AND (b.due_at, b.id) < (q.due_at, q.id)) AS before_it,
       l.tries AS line_tries, l.claimed_by AS node,
       time_from_id(q.id) AS submitted_at, lo.system_id, m.source_addr, m.destination_addr,
       m.segments, m.data_coding, m.esm_class, m.registered_delivery, q.command_id,
       octet_length(q.body) AS body_octets, credits(q.price_micro) AS price,
       q.attempts, q.due_at, greatest(l.next_at, q.due_at) AS next_at, q.expires_at,
       q.last_status, q.last_reason
FROM owner o
JOIN queued q ON q.account_id = o.id AND q.id = $1
JOIN account a ON a.id = q.account_id
JOIN queue_line l ON l.account_id = q.account_id AND l.line = q.line AND l.route = q.route
LEFT JOIN message m ON m.account_id = q.account_id AND m.id = q.id
LEFT JOIN login lo ON lo.id = m.login_id
