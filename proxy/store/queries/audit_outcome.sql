-- An outcome belongs to a message; it gives back all of the price exactly when it says released.
SELECT coalesce(a.name, 'account ' || o.account_id) AS account,
       CASE WHEN m.id IS NULL
            THEN format('outcome of message %s, which does not exist', o.message_id)
            ELSE format('message %s has the price %s, is %s and gave back %s', m.id,
                        credits(m.price_micro), o.state, credits(o.released_micro)) END AS detail
FROM outcome o
LEFT JOIN message m ON m.account_id = o.account_id AND m.id = o.message_id
LEFT JOIN account a ON a.id = o.account_id
WHERE m.id IS NULL OR o.released_micro NOT BETWEEN 0 AND m.price_micro
   OR (o.state = 'released') <> (o.released_micro = m.price_micro)
LIMIT $1
