-- Counts a list of events, one row per minute, account, kind and text.  The list is sorted by
-- that key, so that two proxies that count the same events never wait for each other in a ring.
--   $1 minute  $2 account  $3 kind  $4 text  $5 severity  $6 count  $7 first  $8 last
--   $9 the message of the first, or NULL
INSERT INTO event (minute, account_id, kind, text, severity, count, at, last_at, message_id)
SELECT u.minute, u.account_id, u.kind, u.text, u.severity::severity, u.count, u.at, u.last_at,
       u.message_id
FROM unnest($1::timestamptz[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[],
            $7::timestamptz[], $8::timestamptz[], $9::bigint[])
  AS u(minute, account_id, kind, text, severity, count, at, last_at, message_id)
ON CONFLICT (minute, account_id, kind, text) DO UPDATE
SET count = event.count + excluded.count,
    last_at = greatest(event.last_at, excluded.last_at)
