-- One top-up or removal of an account that the transaction has locked (for a removal: after
-- remove_from_grants).
--   $1 account  $2 ledger id  $3 micro-credits, signed  $4 actor  $5 note
WITH changed AS (
    UPDATE account SET balance_micro = balance_micro + $3, dry = false WHERE id = $1
    RETURNING balance_micro
)
INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro, actor, note)
SELECT $2, $1, 'add', 'paid_in', $3, changed.balance_micro, $4, $5
FROM changed
