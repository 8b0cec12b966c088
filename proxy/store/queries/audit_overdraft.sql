-- No account is below minus its credit limit.
SELECT name AS account,
       format('balance %s is below the floor of %s', credits(balance_micro),
              credits(-credit_limit_micro)) AS detail
FROM account
WHERE balance_micro < -credit_limit_micro
LIMIT $1
