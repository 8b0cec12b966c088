-- Credits as a product: prices, limits, grants that expire, plans; and when a message is charged.

-- ------------------------------------------------------------------------------ prices

-- A list of prices that any number of accounts share; as the costs of an upstream, what the
-- carrier takes.
CREATE TABLE tariff (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9_.@-]{1,64}$'),
    version    bigint NOT NULL DEFAULT 1,       -- counts its changes
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- The longest prefix that matches counts; of equal ones that with the service, then the one
-- that is valid from the latest time.  A row is never changed, only retired: messages name it.
CREATE TABLE price (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tariff_id   integer NOT NULL REFERENCES tariff,
    prefix      text COLLATE "C" NOT NULL CHECK (prefix ~ '^[0-9A-Za-z]{0,20}$'),
    service     text COLLATE "C" NOT NULL DEFAULT '' CHECK (service ~ '^[a-z0-9_-]{0,16}$'),
    price_micro bigint CHECK (price_micro BETWEEN 1 AND 1000000000000),   -- NULL: not sold here
    valid_from  timestamptz,
    valid_to    timestamptz,
    retired_at  timestamptz,
    CHECK (valid_from < valid_to)
);
CREATE INDEX price_of_tariff ON price (tariff_id) WHERE retired_at IS NULL;

INSERT INTO tariff (name) VALUES ('standard');
INSERT INTO price (tariff_id, prefix, price_micro) SELECT id, '', 1000000 FROM tariff;

CREATE FUNCTION tell_tariff_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('smpp_proxy_tariff', coalesce(NEW.id, OLD.id)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER tariff_changed AFTER UPDATE OR DELETE ON tariff
    FOR EACH ROW EXECUTE FUNCTION tell_tariff_changed();

ALTER TABLE upstream
    ADD COLUMN cost_tariff_id integer REFERENCES tariff,
    ADD COLUMN paused boolean NOT NULL DEFAULT false;
CREATE FUNCTION tell_upstream_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('smpp_proxy_upstream', NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER upstream_changed AFTER UPDATE OF cost_tariff_id, paused ON upstream
    FOR EACH ROW EXECUTE FUNCTION tell_upstream_changed();

-- ------------------------------------------------------------------- rules of an account

CREATE TYPE charge_on AS ENUM ('submit', 'accept', 'delivery');

ALTER TABLE account
    ADD COLUMN tariff_id          integer NOT NULL DEFAULT 1 REFERENCES tariff,
    ADD COLUMN charge_on          charge_on NOT NULL DEFAULT 'accept',
    -- Charged on delivery: the receipts that give the credit back, and what becomes of a
    -- message whose receipt does not come.
    ADD COLUMN delivery_release   text[] NOT NULL DEFAULT '{EXPIRED,DELETED,UNDELIV,REJECTD}',
    ADD COLUMN delivery_max_age_s integer NOT NULL DEFAULT 259200 CHECK (delivery_max_age_s > 0),
    ADD COLUMN delivery_overdue   text NOT NULL DEFAULT 'charge'
                                  CHECK (delivery_overdue IN ('charge', 'release')),
    ADD COLUMN daily_cap_micro    bigint CHECK (daily_cap_micro > 0),
    ADD COLUMN monthly_cap_micro  bigint CHECK (monthly_cap_micro > 0),
    ADD COLUMN daily_messages     integer CHECK (daily_messages > 0),
    ADD COLUMN rate               double precision CHECK (rate > 0),     -- messages a second
    ADD COLUMN allowed_senders    text[],        -- addresses, or prefixes that end in '*'
    ADD COLUMN allowed_prefixes   text[],        -- of destinations
    ADD COLUMN valid_until        timestamptz,
    ADD COLUMN low_balance        text[] NOT NULL DEFAULT '{}',  -- '100' credits, '24h' to empty
    ADD COLUMN retry_safe_s       integer NOT NULL DEFAULT 0 CHECK (retry_safe_s BETWEEN 0 AND 86400),
    ADD COLUMN all_parts          boolean NOT NULL DEFAULT false,
    ADD COLUMN timezone           text NOT NULL DEFAULT 'UTC',
    -- What the hot path keeps.
    ADD COLUMN granted_micro      bigint NOT NULL DEFAULT 0,  -- of the balance: what expires one day
    ADD COLUMN grant_base_micro   bigint NOT NULL DEFAULT 0,  -- less granted_micro: what messages
                                                              -- took of grants, ever
    ADD COLUMN next_expiry_at     timestamptz NOT NULL DEFAULT 'infinity',
    ADD COLUMN reserved_micro     bigint NOT NULL DEFAULT 0 CHECK (reserved_micro >= 0),
    ADD COLUMN used_micro         bigint NOT NULL DEFAULT 0,  -- ever, less what was given back
    ADD COLUMN day_base_micro     bigint NOT NULL DEFAULT 0,  -- used_micro when the day began
    ADD COLUMN month_base_micro   bigint NOT NULL DEFAULT 0,
    ADD COLUMN day_messages       integer NOT NULL DEFAULT 0,
    ADD COLUMN day_ends_at        timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN month_ends_at      timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN rate_next_at       timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN dry                boolean NOT NULL DEFAULT false,  -- refused somewhere from memory
    -- What expires is part of the balance: an expiry never makes a debt.
    ADD CONSTRAINT granted_is_there CHECK (granted_micro BETWEEN 0 AND greatest(balance_micro, 0));

DROP TRIGGER account_changed ON account;
CREATE TRIGGER account_changed
    AFTER UPDATE OF enabled, credit_limit_micro, max_binds, insufficient_status, tariff_id, charge_on,
        delivery_release, delivery_max_age_s, delivery_overdue, daily_cap_micro, monthly_cap_micro,
        daily_messages, rate, allowed_senders, allowed_prefixes, valid_until, low_balance,
        retry_safe_s, all_parts, timezone ON account
    FOR EACH ROW EXECUTE FUNCTION tell_account_changed();

ALTER TABLE message
    ADD COLUMN price_id      integer,                    -- of the (first) destination
    ADD COLUMN granted_micro bigint NOT NULL DEFAULT 0,  -- of the price: taken from what expires
    ADD COLUMN grant_start_micro bigint;     -- and what messages had taken before, see grant_use

ALTER TABLE outcome
    ADD COLUMN cost_micro     bigint,                    -- what the carrier takes, where known
    -- An account that is charged on delivery: charged so far, and a receipt may release it.
    ADD COLUMN awaits_receipt boolean NOT NULL DEFAULT false,
    -- The receipt is (also) for us: what the client asked for (registered_delivery & 3).
    ADD COLUMN asked          smallint;
CREATE INDEX outcome_awaiting ON outcome (account_id) WHERE awaits_receipt;
CREATE INDEX outcome_overdue ON outcome (message_id) WHERE awaits_receipt;

ALTER TYPE delivered_state ADD VALUE 'unasked';

-- Messages that a receipt, or the lack of one, releases: their credit goes back in a moment.
CREATE TABLE release_due (
    account_id bigint NOT NULL,
    message_id bigint NOT NULL,
    reason     text NOT NULL,
    PRIMARY KEY (account_id, message_id)
);

-- A submit that its client may repeat, until it is known to have had the answer.
CREATE TABLE retry_key (
    account_id bigint NOT NULL,
    hash       bigint NOT NULL,
    message_id bigint NOT NULL,
    PRIMARY KEY (account_id, hash)
);

-- Concatenated messages of accounts that send all parts or none.
CREATE TABLE long_message (
    account_id     bigint NOT NULL,
    key            text COLLATE "C" NOT NULL,
    upstream_id    integer NOT NULL,
    seen           integer[] NOT NULL,            -- the parts that came
    refused        boolean NOT NULL,
    reserved_micro bigint NOT NULL CHECK (reserved_micro >= 0),
    expires_at     timestamptz NOT NULL,
    PRIMARY KEY (account_id, key)
);

-- ---------------------------------------------------------------- grants that expire, plans

-- Spending takes the grant that expires first.  The hot path only counts account.granted_micro
-- down; spread_grants() works out from it what is left of each grant, whenever that matters.
CREATE TABLE credit_grant (
    id           bigint NOT NULL,                 -- of its ledger row
    account_id   bigint NOT NULL REFERENCES account,
    amount_micro bigint NOT NULL CHECK (amount_micro > 0),
    left_micro   bigint NOT NULL CHECK (left_micro BETWEEN 0 AND amount_micro),
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE INDEX credit_grant_live ON credit_grant (account_id, expires_at) WHERE left_micro > 0;
-- No charge changes next_expiry_at, so this index costs the hot path nothing.
CREATE INDEX account_expiring ON account (next_expiry_at) WHERE next_expiry_at < 'infinity';

-- Which grant paid what.  Laid end to end, the credits that an account's messages took of grants
-- are a line; a message has message.granted_micro of it from grant_start_micro on, and a row here
-- says of which grant a piece of the line was.
CREATE TABLE grant_use (
    account_id bigint NOT NULL REFERENCES account,
    from_micro bigint NOT NULL,
    to_micro   bigint NOT NULL,
    grant_id   bigint NOT NULL,
    PRIMARY KEY (account_id, to_micro),
    CHECK (from_micro < to_micro)
);

CREATE TYPE plan_period AS ENUM ('day', 'week', 'month');

CREATE TABLE plan (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9_.@-]{1,64}$'),
    amount_micro bigint NOT NULL CHECK (amount_micro > 0),
    every        plan_period NOT NULL,
    roll_over    boolean NOT NULL DEFAULT false,  -- false: expires when its period ends
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE account_plan (
    account_id bigint NOT NULL REFERENCES account,
    plan_id    integer NOT NULL REFERENCES plan,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz,
    next_at    timestamptz NOT NULL DEFAULT '-infinity',   -- when there may be a period to grant
    PRIMARY KEY (account_id, plan_id)
);
CREATE INDEX account_plan_active ON account_plan (next_at) WHERE ended_at IS NULL;
CREATE INDEX account_plan_of_plan ON account_plan (plan_id);

-- Once per period, whoever grants it.  The period is named by its first day, in the account's
-- time zone.
CREATE TABLE plan_grant (
    account_id bigint NOT NULL REFERENCES account,
    plan_id    integer NOT NULL REFERENCES plan,
    period     date NOT NULL,
    ledger_id  bigint NOT NULL,
    PRIMARY KEY (account_id, plan_id, period)
);

-- In another time zone the periods begin at another moment.  A zone that PostgreSQL does not
-- know is an error here (invalid_parameter_value), and not in every charge.
CREATE FUNCTION account_zone_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM now() AT TIME ZONE NEW.timezone;
    UPDATE account_plan SET next_at = '-infinity' WHERE account_id = NEW.id AND ended_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER account_zone_changed AFTER UPDATE OF timezone ON account
    FOR EACH ROW WHEN (OLD.timezone <> NEW.timezone) EXECUTE FUNCTION account_zone_changed();

-- An id for a row that the database writes of itself.  Node 0, as commands; the account's lock
-- keeps two of them from the same microsecond.
CREATE FUNCTION mint_id() RETURNS bigint LANGUAGE sql VOLATILE AS
    'SELECT id_from_time(clock_timestamp())';

-- The grants of an account that may have something left, and how much: their left_micro without
-- what was spent since spread_grants() was there last.
CREATE FUNCTION live_grants(p_account bigint)
RETURNS TABLE (id bigint, amount_micro bigint, left_micro bigint, expires_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT l.id, l.amount_micro,
           least(l.left_micro, greatest(l.through_micro - l.spent_micro, 0))::bigint, l.expires_at
    FROM (
        SELECT g.id, g.amount_micro, g.left_micro, g.expires_at,
               sum(g.left_micro) OVER (ORDER BY g.expires_at, g.id) AS through_micro,
               sum(g.left_micro) OVER ()
                   - (SELECT a.granted_micro FROM account a WHERE a.id = p_account) AS spent_micro
        FROM credit_grant g WHERE g.account_id = p_account AND g.left_micro > 0
    ) l
$$;

-- Brings credit_grant up to date with account.granted_micro.  The account must be locked.
--   p_used   by messages: it is noted in grant_use
CREATE FUNCTION spread_grants(p_account bigint, p_used boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT g.id, g.left_micro - l.left_micro AS micro,
               (a.grant_base_micro - a.granted_micro - sum(g.left_micro - l.left_micro) OVER ()
                + sum(g.left_micro - l.left_micro) OVER (ORDER BY g.expires_at, g.id))::bigint AS to_micro
        FROM live_grants(p_account) l
        JOIN credit_grant g ON g.account_id = p_account AND g.id = l.id
        JOIN account a ON a.id = p_account
        WHERE g.left_micro > l.left_micro
        ORDER BY g.expires_at, g.id
    LOOP
        UPDATE credit_grant SET left_micro = left_micro - one.micro
        WHERE account_id = p_account AND id = one.id;
        CONTINUE WHEN NOT p_used;
        UPDATE grant_use SET to_micro = one.to_micro
        WHERE account_id = p_account AND to_micro = one.to_micro - one.micro AND grant_id = one.id;
        IF NOT FOUND THEN
            INSERT INTO grant_use (account_id, from_micro, to_micro, grant_id)
            VALUES (p_account, one.to_micro - one.micro, one.to_micro, one.id);
        END IF;
    END LOOP;
END $$;

-- Before an account loses p_micro that no message used: what does not expire goes first, then
-- the grant that expires first.  The account must be locked.
CREATE FUNCTION remove_from_grants(p_account bigint, p_micro bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM spread_grants(p_account);
    UPDATE account
    SET granted_micro = greatest(balance_micro - p_micro, 0),
        grant_base_micro = grant_base_micro - granted_micro + greatest(balance_micro - p_micro, 0)
    WHERE id = p_account AND granted_micro > greatest(balance_micro - p_micro, 0);
    PERFORM spread_grants(p_account, false);
END $$;

-- Credit in: a grant that expires (p_expires_at) or, with NULL, one that does not.  The account
-- must be locked.  What pays a debt can't expire.  Returns the balance afterwards.
CREATE FUNCTION grant_credit(
    p_account bigint, p_id bigint, p_micro bigint, p_expires_at timestamptz, p_actor text, p_note text
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    balance bigint;
    left_over bigint := 0;
BEGIN
    IF p_expires_at IS NOT NULL THEN
        PERFORM spread_grants(p_account);
        SELECT greatest(p_micro - greatest(-balance_micro, 0), 0) INTO left_over
        FROM account WHERE id = p_account;
        INSERT INTO credit_grant (id, account_id, amount_micro, left_micro, expires_at)
        VALUES (p_id, p_account, p_micro, left_over, p_expires_at);
    END IF;
    UPDATE account
    SET balance_micro = balance_micro + p_micro, dry = false,
        granted_micro = granted_micro + left_over, grant_base_micro = grant_base_micro + left_over,
        next_expiry_at = CASE WHEN left_over > 0 THEN least(next_expiry_at, p_expires_at)
                              ELSE next_expiry_at END
    WHERE id = p_account RETURNING balance_micro INTO balance;
    INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro, actor, note)
    VALUES (p_id, p_account, 'grant', 'paid_in', p_micro, balance, p_actor, p_note);
    PERFORM pg_notify('smpp_proxy_credit', p_account::text);
    RETURN balance;
END $$;

-- Takes what is left of the grants that are due at p_now out of the balance.  The account must
-- be locked.  Returns how much that was.
CREATE FUNCTION expire_grants(p_account bigint, p_now timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    due credit_grant%ROWTYPE;
    balance bigint;
    zone text;
    row_id bigint := mint_id();
    total bigint := 0;
BEGIN
    PERFORM spread_grants(p_account);
    SELECT balance_micro, timezone INTO balance, zone FROM account WHERE id = p_account;
    FOR due IN SELECT * FROM credit_grant
               WHERE account_id = p_account AND left_micro > 0 AND expires_at <= p_now
               ORDER BY expires_at, id LOOP
        balance := balance - due.left_micro;
        total := total + due.left_micro;
        INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro, note)
        VALUES (row_id, p_account, 'expire', 'expired', -due.left_micro, balance,
                format('what was left of %s credits of %s', credits(due.amount_micro),
                       to_char(time_from_id(due.id) AT TIME ZONE zone, 'YYYY-MM-DD')));
        row_id := row_id + 1024;
        UPDATE credit_grant SET left_micro = 0 WHERE account_id = p_account AND id = due.id;
    END LOOP;
    UPDATE account
    SET balance_micro = balance, granted_micro = granted_micro - total,
        grant_base_micro = grant_base_micro - total,
        next_expiry_at = coalesce((SELECT min(expires_at) FROM credit_grant
                                   WHERE account_id = p_account AND left_micro > 0), 'infinity')
    WHERE id = p_account;
    IF total > 0 THEN
        INSERT INTO event (minute, account_id, kind, text, severity)
        VALUES (date_trunc('minute', clock_timestamp()), p_account, 'credit_expired',
                format('Credits expired: %s', credits(total)), 'info')
        ON CONFLICT (minute, account_id, kind, text)
        DO UPDATE SET count = event.count + 1, last_at = clock_timestamp();
    END IF;
    RETURN total;
END $$;

-- Credit that comes back to the grants it was taken from: p_micro[i] of the message p_message[i],
-- of what it took last first.  The account must be locked, and its balance must have the credit
-- already.  What pays a debt stays there.  A grant that has expired meanwhile gets its part back
-- as well, and loses it with the next expire_grants().
CREATE FUNCTION return_to_grants(p_account bigint, p_message bigint[], p_micro bigint[])
RETURNS void LANGUAGE sql AS $$
    SELECT spread_grants(p_account);
    WITH returned AS (
        SELECT g.grant_id, least(g.to_micro, l.to_micro) - greatest(g.from_micro, l.from_micro) AS micro,
               l.to_micro, g.from_micro
        FROM unnest(p_message, p_micro) AS u(message_id, micro)
        JOIN message m ON m.account_id = p_account AND m.id = u.message_id
        CROSS JOIN LATERAL (SELECT m.grant_start_micro + m.granted_micro AS to_micro,
                                   m.grant_start_micro + m.granted_micro - u.micro AS from_micro) l
        JOIN grant_use g ON g.account_id = p_account AND g.to_micro > l.from_micro
                        AND g.from_micro < l.to_micro
    ), room AS (
        SELECT greatest(balance_micro, 0) - granted_micro AS micro FROM account WHERE id = p_account
    ), part AS (
        SELECT r.grant_id, least(r.micro, room.micro - sum(r.micro)
                   OVER (ORDER BY r.to_micro DESC, r.from_micro DESC) + r.micro)::bigint AS micro
        FROM returned r, room
    ), given AS (
        UPDATE credit_grant c SET left_micro = c.left_micro + p.micro
        FROM (SELECT grant_id, sum(micro)::bigint AS micro FROM part WHERE micro > 0 GROUP BY 1) p
        WHERE c.account_id = p_account AND c.id = p.grant_id
        RETURNING p.micro, c.expires_at
    )
    UPDATE account a
    SET granted_micro = a.granted_micro + t.micro, grant_base_micro = a.grant_base_micro + t.micro,
        next_expiry_at = least(a.next_expiry_at, t.expires_at)
    FROM (SELECT sum(micro)::bigint AS micro, min(expires_at) AS expires_at FROM given) t
    WHERE a.id = p_account AND t.micro > 0
$$;
