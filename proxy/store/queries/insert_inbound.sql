-- $1 account  $2 its patterns; what belongs to another account stays there.
INSERT INTO inbound (pattern, account_id)
SELECT unnest($2::text[]), $1
ON CONFLICT (pattern) DO NOTHING
