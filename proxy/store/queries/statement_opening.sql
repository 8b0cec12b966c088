-- What all rows before a period sum to.  Not the balance of the last of them: the order of ids is
-- not the order in which rows were written.
-- $1 account id  $2 first id
SELECT coalesce(sum(amount_micro), 0)::bigint FROM ledger WHERE account_id = $1 AND id < $2
