-- Arms thresholds that have fired and are not crossed any more.  At once after credit was added
-- (funds_micro went up); without that, when credit came back of refused messages or the pace
-- fell, only once it has stayed so for an hour: else an account whose carrier refuses
-- everything, or which sends in bursts, would be warned of again and again.  Hours count as
-- recovered above 1.25 times the threshold.
--   $1 now, or NULL for the database's clock
--   $2 whether to look at hours to empty too, which costs more and changes slowly
-- "Nothing left" is armed also when credit came and is spent again already: more was used
-- since it fired, and more was there to use.  The first credit of an account arms everything.
WITH changed AS (
    SELECT t.account_id, t.threshold, r.funds_micro, r.recovered, r.armed
    FROM low_balance_threshold t
    JOIN account a ON a.id = t.account_id
    CROSS JOIN LATERAL (      -- OFFSET 0: the pace is worked out once
        SELECT t.fired_at,
               a.balance_micro + a.credit_limit_micro - a.reserved_micro AS left_micro,
               a.balance_micro + a.credit_limit_micro + a.used_micro AS funds_micro,
               CASE WHEN t.hours IS NOT NULL THEN
                   (SELECT p.hours_to_empty FROM pace(coalesce($1::timestamptz, now())) p
                    WHERE p.account_id = t.account_id) END AS hours_to_empty
        OFFSET 0
    ) f
    CROSS JOIN LATERAL (
        SELECT CASE WHEN t.hours IS NULL THEN f.left_micro > greatest(t.left_micro, t.fired_left_micro)
                    ELSE coalesce(f.hours_to_empty > 1.25 * t.hours, true) END AS recovered,
               CASE WHEN t.hours IS NULL THEN f.left_micro > t.left_micro
                    ELSE coalesce(f.hours_to_empty > t.hours, true) END AS above
    ) n
    CROSS JOIN LATERAL (
        SELECT f.funds_micro, n.recovered,
               (f.funds_micro > t.funds_micro
                AND (n.above OR t.fired_at = '-infinity'
                     OR (t.threshold = '0' AND a.used_micro > t.used_micro)))
               OR (n.recovered AND coalesce(
                    t.recovered_at <= coalesce($1::timestamptz, now()) - interval '1 hour', false))
                   AS armed
    ) r
    WHERE t.fired_at IS NOT NULL AND (t.hours IS NULL OR $2::boolean)
      AND t.fired_at = f.fired_at      -- not fired anew while this waited
      AND (r.armed OR r.funds_micro < t.funds_micro OR r.recovered <> (t.recovered_at IS NOT NULL))
    FOR UPDATE OF t SKIP LOCKED
)
UPDATE low_balance_threshold t
SET fired_at = CASE WHEN c.armed THEN NULL ELSE t.fired_at END,
    funds_micro = least(t.funds_micro, c.funds_micro),
    recovered_at = CASE WHEN c.recovered AND NOT c.armed
                        THEN coalesce(t.recovered_at, $1::timestamptz, now()) END
FROM changed c
WHERE t.account_id = c.account_id AND t.threshold = c.threshold
