-- What is in the queue was charged, has no end yet, and stands in a line that will come to it.
SELECT coalesce(a.name, 'account ' || q.account_id) AS account,
       CASE WHEN m.id IS NULL THEN format('message %s is queued, and was not charged', q.id)
            WHEN o.message_id IS NOT NULL
            THEN format('message %s is queued, and is %s already', q.id, o.state)
            WHEN m.price_micro <> q.price_micro
            THEN format('message %s is queued for %s, and its price was %s', q.id,
                        credits(q.price_micro), credits(m.price_micro))
            WHEN l.account_id IS NULL THEN format('message %s is queued, and its line is not', q.id)
            ELSE format('message %s is being sent, and no proxy has claimed it', q.id) END AS detail
FROM queued q
LEFT JOIN message m ON m.account_id = q.account_id AND m.id = q.id
LEFT JOIN outcome o ON o.account_id = q.account_id AND o.message_id = q.id
LEFT JOIN queue_line l ON l.account_id = q.account_id AND l.line = q.line AND l.route = q.route
LEFT JOIN account a ON a.id = q.account_id
WHERE m.id IS NULL OR o.message_id IS NOT NULL OR m.price_micro <> q.price_micro
   OR l.account_id IS NULL OR (q.sending AND l.claimed_by IS NULL)
LIMIT $1
