-- Deletes the samples of more than 25 hours ago, but of each account the newest one of that
-- time: it says what an account that was idle since had used.
--   $1 now, or NULL for the database's clock
DELETE FROM usage_sample s
WHERE s.at < coalesce($1::timestamptz, now()) - interval '25 hours'
  AND EXISTS (SELECT 1 FROM usage_sample n WHERE n.account_id = s.account_id AND n.at > s.at
              AND n.at < coalesce($1::timestamptz, now()) - interval '25 hours')
