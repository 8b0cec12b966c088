-- Takes webhooks that are due, so that no other proxy sends them too.  They come due again
-- when the lease ends, unless what became of them is written before.
--   $1 now, or NULL for the database's clock   $2 lease in seconds   $3 how many at most
UPDATE webhook w
SET attempts = w.attempts + 1,
    next_attempt_at = coalesce($1::timestamptz, now()) + $2 * interval '1 second'
WHERE w.id IN (
    SELECT id FROM webhook
    WHERE delivered_at IS NULL AND given_up_at IS NULL
      AND next_attempt_at <= coalesce($1::timestamptz, now())
    ORDER BY next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING w.id, w.attempts, w.account_id, (jsonb_build_object('id', w.id) || w.body)::text AS body
