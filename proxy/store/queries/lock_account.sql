-- $1: the account's name.  NO KEY, so that rows that refer to the account do not wait.
SELECT id, balance_micro, credit_limit_micro, reserved_micro, granted_micro, timezone
FROM account WHERE name = $1
FOR NO KEY UPDATE
