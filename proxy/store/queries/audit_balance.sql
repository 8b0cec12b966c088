-- The balance of an account is the sum of its rows.
SELECT coalesce(a.name, 'account ' || l.account_id) AS account,
       CASE WHEN a.id IS NULL THEN 'ledger rows of an account that does not exist'
            ELSE format('balance %s, but its rows sum to %s', credits(a.balance_micro),
                        credits(coalesce(l.sum_micro, 0))) END AS detail
FROM account a
FULL JOIN (SELECT account_id, sum(amount_micro) AS sum_micro FROM ledger GROUP BY 1) l
  ON l.account_id = a.id
WHERE coalesce(a.balance_micro, 0) <> coalesce(l.sum_micro, 0) OR a.id IS NULL
LIMIT $1
