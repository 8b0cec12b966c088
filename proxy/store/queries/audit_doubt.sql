-- In doubt means that there is a message and no outcome; resolved means that there is one.
SELECT coalesce(a.name, 'account ' || d.account_id) AS account,
       CASE WHEN m.id IS NULL THEN format('message %s is in doubt and does not exist', d.message_id)
            WHEN d.resolved_at IS NULL
            THEN format('message %s is in doubt and has an outcome', d.message_id)
            ELSE format('message %s is no longer in doubt and has no outcome', d.message_id)
            END AS detail
FROM in_doubt d
LEFT JOIN message m ON m.account_id = d.account_id AND m.id = d.message_id
LEFT JOIN outcome o ON o.account_id = d.account_id AND o.message_id = d.message_id
LEFT JOIN account a ON a.id = d.account_id
WHERE m.id IS NULL OR (d.resolved_at IS NULL) <> (o.message_id IS NULL)
LIMIT $1
