-- Fires the thresholds that are crossed and armed: marks them, writes the events, and queues
-- the webhooks, all in this statement.  A threshold that another proxy is firing is left to it.
--   $1 now, or NULL for the database's clock   $2 whether webhooks are sent
--   $3 whether to look at hours to empty too, which costs more and changes slowly
-- An account is also empty when what is left does not pay for anything it could buy; that is
-- looked at only for accounts that were refused for lack of credits since credit came in (dry).
WITH lowest AS MATERIALIZED (
    SELECT p.tariff_id, min(p.price_micro) AS price_micro
    FROM price p
    WHERE p.tariff_id IN (SELECT a.tariff_id FROM account a WHERE a.dry AND a.enabled)
      AND p.retired_at IS NULL
      AND (p.valid_from IS NULL OR p.valid_from <= coalesce($1::timestamptz, now()))
      AND (p.valid_to IS NULL OR p.valid_to > coalesce($1::timestamptz, now()))
    GROUP BY 1
), spendable AS NOT MATERIALIZED (
    SELECT a.id, a.tariff_id, a.dry,
           a.balance_micro + a.credit_limit_micro - a.reserved_micro AS left_micro
    FROM account a WHERE a.enabled
), low AS (
    SELECT s.id AS account_id, '0' AS threshold
    FROM spendable s LEFT JOIN lowest ON lowest.tariff_id = s.tariff_id
    WHERE s.left_micro <= 0 OR (s.dry AND s.left_micro < lowest.price_micro)
    UNION ALL
    SELECT t.account_id, t.threshold
    FROM low_balance_threshold t JOIN spendable s ON s.id = t.account_id
    WHERE t.fired_at IS NULL AND t.left_micro > 0 AND s.left_micro <= t.left_micro
    UNION ALL
    SELECT t.account_id, t.threshold
    FROM low_balance_threshold t JOIN spendable s ON s.id = t.account_id
    WHERE $3::boolean AND t.fired_at IS NULL AND t.hours IS NOT NULL
      AND t.hours >= (SELECT p.hours_to_empty FROM pace(coalesce($1::timestamptz, now())) p
                      WHERE p.account_id = t.account_id)
), crossed AS (      -- by the key of each, whatever the planner believes of how many are armed
    SELECT t.account_id, t.threshold
    FROM low CROSS JOIN LATERAL (
        SELECT t.account_id, t.threshold FROM low_balance_threshold t
        WHERE t.account_id = low.account_id AND t.threshold = low.threshold AND t.fired_at IS NULL
        FOR UPDATE SKIP LOCKED
    ) t
), fired AS (
    UPDATE low_balance_threshold t
    SET fired_at = coalesce($1::timestamptz, now()), recovered_at = NULL,
        fired_left_micro = a.balance_micro + a.credit_limit_micro - a.reserved_micro,
        funds_micro = a.balance_micro + a.credit_limit_micro + a.used_micro,
        used_micro = a.used_micro
    FROM crossed c JOIN account a ON a.id = c.account_id
    WHERE t.account_id = c.account_id AND t.threshold = c.threshold
    RETURNING t.account_id, t.threshold, t.hours, t.fired_left_micro, a.name, a.balance_micro
), told AS MATERIALIZED (
    SELECT f.account_id, f.name AS account,
           CASE WHEN f.threshold = '0' THEN 'zero' WHEN f.hours IS NULL THEN 'absolute'
                ELSE 'hours' END AS threshold_kind,
           CASE f.threshold WHEN '0' THEN 'no_credits' ELSE 'low_balance' END AS kind,
           CASE f.threshold WHEN '0' THEN 'error' ELSE 'warning' END AS severity,
           CASE WHEN f.threshold = '0' AND f.fired_left_micro <= 0 THEN 'No credits left'
                WHEN f.threshold = '0' THEN
                    format('No credits left for a message: %s is less than the lowest price', l.credits)
                WHEN f.hours IS NULL THEN
                    format('Low balance: %s %s left, the threshold is %s', l.credits,
                           CASE l.credits WHEN 1 THEN 'credit' ELSE 'credits' END, f.threshold)
                ELSE format('Low balance: %s left at the current pace, the threshold is %s',
                            CASE WHEN p.hours_to_empty < 1 THEN 'less than an hour'
                                 WHEN p.hours_to_empty < 1.5 THEN 'about 1 hour'
                                 ELSE format('about %s hours', round(p.hours_to_empty::numeric)) END,
                            CASE f.hours WHEN 1 THEN '1 hour' ELSE f.hours || ' hours' END)
           END AS text,
           f.threshold, l.credits AS credits_left, credits(f.balance_micro) AS balance,
           round(p.hours_to_empty::numeric, 2) AS hours_to_empty
    FROM fired f
    CROSS JOIN LATERAL (SELECT credits(greatest(f.fired_left_micro, 0)) AS credits) l
    JOIN pace(coalesce($1::timestamptz, now())) p ON p.account_id = f.account_id
), events AS (
    INSERT INTO event (minute, account_id, kind, text, severity, count)
    SELECT date_trunc('minute', clock_timestamp()), account_id, kind, text, severity::severity, count(*)
    FROM told GROUP BY account_id, kind, text, severity
    ORDER BY account_id, kind, text
    ON CONFLICT (minute, account_id, kind, text) DO UPDATE
    SET count = event.count + excluded.count, last_at = greatest(event.last_at, excluded.last_at)
), webhooks AS (
    INSERT INTO webhook (account_id, kind, body, created_at, next_attempt_at)
    SELECT account_id, kind,
           jsonb_build_object('event', kind, 'account', account, 'balance', balance,
                              'left', credits_left, 'threshold', threshold,
                              'hours_to_empty', hours_to_empty,
                              'at', to_char(coalesce($1::timestamptz, now()) AT TIME ZONE 'UTC',
                                            'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
           coalesce($1::timestamptz, now()), coalesce($1::timestamptz, now())
    FROM told WHERE $2::boolean
)
SELECT account, threshold_kind, kind, severity, text FROM told ORDER BY account_id, threshold
