-- Notes what every account ever used, at the full five minutes that have begun, where it is not
-- what the sample before says.  Of several proxies the first one counts.
--   $1 now, or NULL for the database's clock
INSERT INTO usage_sample (account_id, at, used_micro)
SELECT a.id, date_bin('5 minutes', coalesce($1::timestamptz, now()), 'epoch'), a.used_micro
FROM account a
WHERE a.used_micro <> coalesce((SELECT s.used_micro FROM usage_sample s WHERE s.account_id = a.id
                                ORDER BY s.at DESC LIMIT 1), 0)
ORDER BY a.id
ON CONFLICT DO NOTHING
