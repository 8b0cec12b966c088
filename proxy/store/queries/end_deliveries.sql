WITH gone AS (
    DELETE FROM delivery d
    USING unnest($1::text::bigint[], $2::text::bigint[], texts_from($3), $4::text::bigint[])
      AS e(account_id, id, state, status)
    WHERE d.account_id = e.account_id AND d.id = e.id
    RETURNING d.id, d.account_id, d.kind, d.message_id, d.message_state, d.error, e.state, e.status
)
INSERT INTO delivered (id, account_id, kind, message_id, message_state, error, state, command_status)
SELECT id, account_id, kind, message_id, message_state, error, state::delivered_state, status
FROM gone
ON CONFLICT DO NOTHING
