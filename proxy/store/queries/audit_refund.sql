-- What an outcome gives back is what the refunds of its message sum to.
SELECT coalesce(a.name, 'account ' || coalesce(o.account_id, r.account_id)) AS account,
       CASE WHEN o.message_id IS NULL
            THEN format('%s credits refunded for message %s, which has no outcome',
                        credits(r.refund_micro), coalesce(r.message_id::text, '(none)'))
            ELSE format('the outcome of message %s gives back %s, its refunds sum to %s',
                        o.message_id, credits(o.released_micro),
                        credits(coalesce(r.refund_micro, 0))) END AS detail
FROM (SELECT account_id, message_id, released_micro FROM outcome) o
FULL JOIN (SELECT account_id, message_id, sum(amount_micro) AS refund_micro
           FROM ledger WHERE operation = 'refund' GROUP BY 1, 2) r
  ON r.account_id = o.account_id AND r.message_id = o.message_id
LEFT JOIN account a ON a.id = coalesce(o.account_id, r.account_id)
WHERE coalesce(o.released_micro, 0) <> coalesce(r.refund_micro, 0) OR o.message_id IS NULL
LIMIT $1
