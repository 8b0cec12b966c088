SELECT count(*) AS count, coalesce(sum(m.price_micro), 0) AS micro,
       coalesce(extract(epoch FROM now() - min(d.since)), 0)::float8 AS oldest_s
FROM in_doubt d
JOIN message m ON m.account_id = d.account_id AND m.id = d.message_id
WHERE d.resolved_at IS NULL
