-- $1 account  $2 max_binds  $3 credit limit in micro-credits  $4 command_status, 0: none of its own
-- A NULL leaves the value as it is.  A limit below the debt fails on the CHECK no_overdraft.
UPDATE account
SET max_binds = coalesce($2, max_binds),
    credit_limit_micro = coalesce($3, credit_limit_micro),
    insufficient_status = CASE WHEN $4::bigint IS NULL THEN insufficient_status
                               ELSE nullif($4::bigint, 0) END
WHERE id = $1
