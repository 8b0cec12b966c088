-- $1 hash  $2 now
SELECT t.id, t.name, t.scope, a.name AS account, t.last_used_at
FROM api_token t LEFT JOIN account a ON a.id = t.account_id
WHERE t.hash = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > $2)
