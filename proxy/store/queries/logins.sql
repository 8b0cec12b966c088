SELECT l.id AS login_id, l.account_id, a.name AS account_name, l.system_id, l.password_hash,
       a.enabled, a.tariff_id, a.max_binds, a.insufficient_status, a.charge_on::text AS charge_on,
       a.rate, a.allowed_senders, a.allowed_prefixes,
       extract(epoch FROM a.valid_until)::float8 AS valid_until_s, a.retry_safe_s, a.all_parts
FROM login l JOIN account a ON a.id = l.account_id
