-- $1, $2: ids between which holds must have an outcome by now.  They are parameters, and named
-- for both tables, so that only the partitions between them are read.
WITH lost AS (
    SELECT m.account_id, m.id FROM message m
    WHERE m.id > $1 AND m.id <= $2
      AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.account_id = m.account_id
                      AND o.message_id = m.id AND o.message_id > $1 AND o.message_id <= $2)
      -- What waits in the queue has time; it leaves the queue with an outcome or a doubt.
      AND NOT EXISTS (SELECT 1 FROM queued q WHERE q.account_id = m.account_id AND q.id = m.id)
), doubtful AS (
    INSERT INTO in_doubt (message_id, account_id, reason)
    SELECT id, account_id, 'no outcome in time' FROM lost
    ON CONFLICT DO NOTHING
    RETURNING account_id
), swept AS (
    UPDATE sweep SET swept_through = $2
)
SELECT account_id, count(*) AS count FROM doubtful GROUP BY account_id
