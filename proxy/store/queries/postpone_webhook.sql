-- An attempt failed: the webhook comes due again later, or is given up, which is an event, when
-- that would be too long after it was made.  Of an attempt that outlived its lease nothing is
-- changed: another one has been made since.
--   $1 now, or NULL for the database's clock   $2 id   $3 its attempts   $4 what went wrong
--   $5 seconds until the next attempt          $6 how long it may be tried, in seconds
-- Returns whether it was given up.
WITH one AS (
    UPDATE webhook w
    SET last_error = $4,
        next_attempt_at = coalesce($1::timestamptz, now()) + $5 * interval '1 second',
        given_up_at = CASE WHEN coalesce($1::timestamptz, now()) + $5 * interval '1 second'
                                > w.created_at + $6 * interval '1 second'
                           THEN coalesce($1::timestamptz, now()) END
    WHERE w.id = $2 AND w.attempts = $3 AND w.delivered_at IS NULL
    RETURNING w.account_id, w.given_up_at
), events AS (
    INSERT INTO event (minute, account_id, kind, text, severity)
    SELECT date_trunc('minute', clock_timestamp()), account_id, 'webhook_failed',
           format('Webhook given up after %s days: %s', round(($6 / 86400)::numeric, 1)::real, $4::text),
           'error'
    FROM one WHERE given_up_at IS NOT NULL
    ON CONFLICT (minute, account_id, kind, text) DO UPDATE
    SET count = event.count + 1, last_at = greatest(event.last_at, excluded.last_at)
)
SELECT given_up_at IS NOT NULL FROM one
