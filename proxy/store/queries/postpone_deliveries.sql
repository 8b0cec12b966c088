UPDATE delivery d
SET attempts = d.attempts + 1, claimed_by = NULL,
    next_attempt_at = now()
        + least($4::float8, $3::float8 * 2 ^ least(d.attempts, 20)) * interval '1 second'
FROM unnest($1::bigint[], $2::bigint[]) AS e(account_id, id)
WHERE d.account_id = e.account_id AND d.id = e.id
