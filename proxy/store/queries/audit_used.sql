-- What an account used, which its caps count with, is what was taken for messages less what was
-- given back; and less what is from before it was counted (0006_seals.sql).
SELECT a.name AS account,
       format('used %s, but its rows of use and refund sum to %s', credits(a.used_micro),
              credits(coalesce(l.used_micro, 0) - coalesce(b.used_micro, 0))) AS detail
FROM account a
LEFT JOIN (SELECT account_id, -sum(amount_micro) AS used_micro FROM ledger
           WHERE operation IN ('use', 'refund') GROUP BY 1) l ON l.account_id = a.id
LEFT JOIN used_before b ON b.account_id = a.id
WHERE a.used_micro <> coalesce(l.used_micro, 0) - coalesce(b.used_micro, 0)
LIMIT $1
