-- $1 name  $2 hash  $3 scope  $4 account or NULL  $5 who creates it  $6 expires at or NULL
INSERT INTO api_token (name, hash, scope, account_id, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO NOTHING
RETURNING id
