SELECT l.id AS login_id, l.account_id, a.name AS account_name, l.system_id, l.password_hash,
       a.enabled, a.max_binds, a.insufficient_status
FROM login l JOIN account a ON a.id = l.account_id
