-- A message costs what the row of the price list that it names says for its segments; one with
-- several destinations (submit_multi) names the row of the first only.
-- No number, or 0: from before there were price lists.
SELECT coalesce(a.name, 'account ' || m.account_id) AS account,
       CASE WHEN p.id IS NULL
            THEN format('message %s names price %s, which does not exist', m.id, m.price_id)
            WHEN p.price_micro IS NULL
            THEN format('message %s names price %s, which is not for sale', m.id, m.price_id)
            ELSE format('message %s has the price %s, but %s segments at price %s are %s', m.id,
                        credits(m.price_micro), m.segments, m.price_id,
                        credits(m.segments * p.price_micro)) END AS detail
FROM message m
LEFT JOIN price p ON p.id = m.price_id
LEFT JOIN account a ON a.id = m.account_id
WHERE m.price_id <> 0
  AND (p.price_micro IS NULL
       OR m.command_id IN (4, 259) AND m.price_micro <> m.segments * p.price_micro)
LIMIT $1
