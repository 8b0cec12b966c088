-- $1 account  $2 node  $3 limit  $4 NULL, or what the node knows that it has claimed
UPDATE delivery SET claimed_by = $2
WHERE account_id = $1 AND id IN (
    SELECT id FROM delivery
    WHERE account_id = $1 AND next_attempt_at <= now()
      AND (claimed_by IS NULL OR (claimed_by = $2 AND id <> ALL ($4::bigint[])))
    ORDER BY id LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING id, kind::text, message_id, command_id, body, attempts
