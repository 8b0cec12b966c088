-- A message that the sweep has passed has an outcome, is in doubt or in the queue: no hold is forgotten.
SELECT coalesce(a.name, 'account ' || m.account_id) AS account,
       format('message %s was swept, and has no outcome, no doubt and is not queued', m.id) AS detail
FROM message m
LEFT JOIN outcome o ON o.account_id = m.account_id AND o.message_id = m.id
LEFT JOIN in_doubt d ON d.account_id = m.account_id AND d.message_id = m.id
LEFT JOIN queued q ON q.account_id = m.account_id AND q.id = m.id
LEFT JOIN account a ON a.id = m.account_id
WHERE m.id <= (SELECT swept_through FROM sweep)
  AND o.message_id IS NULL AND d.message_id IS NULL AND q.id IS NULL
LIMIT $1
