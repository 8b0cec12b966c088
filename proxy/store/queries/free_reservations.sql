-- The account's lock comes first, as for a charge.
WITH late AS (
    SELECT DISTINCT account_id FROM long_message WHERE expires_at <= now()
), locked AS (
    SELECT id FROM account WHERE id IN (SELECT account_id FROM late) ORDER BY id FOR NO KEY UPDATE
), gone AS (
    DELETE FROM long_message l USING locked a
    WHERE l.account_id = a.id AND l.expires_at <= now()
    RETURNING l.account_id, l.reserved_micro
)
UPDATE account a SET reserved_micro = a.reserved_micro - g.micro, dry = false
FROM (SELECT account_id, sum(reserved_micro)::bigint AS micro FROM gone GROUP BY 1) g
WHERE a.id = g.account_id AND g.micro > 0
RETURNING pg_notify('smpp_proxy_credit', a.id::text)
