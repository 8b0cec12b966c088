-- A receipt's source_addr is its message's destination, and the other way round; $2 is NULL where
-- the upstream has a sender of its own.
WITH candidate AS (
    SELECT m.account_id, m.id AS message_id,
           CASE WHEN a.charge_on = 'delivery' AND m.command_id <> 33
                THEN (m.registered_delivery & 3)::smallint END AS asked
    FROM in_doubt d
    JOIN message m ON m.account_id = d.account_id AND m.id = d.message_id
    JOIN account a ON a.id = d.account_id
    WHERE d.resolved_at IS NULL AND (d.upstream_id = $1 OR d.upstream_id IS NULL)
      AND ($2::text IS NULL OR m.source_addr = $2)
      AND ltrim(m.destination_addr, '+') = ltrim($3::text, '+')
    LIMIT 2
), only_one AS (
    SELECT * FROM candidate WHERE (SELECT count(*) FROM candidate) = 1
), ended AS (
    INSERT INTO outcome (message_id, account_id, state, command_status, upstream_id,
                         smsc_message_id, reason, awaits_receipt, asked)
    SELECT message_id, account_id, 'charged', 0, $1, $4, 'receipt', asked IS NOT NULL, asked
    FROM only_one
    ON CONFLICT DO NOTHING
    RETURNING account_id, message_id
)
UPDATE in_doubt d SET resolved_at = clock_timestamp(), resolution = 'receipt'
FROM ended e
WHERE d.account_id = e.account_id AND d.message_id = e.message_id
RETURNING d.account_id, d.message_id
