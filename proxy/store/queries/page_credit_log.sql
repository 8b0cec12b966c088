-- $1 smaller than this id  $2 from this one on  $3 limit  $4 account
SELECT id, at, actor AS by, operation, change, balance, message_id, note
FROM v_credit_log
WHERE account = $4 AND id < $1 AND id >= $2
ORDER BY id DESC
LIMIT $3
