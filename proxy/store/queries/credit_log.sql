-- $1 oldest  $2 limit  $3 account
SELECT at, actor AS by, operation, change, balance, message_id, note
FROM v_credit_log
WHERE account = $3 AND id >= id_from_time($1)
ORDER BY id DESC
LIMIT $2
