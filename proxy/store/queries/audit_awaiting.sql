-- A message that waits for its receipt is charged in full so far, and it is known what its client
-- asked for.
SELECT coalesce(a.name, 'account ' || o.account_id) AS account,
       CASE WHEN o.asked IS NULL
            THEN format('message %s waits for its receipt, and nobody knows who asked for one',
                        o.message_id)
            ELSE format('message %s waits for its receipt, is %s and gave back %s', o.message_id,
                        o.state, credits(o.released_micro)) END AS detail
FROM outcome o
LEFT JOIN account a ON a.id = o.account_id
WHERE o.awaits_receipt AND (o.state <> 'charged' OR o.released_micro <> 0 OR o.asked IS NULL)
LIMIT $1
