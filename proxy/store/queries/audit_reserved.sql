-- What an account has reserved is what its concatenated messages have reserved.
SELECT coalesce(a.name, 'account ' || l.account_id) AS account,
       format('%s credits are reserved, for concatenated messages %s',
              credits(coalesce(a.reserved_micro, 0)), credits(coalesce(l.reserved_micro, 0))) AS detail
FROM account a
FULL JOIN (SELECT account_id, sum(reserved_micro) AS reserved_micro FROM long_message GROUP BY 1) l
  ON l.account_id = a.id
WHERE coalesce(a.reserved_micro, 0) <> coalesce(l.reserved_micro, 0)
LIMIT $1
