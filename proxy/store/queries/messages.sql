-- $1 oldest  $2 limit  $3 account  $4 destination  $5 state; NULL filters nothing.
SELECT *
FROM v_message
WHERE id >= id_from_time($1)
  AND ($3::text IS NULL OR account = $3)
  AND ($4::text IS NULL OR destination_addr = $4
       OR $4 = ANY (string_to_array(destination_addr, ',')))
  AND ($5::text IS NULL OR state = $5)
ORDER BY id DESC
LIMIT $2
