-- $1 limit  $2 first seen from then on  $3 and before  $4 account  $5 kind  $6 least severity;
-- $12 in the text,
-- or the kind; NULL filters nothing.  $7 to $11: behind this key.  The minute is the partition key and leads
-- the primary key; within it the order is that of the first occurrence, which never changes.
SELECT e.minute, e.account_id, e.at, e.severity::text AS severity, a.name AS account, e.kind,
       e.text, e.count, e.last_at, e.message_id
FROM event e LEFT JOIN account a ON a.id = e.account_id
WHERE e.at >= $2 AND e.minute > $2::timestamptz - interval '1 minute'
  AND e.at < $3 AND e.minute <= $3
  AND ($4::text IS NULL OR a.name = $4)
  AND ($5::text IS NULL OR e.kind = $5)
  AND e.severity >= $6::text::severity
  AND ($12::text IS NULL OR strpos(lower(e.text), $12) > 0 OR e.kind = $12)
  AND e.minute <= $7
  AND (e.minute, e.at, e.account_id, e.kind, e.text) < ($7, $8, $9, $10, $11)
ORDER BY e.minute DESC, e.at DESC, e.account_id DESC, e.kind DESC, e.text DESC
LIMIT $1
