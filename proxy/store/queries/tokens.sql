SELECT t.name, t.scope, a.name AS account, t.created_at, t.created_by, t.expires_at, t.last_used_at,
       t.revoked_at, t.revoked_by
FROM api_token t LEFT JOIN account a ON a.id = t.account_id
ORDER BY t.name
