WITH gone AS (
    DELETE FROM delivery d
    WHERE d.id < id_from_time(now() - $1::float8 * interval '1 second') AND d.claimed_by IS NULL
    RETURNING d.id, d.account_id, d.kind, d.message_id, d.message_state, d.error
), kept AS (
    INSERT INTO delivered (id, account_id, kind, message_id, message_state, error, state,
                           command_status)
    SELECT id, account_id, kind, message_id, message_state, error, 'expired', 0 FROM gone
    ON CONFLICT DO NOTHING
    RETURNING account_id, kind
)
SELECT account_id, kind::text, count(*) AS count FROM kept GROUP BY account_id, kind
