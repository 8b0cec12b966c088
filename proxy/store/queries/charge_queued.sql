-- As charge.sql; and what goes into the queue, in the same transaction.
SELECT c.*, put_in_queue(
    $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, c.balance_after)
FROM charge_batch(
    $1::bigint[], $2::integer[],
    $3::text::bigint[], $4::text::bigint[], $5::text::integer[], $6::text::smallint[],
    texts_from($7), texts_from($8), $9::text::integer[], $10::text::bigint[], $11::text::integer[],
    $12::text::smallint[], $13::text::smallint[], $14::text::smallint[],
    $15::text::bigint[], texts_from($16), $17::text::integer[], $18::text::integer[],
    $19::text::integer[]) AS c
