-- $1 accounts  $2 their deliveries  $3 the node that has claimed them
UPDATE delivery d SET claimed_by = NULL
FROM unnest($1::bigint[], $2::bigint[]) AS e(account_id, id)
WHERE d.account_id = e.account_id AND d.id = e.id AND d.claimed_by = $3
