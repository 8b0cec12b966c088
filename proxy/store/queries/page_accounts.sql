-- $1 behind this id  $2 limit  $3 name; NULL filters nothing.
SELECT * FROM v_account WHERE id > $1 AND ($3::text IS NULL OR name = $3) ORDER BY id LIMIT $2
