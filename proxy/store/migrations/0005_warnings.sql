-- Warnings before an account is empty: its thresholds, its pace, and the webhooks that tell.
-- Nothing here is on the hot path, and nothing refers to account by a foreign key or indexes
-- what a charge changes: both would make every charge dearer.

-- ------------------------------------------------------------------------------- pace

-- What was ever used (account.used_micro) at each full five minutes.  Only changes are noted:
-- between two rows, and since the newest, nothing was used but in the five minutes before a row.
-- Before the first row nothing was used at all.
CREATE TABLE usage_sample (
    account_id bigint NOT NULL,
    at         timestamptz NOT NULL,
    used_micro bigint NOT NULL,
    PRIMARY KEY (account_id, at)
);
CREATE INDEX usage_sample_by_at ON usage_sample (at);

-- The pace of each account at p_now: what it used since the last sample that is at least 60
-- minutes old (so of 60 to 65 minutes), per hour.  An account that is younger than that has
-- the pace since it was made, but as if that was at least five minutes ago: the first message
-- of a new account says little.
--   left_micro           what is left to spend
--   used_micro_per_hour  the pace
--   hours_to_empty       NULL: nothing was used
CREATE FUNCTION pace(p_now timestamptz) RETURNS TABLE (
    account_id bigint, account text, left_micro bigint, used_micro_per_hour double precision,
    hours_to_empty double precision
) LANGUAGE sql STABLE AS $$
    SELECT a.id, a.name, l.left_micro, p.per_hour,
           CASE WHEN p.per_hour > 0 THEN greatest(l.left_micro, 0) / p.per_hour END
    FROM account a
    CROSS JOIN LATERAL (
        SELECT a.balance_micro + a.credit_limit_micro - a.reserved_micro AS left_micro
    ) l
    LEFT JOIN LATERAL (
        SELECT s.used_micro, s.at FROM usage_sample s
        WHERE s.account_id = a.id AND s.at <= p_now - interval '60 minutes'
        ORDER BY s.at DESC LIMIT 1
    ) base ON true
    CROSS JOIN LATERAL (
        SELECT coalesce(base.at, a.created_at) AS since
    ) b
    CROSS JOIN LATERAL (
        SELECT greatest(a.used_micro - coalesce(base.used_micro, 0), 0) * 3600.0::double precision
               / extract(epoch FROM CASE WHEN b.since < p_now - interval '65 minutes'
                                         THEN interval '60 minutes'   -- it was idle until then
                                         ELSE greatest(p_now - b.since, interval '5 minutes') END
                        )::double precision AS per_hour
    ) p
$$;

CREATE VIEW v_pace AS
SELECT account_id, account, credits(round(used_micro_per_hour)::numeric) AS used_per_hour,
       round(hours_to_empty::numeric, 2) AS hours_to_empty
FROM pace(now());

-- -------------------------------------------------------------------------- thresholds

-- The thresholds of account.low_balance, read once when they are set, and '0', which every
-- account has: nothing is left to spend.  A threshold that has fired is silent until it is armed
-- again (queries/rearm_thresholds.sql).
--   left_micro        fires at or below so much left to spend
--   hours             fires at or below so many hours to empty
--   fired_at          NULL: armed; -infinity: silent because the account never had credit
--   fired_left_micro  what was left then
--   funds_micro       balance + credit limit + ever used, then: traffic does not change it, so
--                     more means that credit was added; follows it down
--   used_micro        ever used, then
--   recovered_at      since when the threshold is not crossed any more, without a top-up
CREATE TABLE low_balance_threshold (
    account_id       bigint NOT NULL,
    threshold        text COLLATE "C" NOT NULL,
    left_micro       bigint,
    hours            integer,
    fired_at         timestamptz,
    fired_left_micro bigint NOT NULL DEFAULT 0,
    funds_micro      bigint NOT NULL DEFAULT 0,
    used_micro       bigint NOT NULL DEFAULT 0,
    recovered_at     timestamptz,
    PRIMARY KEY (account_id, threshold),
    CHECK ((left_micro IS NULL) <> (hours IS NULL))
);

CREATE FUNCTION keep_thresholds() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong text;
BEGIN
    SELECT coalesce(t, 'NULL') INTO wrong FROM unnest(NEW.low_balance) AS t
    WHERE t IS NULL OR t !~ '^([1-9][0-9]{0,3}h|[0-9]{1,13}(\.[0-9]{1,6})?)$' OR t ~ '^[0.]*$';
    IF FOUND THEN
        RAISE EXCEPTION 'low_balance: % is neither credits such as 100 nor hours such as 24h', wrong
            USING ERRCODE = 'check_violation';
    END IF;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO low_balance_threshold (account_id, threshold, left_micro, fired_at)
        VALUES (NEW.id, '0', 0, '-infinity');
    END IF;
    DELETE FROM low_balance_threshold
    WHERE account_id = NEW.id AND threshold <> '0' AND threshold <> ALL (NEW.low_balance);
    INSERT INTO low_balance_threshold (account_id, threshold, left_micro, hours, fired_at)
    SELECT NEW.id, t, CASE WHEN t !~ 'h$' THEN t::numeric * 1000000 END,
           CASE WHEN t ~ 'h$' THEN rtrim(t, 'h')::integer END,
           (SELECT z.fired_at FROM low_balance_threshold z      -- never had credit
            WHERE z.account_id = NEW.id AND z.threshold = '0' AND z.fired_at = '-infinity')
    FROM unnest(NEW.low_balance) AS t
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER account_thresholds AFTER INSERT OR UPDATE OF low_balance ON account
    FOR EACH ROW EXECUTE FUNCTION keep_thresholds();

-- Accounts that are empty already are not news.
INSERT INTO low_balance_threshold (account_id, threshold, left_micro, fired_at, funds_micro, used_micro)
SELECT id, '0', 0,
       CASE WHEN balance_micro + credit_limit_micro - reserved_micro <= 0
            THEN '-infinity'::timestamptz END,
       balance_micro + credit_limit_micro + used_micro, used_micro
FROM account;

-- ---------------------------------------------------------------------------- webhooks

-- What somebody else's server has to be told.  The id is what it knows a repetition by.  A
-- row is claimed by moving next_attempt_at past the longest attempt, so one whose proxy died
-- comes due again by itself.
CREATE TABLE webhook (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id      bigint NOT NULL,
    kind            text NOT NULL,
    body            jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    delivered_at    timestamptz,
    given_up_at     timestamptz,
    last_error      text
);
CREATE INDEX webhook_due ON webhook (next_attempt_at)
    WHERE delivered_at IS NULL AND given_up_at IS NULL;
CREATE INDEX webhook_by_age ON webhook (created_at);
