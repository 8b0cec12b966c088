-- An account and the period of its statement: whose, from when, to when, and between which ids.
-- $1 account  from: $2 a moment, $3 a time in the account's zone, $4 a day there; all NULL: the first
-- of the month in which the period ends  to: $5 $6 $7 the same; that day is the last of the period;
-- all NULL: now
SELECT a.id AS account_id, a.name AS account, a.timezone, s.start_at > e.end_at AS backwards,
       c.start_at AS start, c.end_at AS "end",
       c.start_at AT TIME ZONE a.timezone AS local_start, c.end_at AT TIME ZONE a.timezone AS local_end,
       id_from_time(c.start_at) AS first_id, id_from_time(c.end_at) AS end_id
FROM account a
CROSS JOIN LATERAL (
    SELECT coalesce($5::timestamptz, $6::timestamp AT TIME ZONE a.timezone,
                    day_start($7::date + 1, a.timezone), now()) AS end_at
) e
CROSS JOIN LATERAL (
    SELECT coalesce($2::timestamptz, $3::timestamp AT TIME ZONE a.timezone,
                    day_start($4::date, a.timezone),
                    day_start(date_trunc('month', (e.end_at - interval '1 microsecond')
                                                  AT TIME ZONE a.timezone)::date, a.timezone)) AS start_at
) s
CROSS JOIN LATERAL (      -- moments that have ids
    SELECT least(greatest(s.start_at, '2026-01-01Z'), '2200-01-01Z') AS start_at,
           least(greatest(e.end_at, '2026-01-01Z'), '2200-01-01Z') AS end_at
) c
WHERE a.name = $1
