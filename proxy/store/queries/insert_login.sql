INSERT INTO login (account_id, system_id, password_hash) VALUES ($1, $2, $3)
ON CONFLICT (system_id) DO NOTHING
RETURNING id
