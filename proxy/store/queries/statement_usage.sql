-- The messages of a period in groups; credits as v_message has them.
-- $1 account id  $2 first id  $3 the first id behind  $4 by what  $5 the account's time zone
SELECT CASE $4::text
           WHEN 'day' THEN to_char(time_from_id(m.id) AT TIME ZONE $5, 'YYYY-MM-DD')
           WHEN 'prefix' THEN p.prefix
           WHEN 'sender' THEN m.source_addr
           WHEN 'service' THEN p.service
           WHEN 'state' THEN CASE WHEN o.awaits_receipt THEN 'accepted'
                                  WHEN o.state IS NOT NULL THEN o.state::text
                                  WHEN d.message_id IS NOT NULL THEN 'in_doubt' ELSE 'held' END
       END AS key,
       count(*) AS messages,
       sum(m.segments) AS segments,
       credits(sum(m.price_micro)) AS price,
       credits(coalesce(sum(o.released_micro), 0)) AS released,
       credits(sum(o.cost_micro)) AS cost,
       credits(sum(m.price_micro - o.released_micro - o.cost_micro)) AS margin
FROM message m
LEFT JOIN outcome o ON o.account_id = m.account_id AND o.message_id = m.id
                   AND o.message_id >= $2 AND o.message_id < $3
LEFT JOIN in_doubt d ON d.account_id = m.account_id AND d.message_id = m.id AND d.resolved_at IS NULL
LEFT JOIN price p ON p.id = m.price_id
WHERE m.account_id = $1 AND m.id >= $2 AND m.id < $3
GROUP BY 1
ORDER BY 1
