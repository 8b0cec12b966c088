-- $1 tariff.  What is valid now or will be, for the lookup; times in seconds since the Unix epoch.
-- An hour of what has ended comes along, for a proxy whose clock is behind the database's.
SELECT id, prefix, service, price_micro,
       extract(epoch FROM valid_from)::double precision AS valid_from_s,
       extract(epoch FROM valid_to)::double precision AS valid_to_s
FROM price
WHERE tariff_id = $1 AND retired_at IS NULL
  AND (valid_to IS NULL OR valid_to > now() - interval '1 hour')
