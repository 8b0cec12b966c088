-- One top-up or removal of an account that the transaction has locked.
--   $1 account  $2 ledger id  $3 micro-credits, signed  $4 actor  $5 note  $6 key or NULL
WITH changed AS (
    UPDATE account SET balance_micro = balance_micro + $3 WHERE id = $1
    RETURNING balance_micro
), keyed AS (
    INSERT INTO credit_key (account_id, key, ledger_id, amount_micro)
    SELECT $1, $6::text, $2, $3 WHERE $6::text IS NOT NULL
)
INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro, actor, note)
SELECT $2, $1, 'add', 'paid_in', $3, changed.balance_micro, $4, $5
FROM changed
