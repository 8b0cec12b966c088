-- $1: seconds after which a hold must have an outcome
WITH bound AS (
    SELECT swept_through AS low, id_from_time(now() - $1::float8 * interval '1 second') AS high
    FROM sweep FOR UPDATE SKIP LOCKED
), lost AS (
    SELECT m.account_id, m.id FROM bound b
    JOIN message m ON m.id > b.low AND m.id <= b.high
    WHERE NOT EXISTS (SELECT 1 FROM outcome o WHERE o.account_id = m.account_id
                      AND o.message_id = m.id AND o.message_id > b.low AND o.message_id <= b.high)
), doubtful AS (
    INSERT INTO in_doubt (message_id, account_id, reason)
    SELECT id, account_id, 'no outcome in time' FROM lost
    ON CONFLICT DO NOTHING
    RETURNING account_id
), swept AS (
    UPDATE sweep SET swept_through = b.high FROM bound b WHERE b.high > b.low
)
SELECT account_id, count(*) AS count FROM doubtful GROUP BY account_id
