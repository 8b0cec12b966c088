-- $1 oldest last occurrence  $2 limit  $3 account  $4 kind  $5 least severity; NULL: any.
SELECT at, severity, account, kind, text, count, last_at, message_id
FROM v_event
WHERE last_at >= $1
  AND ($3::text IS NULL OR account = $3)
  AND ($4::text IS NULL OR kind = $4)
  AND severity::severity >= $5::text::severity
ORDER BY last_at DESC
LIMIT $2
