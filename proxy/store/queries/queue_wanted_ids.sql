-- Messages of the queue by their ids ($1).
WITH RECURSIVE owner AS (        -- from one account to the next by the index: the id alone has none
    SELECT min(account_id) AS id FROM queued
    UNION ALL
    SELECT (SELECT min(q.account_id) FROM queued q WHERE q.account_id > o.id) FROM owner o
    WHERE o.id IS NOT NULL
)
SELECT q.account_id, q.line, q.route, q.due_at, q.id, q.sending
FROM owner o JOIN queued q ON q.account_id = o.id AND q.id = ANY ($1::bigint[])
ORDER BY q.account_id, q.line, q.route, q.due_at, q.id
