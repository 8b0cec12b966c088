-- Every message was debited once, at its price, and nothing else was debited.
-- A 'use' row has the id of its message, and ids are unique per account, so "once" is the
-- ledger's primary key.
SELECT coalesce(a.name, 'account ' || coalesce(m.account_id, l.account_id)) AS account,
       CASE WHEN l.id IS NULL
            THEN format('message %s was never debited', m.id)
            WHEN m.id IS NULL
            THEN format('%s credits were taken for message %s, which does not exist',
                        credits(-l.amount_micro), l.id)
            WHEN l.message_id IS DISTINCT FROM m.id
            THEN format('the debit of message %s names message %s', m.id, l.message_id)
            ELSE format('message %s has the price %s and was debited %s', m.id,
                        credits(m.price_micro), credits(-l.amount_micro)) END AS detail
FROM message m
FULL JOIN (SELECT * FROM ledger WHERE operation = 'use') l
  ON l.account_id = m.account_id AND l.id = m.id
LEFT JOIN account a ON a.id = coalesce(m.account_id, l.account_id)
WHERE m.id IS NULL OR l.id IS NULL OR l.amount_micro <> -m.price_micro
   OR l.message_id IS DISTINCT FROM m.id
LIMIT $1
