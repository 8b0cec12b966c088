-- The lists of the usual case are texts: see proxy/store/arrays.py
SELECT settle_batch(
    $1::text::bigint[], $2::text::bigint[], $3::text::integer[], texts_from($4), texts_from($5),
    $6::text::smallint[], $7::text::bigint[],
    $8, $9, $10, $11, $12, $13, $14, $15, $16,
    $17, $18, $19, $20,
    $21, $22, $23)
