SELECT v.name, v.enabled, v.balance, v.credit_limit, v.held, p.hours_to_empty, v.granted,
       v.next_expiry_at, v.used_today, v.used_this_month, v.tariff, v.charge_on, v.max_binds,
       v.insufficient_status, v.daily_cap, v.monthly_cap, v.daily_messages, v.rate, v.allowed_senders,
       v.allowed_prefixes, v.valid_until, v.low_balance, v.delivery_release, v.delivery_max_age_s,
       v.delivery_overdue, v.retry_safe_s, v.all_parts, v.timezone, v.system_ids, v.inbound, v.created_at
FROM v_account v LEFT JOIN v_pace p ON p.account_id = v.id
