SELECT i.pattern, a.name
FROM inbound i JOIN account a ON a.id = i.account_id
WHERE i.pattern = ANY ($2::text[]) AND i.account_id <> $1
ORDER BY i.pattern LIMIT 1
