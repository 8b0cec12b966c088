SELECT name, enabled, balance, credit_limit, held, max_binds, insufficient_status, system_ids,
       inbound, created_at
FROM v_account
