-- $1 … $23 as in settle.sql: how messages end; the rest takes them out of the queue.
SELECT settle_batch(
    $1::text::bigint[], $2::text::bigint[], $3::text::integer[], texts_from($4), texts_from($5),
    $6::text::smallint[], $7::text::bigint[],
    $8, $9, $10, $11, $12, $13, $14, $15, $16,
    $17, $18, $19, $20,
    $21, $22, $23) AS released,
    work_queue($24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39)
