-- The first version of the whole schema.
--
-- Ids are 64 bit and time-ordered: microseconds since 2026-01-01 UTC shifted left by
-- 10 bits, plus the number of the node (proxy) that minted them.  So the id of a row is
-- its time as well, and is what the growing tables are partitioned by.  Every key leads
-- with the account.  Amounts are integer micro-credits (1 credit = 1,000,000).

CREATE FUNCTION id_from_time(t timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    ((extract(epoch FROM t) - 1767225600) * 1000000)::bigint << 10;

CREATE FUNCTION time_from_id(id bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    to_timestamp(1767225600 + (id >> 10) / 1000000.0);

CREATE FUNCTION credits(micro numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN trim_scale(micro / 1000000);

-- ---------------------------------------------------------------------------- accounts

CREATE TABLE account (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name                text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9_.@-]{1,64}$'),
    enabled             boolean NOT NULL DEFAULT true,
    balance_micro       bigint NOT NULL DEFAULT 0,
    credit_limit_micro  bigint NOT NULL DEFAULT 0 CHECK (credit_limit_micro >= 0),
    max_binds           integer NOT NULL DEFAULT 16 CHECK (max_binds >= 0),
    insufficient_status bigint CHECK (insufficient_status BETWEEN 1 AND 4294967295),
    created_at          timestamptz NOT NULL DEFAULT now(),
    -- Promise 2: whatever the code does, the database refuses an overdraft.
    CONSTRAINT no_overdraft CHECK (balance_micro >= -credit_limit_micro)
) WITH (fillfactor = 50);

CREATE TABLE login (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id    bigint NOT NULL REFERENCES account,
    system_id     text NOT NULL UNIQUE CHECK (octet_length(system_id) BETWEEN 1 AND 15),
    password_hash text NOT NULL
);
CREATE INDEX login_of_account ON login (account_id);

-- Which account gets the mobile-originated messages sent to an address.  A pattern is an
-- address, or a prefix when it ends in '*'; the longest one that matches wins.
CREATE TABLE inbound (
    pattern    text PRIMARY KEY CHECK (pattern ~ '^[^*]{0,64}\*?$' AND pattern <> ''),
    account_id bigint NOT NULL REFERENCES account
);
CREATE INDEX inbound_of_account ON inbound (account_id);

CREATE TABLE upstream (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
);

-- An account, login or inbound pattern that changes is told to every proxy at once.
CREATE FUNCTION tell_account_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('smpp_proxy_account', (CASE TG_TABLE_NAME
        WHEN 'account' THEN to_jsonb(coalesce(NEW, OLD)) ->> 'id'
        ELSE to_jsonb(coalesce(NEW, OLD)) ->> 'account_id' END));
    RETURN NULL;
END $$;
CREATE TRIGGER account_changed
    AFTER UPDATE OF enabled, credit_limit_micro, max_binds, insufficient_status ON account
    FOR EACH ROW EXECUTE FUNCTION tell_account_changed();
CREATE TRIGGER login_changed AFTER INSERT OR UPDATE OR DELETE ON login
    FOR EACH ROW EXECUTE FUNCTION tell_account_changed();
CREATE TRIGGER inbound_changed AFTER INSERT OR UPDATE OR DELETE ON inbound
    FOR EACH ROW EXECUTE FUNCTION tell_account_changed();

-- ------------------------------------------------------------------------------ ledger

CREATE TYPE operation AS ENUM ('add', 'use', 'refund', 'expire', 'grant', 'adjust');
CREATE TYPE counter_account AS ENUM ('paid_in', 'sold', 'expired', 'adjusted');

-- Double entry: a row moves amount_micro from the counter-account to the customer's
-- account (a negative amount the other way), so all accounts together always sum to zero.
CREATE TABLE ledger (
    id            bigint NOT NULL,
    account_id    bigint NOT NULL,
    operation     operation NOT NULL,
    counter       counter_account NOT NULL,
    amount_micro  bigint NOT NULL CHECK (amount_micro <> 0),
    balance_micro bigint NOT NULL,           -- the customer's, after this row
    message_id    bigint,
    actor         text,
    note          text,
    PRIMARY KEY (account_id, id)
) PARTITION BY RANGE (id);
-- A 'use' row has the id of its message, so only the rare rows need finding by message.
CREATE INDEX ledger_of_message ON ledger (account_id, message_id) WHERE operation <> 'use';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: correct a row with a new one', TG_TABLE_NAME;
END $$;
-- For each row: so it stands on every partition as well, new ones included.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A top-up that is retried with the same key adds once.
CREATE TABLE credit_key (
    account_id   bigint NOT NULL REFERENCES account,
    key          text NOT NULL,
    ledger_id    bigint NOT NULL,
    amount_micro bigint NOT NULL,
    PRIMARY KEY (account_id, key)
);

-- ---------------------------------------------------------------------------- messages

-- One row per submit_sm, data_sm or submit_multi that was charged: the hold.
CREATE TABLE message (
    id                  bigint NOT NULL,
    account_id          bigint NOT NULL,
    login_id            integer NOT NULL,
    command_id          smallint NOT NULL,   -- SMPP command: 0x04, 0x21, 0x103
    source_addr         text COLLATE "C" NOT NULL,
    destination_addr    text COLLATE "C" NOT NULL,   -- submit_multi: all, joined by ','
    segments            integer NOT NULL,    -- of all destinations together
    price_micro         bigint NOT NULL,     -- of all segments together
    esm_class           smallint NOT NULL,
    data_coding         smallint NOT NULL,
    registered_delivery smallint NOT NULL,
    PRIMARY KEY (account_id, id)
) PARTITION BY RANGE (id);

CREATE TYPE outcome_state AS ENUM ('charged', 'released');

-- How a hold ended.  The primary key is promise 3: at most once.  A hold without a row
-- here is held or, when it also has an unresolved row in in_doubt, in doubt.
CREATE TABLE outcome (
    message_id      bigint NOT NULL,
    account_id      bigint NOT NULL,
    state           outcome_state NOT NULL,
    command_status  bigint NOT NULL,
    upstream_id     integer,
    smsc_message_id text COLLATE "C" NOT NULL DEFAULT '',   -- as the response gave it
    receipt_key     text COLLATE "C",        -- as receipts give it, where that differs
    released_micro  bigint NOT NULL DEFAULT 0,
    reason          text,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, message_id)
) PARTITION BY RANGE (message_id);
CREATE INDEX outcome_by_receipt_key ON outcome (coalesce(receipt_key, smsc_message_id), upstream_id);

CREATE TABLE in_doubt (
    message_id  bigint NOT NULL,
    account_id  bigint NOT NULL,
    upstream_id integer,
    reason      text NOT NULL,
    since       timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at timestamptz,
    resolution  text,
    PRIMARY KEY (account_id, message_id)
);
CREATE INDEX in_doubt_unresolved ON in_doubt (since) WHERE resolved_at IS NULL;

-- Every hold up to this id has an outcome or is in in_doubt.
CREATE TABLE sweep (swept_through bigint NOT NULL);
INSERT INTO sweep VALUES (id_from_time(now() - interval '1 day'));

-- -------------------------------------------------------------------- towards the client

CREATE TYPE delivery_kind AS ENUM ('receipt', 'mo');

-- The queue of receipts and mobile-originated messages that a client has not
-- acknowledged.  claimed_by is the node whose session has it in its window.
CREATE TABLE delivery (
    id              bigint NOT NULL,
    account_id      bigint NOT NULL,
    kind            delivery_kind NOT NULL,
    message_id      bigint,                  -- the message that a receipt is for
    message_state   smallint,                -- SMPP 3.4 section 5.2.28
    error           text,                    -- the receipt's err: field
    command_id      smallint NOT NULL,       -- deliver_sm 0x05 or data_sm 0x103
    body            bytea NOT NULL,          -- as it came from upstream
    attempts        smallint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT '-infinity',
    claimed_by      smallint,
    PRIMARY KEY (account_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

CREATE TYPE delivered_state AS ENUM ('delivered', 'expired', 'refused');

-- What became of them.
CREATE TABLE delivered (
    id             bigint NOT NULL,
    account_id     bigint NOT NULL,
    kind           delivery_kind NOT NULL,
    message_id     bigint,
    message_state  smallint,
    error          text,
    state          delivered_state NOT NULL,
    command_status bigint NOT NULL,          -- of the client's answer
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, id)
) PARTITION BY RANGE (id);
CREATE INDEX delivered_of_message ON delivered (account_id, message_id);

-- ------------------------------------------------------------------------------ events

CREATE TYPE severity AS ENUM ('debug', 'info', 'warning', 'error');

-- One row per account, kind, text and minute, with a count.
CREATE TABLE event (
    minute     timestamptz NOT NULL,
    account_id bigint NOT NULL DEFAULT 0,    -- 0: not about one account
    kind       text NOT NULL,
    text       text NOT NULL,
    severity   severity NOT NULL,
    count      bigint NOT NULL DEFAULT 1,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),   -- the first
    last_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    message_id bigint,                                           -- the first, where there is one
    PRIMARY KEY (minute, account_id, kind, text)
) PARTITION BY RANGE (minute);
CREATE INDEX event_by_last_at ON event (last_at);

-- -------------------------------------------------------------------------- partitions

-- Makes the daily partitions of yesterday up to two days ahead.  Called at every start
-- and by the sweep; what is there already is left alone.
CREATE FUNCTION ensure_partitions() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first_day timestamptz; day_name text; parent text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('smpp_proxy_partitions'));
    FOR ahead IN -1..2 LOOP
        first_day := date_trunc('day', now(), 'UTC') + ahead * interval '1 day';
        day_name := to_char(first_day AT TIME ZONE 'UTC', 'YYYYMMDD');
        FOREACH parent IN ARRAY ARRAY['ledger', 'message', 'outcome', 'delivered', 'event'] LOOP
            CONTINUE WHEN to_regclass(parent || '_' || day_name) IS NOT NULL;
            IF parent = 'event' THEN
                EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                    parent || '_' || day_name, parent, first_day, first_day + interval '1 day');
            ELSE
                EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)',
                    parent || '_' || day_name, parent,
                    id_from_time(first_day), id_from_time(first_day + interval '1 day'));
            END IF;
            IF parent = 'ledger' THEN
                EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT'
                    ' EXECUTE FUNCTION refuse_change()', parent || '_' || day_name);
            END IF;
        END LOOP;
    END LOOP;
END $$;
SELECT ensure_partitions();

-- ---------------------------------------------------------------------------- the views

CREATE VIEW v_account AS
SELECT a.id, a.name,
       credits(a.balance_micro) AS balance,
       credits(a.credit_limit_micro) AS credit_limit,
       credits(coalesce(flying.held_micro, 0) + coalesce(doubtful.held_micro, 0)) AS held,
       a.enabled, a.max_binds, a.insufficient_status, a.created_at,
       array(SELECT l.system_id FROM login l WHERE l.account_id = a.id ORDER BY l.id) AS system_ids,
       array(SELECT i.pattern FROM inbound i WHERE i.account_id = a.id ORDER BY 1) AS inbound
FROM account a
CROSS JOIN sweep s
LEFT JOIN LATERAL (      -- younger than the last sweep: held unless it has an outcome
    SELECT sum(m.price_micro) AS held_micro FROM message m
    WHERE m.account_id = a.id AND m.id > s.swept_through
      AND NOT EXISTS (SELECT 1 FROM outcome o
                      WHERE o.account_id = a.id AND o.message_id = m.id
                        AND o.message_id > s.swept_through)
) flying ON true
LEFT JOIN LATERAL (      -- older: held only when it is in doubt
    SELECT sum(m.price_micro) AS held_micro
    FROM in_doubt d JOIN message m ON m.account_id = d.account_id AND m.id = d.message_id
    WHERE d.account_id = a.id AND d.resolved_at IS NULL AND d.message_id <= s.swept_through
) doubtful ON true;

CREATE VIEW v_credit_log AS
SELECT a.name AS account, time_from_id(l.id) AS at,
       coalesce(l.actor, CASE l.operation WHEN 'use' THEN lo.system_id ELSE 'smpp-proxy' END) AS actor,
       l.operation::text AS operation,
       credits(l.amount_micro) AS change,
       credits(l.balance_micro) AS balance,
       l.message_id, l.note, l.id
FROM ledger l
JOIN account a ON a.id = l.account_id
LEFT JOIN message m ON m.account_id = l.account_id AND m.id = l.message_id AND l.operation = 'use'
LEFT JOIN login lo ON lo.id = m.login_id;

CREATE FUNCTION message_state_name(state smallint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE state WHEN 1 THEN 'ENROUTE' WHEN 2 THEN 'DELIVRD' WHEN 3 THEN 'EXPIRED'
               WHEN 4 THEN 'DELETED' WHEN 5 THEN 'UNDELIV' WHEN 6 THEN 'ACCEPTD'
               WHEN 7 THEN 'UNKNOWN' WHEN 8 THEN 'REJECTD' END;

CREATE VIEW v_message AS
SELECT m.id, a.name AS account, lo.system_id, time_from_id(m.id) AS submitted_at,
       m.source_addr, m.destination_addr, m.segments,
       credits(m.price_micro) AS price,
       coalesce(o.state::text, CASE WHEN d.message_id IS NOT NULL THEN 'in_doubt' ELSE 'held' END) AS state,
       u.name AS upstream,
       nullif(o.smsc_message_id, '') AS smsc_message_id,
       o.command_status, o.at AS answered_at,
       message_state_name(r.message_state) AS receipt_state,
       r.error AS receipt_error, r.at AS receipt_at,
       r.delivered_at AS receipt_delivered_at,
       m.command_id, m.esm_class, m.data_coding, m.registered_delivery,
       credits(coalesce(o.released_micro, 0)) AS released, coalesce(o.reason, d.reason) AS reason
FROM message m
JOIN account a ON a.id = m.account_id
LEFT JOIN login lo ON lo.id = m.login_id
LEFT JOIN outcome o ON o.account_id = m.account_id AND o.message_id = m.id
LEFT JOIN in_doubt d ON d.account_id = m.account_id AND d.message_id = m.id AND d.resolved_at IS NULL
LEFT JOIN upstream u ON u.id = coalesce(o.upstream_id, d.upstream_id)
LEFT JOIN LATERAL (
    SELECT w.message_state, w.error, time_from_id(w.id) AS at, NULL::timestamptz AS delivered_at, w.id
    FROM delivery w WHERE w.account_id = m.account_id AND w.message_id = m.id
    UNION ALL
    SELECT w.message_state, w.error, time_from_id(w.id), CASE w.state WHEN 'delivered' THEN w.at END, w.id
    FROM delivered w WHERE w.account_id = m.account_id AND w.message_id = m.id
    ORDER BY 5 DESC LIMIT 1
) r ON true;

CREATE VIEW v_event AS
SELECT e.at, e.severity::text AS severity, a.name AS account, e.kind, e.text,
       e.count, e.last_at, e.message_id
FROM event e LEFT JOIN account a ON a.id = e.account_id;
