UPDATE delivery SET claimed_by = $2
WHERE account_id = $1 AND id IN (
    SELECT id FROM delivery
    WHERE account_id = $1 AND claimed_by IS NULL AND next_attempt_at <= now()
    ORDER BY id LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING id, kind::text, message_id, command_id, body, attempts
