-- $1 smaller than this id  $2 from this one on  $3 limit  $4 account  $5 destination  $6 state;
-- NULL filters nothing.
SELECT *
FROM v_message
WHERE id < $1 AND id >= $2
  AND ($4::text IS NULL OR account = $4)
  AND ($5::text IS NULL OR destination_addr = $5
       OR $5 = ANY (string_to_array(destination_addr, ',')))
  AND ($6::text IS NULL OR state = $6)
ORDER BY id DESC
LIMIT $3
