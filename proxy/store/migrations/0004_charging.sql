-- The statements of the hot path, for prices, limits, grants and the several times of charging.

DROP FUNCTION charge_batch(bigint[], integer[], bigint[], bigint[], integer[], smallint[], text[],
    text[], integer[], bigint[], smallint[], smallint[], smallint[]);
DROP FUNCTION settle_batch(bigint[], bigint[], integer[], text[], text[], bigint[], bigint[], integer[],
    text[], text[], bigint[], bigint[], bigint[], text[], bigint[], bigint[], integer[], text[],
    bigint[], bigint[], text);

-- What one part of a concatenated message does to an account that sends all parts or none.
--   p_free_micro    what the account has left to spend, without what is reserved
--   p_messages_left how many messages it may send today; NULL: any number
-- Returns whether it is let in, how much it needed (NULL: it was not asked, because a part before
-- it was refused), how much of its price was reserved before, by how much what is reserved changes
-- otherwise, and the upstream that all parts take.
CREATE FUNCTION charge_part(
    p_account bigint, p_key text, p_part integer, p_parts integer, p_upstream_id integer,
    p_price bigint, p_free_micro bigint, p_messages_left integer,
    OUT admitted boolean, OUT needed_micro bigint, OUT drawn_micro bigint, OUT reserve_micro bigint,
    OUT upstream_id integer
) LANGUAGE plpgsql AS $$
DECLARE
    known long_message%ROWTYPE;
BEGIN
    drawn_micro := 0;
    reserve_micro := 0;
    upstream_id := p_upstream_id;
    SELECT * INTO known FROM long_message WHERE account_id = p_account AND key = p_key;
    IF FOUND AND known.expires_at > now() AND NOT known.refused
       AND NOT (p_part = 1 AND p_part = ANY (known.seen)) THEN
        -- A part of a message that was let in: its credit is reserved, unless it is repeated.
        upstream_id := known.upstream_id;
        IF p_part <> ALL (known.seen) THEN
            drawn_micro := least(p_price, known.reserved_micro);
        END IF;
        needed_micro := p_price - drawn_micro;
        admitted := needed_micro <= p_free_micro;
        IF NOT admitted THEN
            drawn_micro := 0;      -- it stays reserved
        ELSE
            UPDATE long_message
            SET reserved_micro = reserved_micro - drawn_micro,
                seen = CASE WHEN p_part = ANY (known.seen) THEN known.seen ELSE known.seen || p_part END,
                expires_at = now() + interval '10 minutes'
            WHERE account_id = p_account AND key = p_key;
        END IF;
        RETURN;
    END IF;
    IF FOUND AND known.expires_at > now() AND known.refused AND p_part <> ALL (known.seen) THEN
        -- A part before it was refused: so is the rest, though there may be credit by now.
        admitted := false;
        UPDATE long_message SET seen = seen || p_part WHERE account_id = p_account AND key = p_key;
        RETURN;
    END IF;
    -- The first part that comes, of a new message or of one that is tried again.
    IF FOUND THEN
        reserve_micro := -known.reserved_micro;
    END IF;
    needed_micro := p_price * p_parts + reserve_micro;
    admitted := needed_micro <= p_free_micro AND p_parts <= coalesce(p_messages_left, p_parts);
    INSERT INTO long_message (account_id, key, upstream_id, seen, refused, reserved_micro, expires_at)
    VALUES (p_account, p_key, p_upstream_id, ARRAY[p_part], NOT admitted,
            CASE WHEN admitted THEN p_price * (p_parts - 1) ELSE 0 END, now() + interval '10 minutes')
    ON CONFLICT (account_id, key) DO UPDATE
    SET upstream_id = excluded.upstream_id, seen = excluded.seen, refused = excluded.refused,
        reserved_micro = excluded.reserved_micro, expires_at = excluded.expires_at;
    IF admitted THEN
        reserve_micro := reserve_micro + p_price * (p_parts - 1);
    END IF;
END $$;

-- Charges a batch of messages, grouped by account (accounts ascending, so that two proxies
-- never deadlock; order of arrival kept within an account).
--   p_account, p_size        the accounts, and how many of the following messages are theirs
--   p_retry                  NULL, or per message a hash of what a retry would repeat, else 0; the
--                            lowest bit is not part of the hash: 1 when it is no retry for certain
--   p_long … p_upstream_id   NULL, or per message '' or the key of its concatenated message,
--                            which part of how many it is, and the upstream it would take
--   the other arrays         one element per message
-- Returns, per message, the balance after it, or NULL when it was not charged; per account what
-- it has left to spend; and where there is any, per message: why it was refused (the numbers
-- stand in proxy/store/ledger.py), which message it repeats, and the upstream of its parts.
-- A message that does not fit does not block a smaller one behind it.  Ids are minted by the
-- caller, so a batch that is repeated fails on the primary key instead of charging twice.
CREATE FUNCTION charge_batch(
    p_account bigint[], p_size integer[],
    p_id bigint[], p_account_id bigint[], p_login_id integer[], p_command_id smallint[],
    p_source_addr text[], p_destination_addr text[], p_segments integer[], p_price_micro bigint[],
    p_price_id integer[], p_esm_class smallint[], p_data_coding smallint[],
    p_registered_delivery smallint[],
    p_retry bigint[], p_long text[], p_part integer[], p_parts integer[], p_upstream_id integer[],
    OUT balance_after bigint[], OUT available bigint[], OUT refusal smallint[],
    OUT repeats bigint[], OUT part_upstream integer[]
) LANGUAGE plpgsql AS $$
DECLARE
    a account%ROWTYPE;
    size constant integer := cardinality(p_id);
    floor_micro bigint;
    price bigint;
    why smallint;
    part record;
    is_part boolean;     -- of a concatenated message of an account that sends all parts or none
    reason smallint;
    count integer;       -- of messages: each destination of a submit_multi is one
    free_micro bigint;
    day_left bigint;     -- of the caps; what is reserved is taken.  NULL: there is none
    month_left bigint;
    taken bigint;
    taken_ever bigint;
    earlier bigint;
    granted bigint[];
    grant_start bigint[];
    limited boolean;
    special boolean;
    n integer;
    i integer := 1;
BEGIN
    -- One element per message from the start: what is never admitted stays NULL.
    balance_after := array_fill(NULL::bigint, ARRAY[size]);
    special := p_retry IS NOT NULL OR p_long IS NOT NULL;
    FOR k IN 1 .. cardinality(p_account) LOOP
        SELECT * INTO a FROM account WHERE id = p_account[k] FOR NO KEY UPDATE;
        IF a.next_expiry_at <= now() THEN
            PERFORM expire_grants(a.id, now());
            SELECT * INTO a FROM account WHERE id = p_account[k];
        END IF;
        why := CASE WHEN NOT coalesce(a.enabled, false) THEN 1 WHEN a.valid_until <= now() THEN 7 END;
        taken := 0;
        n := 0;
        floor_micro := a.reserved_micro - a.credit_limit_micro;
        IF why IS NULL THEN
            IF a.day_ends_at <= now() THEN
                a.day_base_micro := a.used_micro;
                a.day_messages := 0;
                a.day_ends_at := ((now() AT TIME ZONE a.timezone)::date + 1)::timestamp
                                 AT TIME ZONE a.timezone;
            END IF;
            IF a.month_ends_at <= now() THEN
                a.month_base_micro := a.used_micro;
                a.month_ends_at := (date_trunc('month', now() AT TIME ZONE a.timezone)
                                    + interval '1 month') AT TIME ZONE a.timezone;
            END IF;
        END IF;
        limited := why IS NOT NULL OR a.granted_micro > 0 OR a.rate IS NOT NULL OR special
                   OR a.daily_cap_micro IS NOT NULL OR a.monthly_cap_micro IS NOT NULL
                   OR a.daily_messages IS NOT NULL;
        IF NOT limited THEN
            FOR i IN i .. i + p_size[k] - 1 LOOP
                price := p_price_micro[i];
                IF price > 0 AND a.balance_micro - price >= floor_micro THEN
                    a.balance_micro := a.balance_micro - price;
                    taken := taken + price;
                    n := n + 1;
                    balance_after[i] := a.balance_micro;
                END IF;
            END LOOP;
            IF n < p_size[k] THEN
                refusal := coalesce(refusal, array_fill(NULL::smallint, ARRAY[size]));
                FOR i IN i .. i + p_size[k] - 1 LOOP
                    IF balance_after[i] IS NULL THEN refusal[i] := 2; END IF;
                END LOOP;
                a.dry := true;
            END IF;
        ELSE
            FOR i IN i .. i + p_size[k] - 1 LOOP
                price := p_price_micro[i];
                IF why IS NULL AND p_retry IS NOT NULL AND p_retry[i] <> 0 AND p_retry[i] & 1 = 0 THEN
                    SELECT r.message_id INTO earlier FROM retry_key r
                    WHERE r.account_id = a.id AND r.hash = p_retry[i]
                      AND r.message_id > id_from_time(now() - make_interval(secs => a.retry_safe_s));
                    -- Apart, so that only the partition of that message is looked at.
                    IF earlier IS NOT NULL AND NOT EXISTS (
                        SELECT FROM outcome o WHERE o.account_id = a.id AND o.message_id = earlier
                           AND o.state = 'released') THEN
                        repeats := coalesce(repeats, array_fill(NULL::bigint, ARRAY[size]));
                        repeats[i] := earlier;
                        CONTINUE;
                    END IF;
                END IF;
                count := CASE WHEN p_command_id[i] = 33
                              THEN cardinality(string_to_array(p_destination_addr[i], ',')) ELSE 1 END;
                is_part := p_long IS NOT NULL AND p_long[i] <> '';
                free_micro := a.balance_micro - floor_micro;
                taken_ever := a.used_micro + taken + a.reserved_micro;
                day_left := a.daily_cap_micro + a.day_base_micro - taken_ever;
                month_left := a.monthly_cap_micro + a.month_base_micro - taken_ever;
                reason := CASE
                    WHEN why IS NOT NULL THEN why
                    WHEN a.rate_next_at > now() + interval '1 second' AND a.rate IS NOT NULL THEN 3
                    WHEN a.day_messages + n + count > a.daily_messages THEN 6
                    WHEN price <= 0 THEN 2
                    WHEN is_part THEN NULL      -- what is reserved for it may have made room
                    WHEN price > day_left THEN 4
                    WHEN price > month_left THEN 5
                    WHEN price > free_micro THEN 2
                    END;
                IF reason IS NULL AND is_part THEN
                    part := charge_part(a.id, p_long[i], p_part[i], p_parts[i], p_upstream_id[i], price,
                                        least(free_micro, day_left, month_left),
                                        (a.daily_messages - a.day_messages - n) / count);
                    floor_micro := floor_micro - part.drawn_micro + part.reserve_micro;
                    a.reserved_micro := a.reserved_micro - part.drawn_micro + part.reserve_micro;
                    part_upstream := coalesce(part_upstream, array_fill(NULL::integer, ARRAY[size]));
                    part_upstream[i] := part.upstream_id;
                    reason := CASE
                        WHEN part.admitted THEN NULL
                        WHEN part.needed_micro > day_left THEN 4
                        WHEN part.needed_micro > month_left THEN 5
                        WHEN part.needed_micro <= free_micro THEN 6
                        ELSE 2 END;
                END IF;
                IF reason IS NOT NULL THEN
                    refusal := coalesce(refusal, array_fill(NULL::smallint, ARRAY[size]));
                    refusal[i] := reason;
                    a.dry := a.dry OR reason = 2;
                    CONTINUE;
                END IF;
                a.balance_micro := a.balance_micro - price;
                taken := taken + price;
                n := n + count;
                balance_after[i] := a.balance_micro;
                IF a.rate IS NOT NULL THEN
                    a.rate_next_at := greatest(a.rate_next_at, now()) + make_interval(secs => count / a.rate);
                END IF;
                IF a.granted_micro > 0 THEN
                    granted := coalesce(granted, array_fill(0::bigint, ARRAY[size]));
                    grant_start := coalesce(grant_start, array_fill(NULL::bigint, ARRAY[size]));
                    grant_start[i] := a.grant_base_micro - a.granted_micro;
                    granted[i] := least(price, a.granted_micro);
                    a.granted_micro := a.granted_micro - granted[i];
                END IF;
                IF p_retry IS NOT NULL AND p_retry[i] <> 0 THEN
                    INSERT INTO retry_key (account_id, hash, message_id)
                    VALUES (a.id, p_retry[i] & ~1, p_id[i])
                    ON CONFLICT (account_id, hash) DO UPDATE SET message_id = excluded.message_id;
                END IF;
            END LOOP;
        END IF;
        IF a.id IS NOT NULL THEN
            -- Also when nothing was taken: a reservation may have come or gone, and `dry`.
            UPDATE account
            SET balance_micro = a.balance_micro, used_micro = a.used_micro + taken,
                granted_micro = a.granted_micro, reserved_micro = a.reserved_micro,
                day_base_micro = a.day_base_micro, day_messages = a.day_messages + n,
                day_ends_at = a.day_ends_at, month_base_micro = a.month_base_micro,
                month_ends_at = a.month_ends_at, rate_next_at = a.rate_next_at, dry = a.dry
            WHERE id = a.id AND (n > 0 OR reserved_micro <> a.reserved_micro OR dry <> a.dry);
        END IF;
        available[k] := a.balance_micro - floor_micro;
        i := i + p_size[k];
    END LOOP;

    -- After the accounts are locked, which is what settle_batch does before it looks.
    IF EXISTS (SELECT 1 FROM uncharged u WHERE u.account_id = ANY (p_account)
                AND u.message_id BETWEEN p_id[1] AND p_id[cardinality(p_id)]
                AND u.message_id = ANY (p_id)) THEN
        RAISE EXCEPTION 'this charge was given up' USING ERRCODE = 'query_canceled';
    END IF;

    INSERT INTO message (id, account_id, login_id, command_id, source_addr, destination_addr,
                         segments, price_micro, esm_class, data_coding, registered_delivery,
                         price_id, granted_micro, grant_start_micro)
    SELECT u.id, u.account_id, u.login_id, u.command_id, u.source_addr, u.destination_addr,
           u.segments, u.price_micro, u.esm_class, u.data_coding, u.registered_delivery,
           u.price_id, coalesce(u.granted_micro, 0), u.grant_start_micro
    FROM unnest(p_id, p_account_id, p_login_id, p_command_id, p_source_addr, p_destination_addr,
                p_segments, p_price_micro, p_esm_class, p_data_coding, p_registered_delivery,
                p_price_id, granted, grant_start, balance_after)
      AS u(id, account_id, login_id, command_id, source_addr, destination_addr,
           segments, price_micro, esm_class, data_coding, registered_delivery,
           price_id, granted_micro, grant_start_micro, balance_after)
    WHERE u.balance_after IS NOT NULL;

    INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro, message_id)
    SELECT u.id, u.account_id, 'use', 'sold', -u.price_micro, u.balance_after, u.id
    FROM unnest(p_id, p_account_id, p_price_micro, balance_after)
      AS u(id, account_id, price_micro, balance_after)
    WHERE u.balance_after IS NOT NULL;
END $$;

-- Gives credit back: the balances, one ledger row per message, the grants, and a word to the
-- proxies that refuse an account from memory.  The accounts must be locked.
CREATE FUNCTION give_back(
    p_message bigint[], p_account_id bigint[], p_micro bigint[], p_granted_micro bigint[],
    p_entry bigint[], p_reason text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    woken bigint[];
    one record;
BEGIN
    SELECT array_agg(id) INTO woken FROM account WHERE id = ANY (p_account_id) AND dry;
    WITH back AS (
        SELECT * FROM unnest(p_message, p_account_id, p_micro, p_entry, p_reason)
          AS u(message_id, account_id, micro, entry, reason)
        WHERE u.micro > 0
    ), began AS (
        SELECT id AS account_id, CASE WHEN isfinite(day_ends_at) THEN
                   id_from_time(((day_ends_at AT TIME ZONE timezone)::date - 1)::timestamp
                                AT TIME ZONE timezone) END AS day,
               CASE WHEN isfinite(month_ends_at) THEN
                   id_from_time((date_trunc('month', month_ends_at AT TIME ZONE timezone)
                                 - interval '1 month') AT TIME ZONE timezone) END AS month
        FROM account WHERE id = ANY (p_account_id)
    ), given AS (
        -- What an earlier day had spent makes no room under the cap of this one.
        UPDATE account a
        SET balance_micro = a.balance_micro + t.total, used_micro = a.used_micro - t.total, dry = false,
            day_base_micro = a.day_base_micro - t.before_day,
            month_base_micro = a.month_base_micro - t.before_month
        FROM (SELECT account_id, sum(micro)::bigint AS total,
                     coalesce(sum(micro) FILTER (WHERE message_id < day), 0)::bigint AS before_day,
                     coalesce(sum(micro) FILTER (WHERE message_id < month), 0)::bigint AS before_month
              FROM back JOIN began USING (account_id) GROUP BY 1) t
        WHERE a.id = t.account_id
        RETURNING a.id, a.balance_micro - t.total AS balance_before
    )
    INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro, message_id, note)
    SELECT b.entry, b.account_id, 'refund', 'sold', b.micro,
           g.balance_before + sum(b.micro) OVER (PARTITION BY b.account_id ORDER BY b.entry),
           b.message_id, b.reason
    FROM back b JOIN given g ON g.id = b.account_id;

    FOR one IN SELECT u.account_id, array_agg(u.message_id) AS messages,
                      array_agg(least(u.micro, u.granted_micro)) AS micro
               FROM unnest(p_message, p_account_id, p_micro, p_granted_micro)
                 AS u(message_id, account_id, micro, granted_micro)
               WHERE least(u.micro, u.granted_micro) > 0 GROUP BY 1 LOOP
        PERFORM return_to_grants(one.account_id, one.messages, one.micro);
    END LOOP;
    IF woken IS NOT NULL THEN
        PERFORM pg_notify('smpp_proxy_credit', id::text) FROM unnest(woken) AS id;
    END IF;
END $$;

-- Ends a batch of holds.  Three groups of arrays: messages charged in full (the usual
-- case), messages of which something is released, and messages that came in doubt.
-- A message that has an outcome keeps it (promise 3), so everything here can be repeated.
--   p_asked        -1, or for an account that is charged on delivery: what its client asked for
--   p_cost_micro   what the carrier takes; -1: not known
--   p_back_micro   what to give back; NULL: all of the price; 0: nothing, it is charged though
--                  the upstream refused it
--   p_back_entry   the ids of the ledger rows that give it back
--   p_late         messages of this batch that were in doubt before
-- Returns the released messages that got their credit back just now.
CREATE FUNCTION settle_batch(
    p_id bigint[], p_account_id bigint[], p_upstream_id integer[], p_smsc_message_id text[],
    p_receipt_key text[], p_asked smallint[], p_cost_micro bigint[],
    p_back_id bigint[], p_back_account_id bigint[], p_back_upstream_id integer[],
    p_back_smsc_message_id text[], p_back_receipt_key text[], p_back_status bigint[], p_back_micro bigint[],
    p_back_entry bigint[], p_back_reason text[],
    p_doubt_id bigint[], p_doubt_account_id bigint[], p_doubt_upstream_id integer[],
    p_doubt_reason text[],
    p_late bigint[], p_late_account_id bigint[], p_late_resolution text
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    ended record;
    released bigint[] := '{}';
BEGIN
    INSERT INTO outcome (message_id, account_id, state, command_status, upstream_id,
                         smsc_message_id, receipt_key, awaits_receipt, asked, cost_micro)
    SELECT u.id, u.account_id, 'charged', 0, nullif(u.upstream_id, 0), u.smsc_message_id,
           nullif(u.receipt_key, ''), u.asked >= 0, nullif(u.asked, -1), nullif(u.cost_micro, -1)
    FROM unnest(p_id, p_account_id, p_upstream_id, p_smsc_message_id, p_receipt_key, p_asked, p_cost_micro)
      AS u(id, account_id, upstream_id, smsc_message_id, receipt_key, asked, cost_micro)
    ON CONFLICT DO NOTHING;

    IF cardinality(p_back_id) > 0 THEN
        PERFORM 1 FROM account WHERE id = ANY (p_back_account_id) ORDER BY id FOR NO KEY UPDATE;
        WITH ends AS (
            INSERT INTO outcome (message_id, account_id, state, command_status, upstream_id,
                                 smsc_message_id, receipt_key, released_micro, reason)
            SELECT m.id, m.account_id,
                   CASE WHEN u.micro < m.price_micro THEN 'charged' ELSE 'released' END::outcome_state,
                   u.status, u.upstream_id, u.smsc_message_id, u.receipt_key,
                   least(coalesce(u.micro, m.price_micro), m.price_micro), u.reason
            FROM unnest(p_back_id, p_back_account_id, p_back_upstream_id, p_back_smsc_message_id,
                        p_back_receipt_key, p_back_status, p_back_micro, p_back_reason)
              AS u(id, account_id, upstream_id, smsc_message_id, receipt_key, status, micro, reason)
            JOIN message m ON m.account_id = u.account_id AND m.id = u.id
            ON CONFLICT DO NOTHING
            RETURNING message_id, account_id, released_micro, reason
        )
        SELECT coalesce(array_agg(e.message_id), '{}') AS ids, array_agg(e.account_id) AS accounts,
               array_agg(e.released_micro) AS micro, array_agg(m.granted_micro) AS granted,
               array_agg(b.entry) AS entries, array_agg(e.reason) AS reasons
        INTO ended
        FROM ends e
        JOIN message m ON m.account_id = e.account_id AND m.id = e.message_id
        JOIN (      -- once, also when the batch has a message twice
            SELECT account_id, id, min(entry) AS entry
            FROM unnest(p_back_id, p_back_account_id, p_back_entry) AS u(id, account_id, entry)
            GROUP BY 1, 2
        ) b ON b.account_id = e.account_id AND b.id = e.message_id;
        released := ended.ids;
        PERFORM give_back(released, ended.accounts, ended.micro, ended.granted, ended.entries,
                          ended.reasons);

        IF cardinality(released) < cardinality(p_back_id) THEN   -- not charged (yet)
            INSERT INTO uncharged (account_id, message_id)
            SELECT u.account_id, u.id FROM unnest(p_back_id, p_back_account_id) AS u(id, account_id)
            LEFT JOIN message m ON m.account_id = u.account_id AND m.id = u.id
            WHERE m.id IS NULL
            ON CONFLICT DO NOTHING;
        END IF;
    END IF;

    IF cardinality(p_doubt_id) > 0 THEN
        INSERT INTO in_doubt (message_id, account_id, upstream_id, reason)
        SELECT m.id, m.account_id, u.upstream_id, u.reason
        FROM unnest(p_doubt_id, p_doubt_account_id, p_doubt_upstream_id, p_doubt_reason)
          AS u(id, account_id, upstream_id, reason)
        JOIN message m ON m.account_id = u.account_id AND m.id = u.id
        LEFT JOIN outcome o ON o.account_id = u.account_id AND o.message_id = u.id
        WHERE o.message_id IS NULL
        ON CONFLICT DO NOTHING;
    END IF;

    IF cardinality(p_late) > 0 THEN
        UPDATE in_doubt d SET resolved_at = clock_timestamp(), resolution = p_late_resolution
        FROM unnest(p_late, p_late_account_id) AS u(id, account_id)
        WHERE d.account_id = u.account_id AND d.message_id = u.id AND d.resolved_at IS NULL;
    END IF;

    RETURN released;
END $$;

-- Releases messages that waited for their receipt and stand in release_due.  What does not wait
-- any more is left alone, so this can be repeated.
-- Returns the messages that got their credit back just now.
CREATE FUNCTION release_batch(p_id bigint[], p_account_id bigint[], p_entry bigint[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    ended record;
BEGIN
    PERFORM 1 FROM account WHERE id = ANY (p_account_id) ORDER BY id FOR NO KEY UPDATE;
    WITH due AS (
        DELETE FROM release_due d USING unnest(p_id, p_account_id, p_entry) AS u(id, account_id, entry)
        WHERE d.account_id = u.account_id AND d.message_id = u.id
        RETURNING d.account_id, d.message_id, d.reason, u.entry
    ), ends AS (
        UPDATE outcome o
        SET awaits_receipt = false, state = 'released', released_micro = m.price_micro, reason = due.reason
        FROM due JOIN message m ON m.account_id = due.account_id AND m.id = due.message_id
        WHERE o.account_id = due.account_id AND o.message_id = due.message_id AND o.awaits_receipt
        RETURNING o.message_id, o.account_id, o.released_micro, m.granted_micro, due.entry, o.reason
    )
    SELECT coalesce(array_agg(message_id), '{}') AS ids, array_agg(account_id) AS accounts,
           array_agg(released_micro) AS micro, array_agg(granted_micro) AS granted,
           array_agg(entry) AS entries, array_agg(reason) AS reasons
    INTO ended FROM ends;
    PERFORM give_back(ended.ids, ended.accounts, ended.micro, ended.granted, ended.entries, ended.reasons);
    RETURN ended.ids;
END $$;

-- ---------------------------------------------------------------------------- the views

CREATE OR REPLACE VIEW v_account AS
SELECT a.id, a.name,
       credits(a.balance_micro) AS balance,
       credits(a.credit_limit_micro) AS credit_limit,
       credits(coalesce(flying.held_micro, 0) + coalesce(doubtful.held_micro, 0)
               + coalesce(awaiting.held_micro, 0)) AS held,
       a.enabled, a.max_binds, a.insufficient_status, a.created_at,
       array(SELECT l.system_id FROM login l WHERE l.account_id = a.id ORDER BY l.id) AS system_ids,
       array(SELECT i.pattern FROM inbound i WHERE i.account_id = a.id ORDER BY 1) AS inbound,
       t.name AS tariff, a.charge_on::text AS charge_on,
       a.delivery_release, a.delivery_max_age_s, a.delivery_overdue,
       credits(a.daily_cap_micro) AS daily_cap, credits(a.monthly_cap_micro) AS monthly_cap,
       a.daily_messages, a.rate, a.allowed_senders, a.allowed_prefixes, a.valid_until,
       a.low_balance, a.retry_safe_s, a.all_parts, a.timezone,
       credits(a.granted_micro) AS granted,
       nullif(a.next_expiry_at, 'infinity') AS next_expiry_at,
       credits(a.used_micro) AS used,
       credits(CASE WHEN a.day_ends_at <= now() THEN 0 ELSE a.used_micro - a.day_base_micro END)
           AS used_today,
       credits(CASE WHEN a.month_ends_at <= now() THEN 0 ELSE a.used_micro - a.month_base_micro END)
           AS used_this_month
FROM account a
JOIN tariff t ON t.id = a.tariff_id
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
) doubtful ON true
LEFT JOIN LATERAL (      -- charged on delivery, and not delivered yet
    SELECT sum(m.price_micro) AS held_micro
    FROM outcome o JOIN message m ON m.account_id = o.account_id AND m.id = o.message_id
    WHERE o.account_id = a.id AND o.awaits_receipt
      -- The sweep ends what is older; so that a few partitions are looked at, and not all.
      AND o.message_id > id_from_time(now() - make_interval(secs => a.delivery_max_age_s + 3600))
      AND m.id > id_from_time(now() - make_interval(secs => a.delivery_max_age_s + 3600))
) awaiting ON true;

CREATE OR REPLACE VIEW v_message AS
SELECT m.id, a.name AS account, lo.system_id, time_from_id(m.id) AS submitted_at,
       m.source_addr, m.destination_addr, m.segments,
       credits(m.price_micro) AS price,
       CASE WHEN o.awaits_receipt THEN 'accepted' WHEN o.state IS NOT NULL THEN o.state::text
            WHEN d.message_id IS NOT NULL THEN 'in_doubt' ELSE 'held' END AS state,
       u.name AS upstream,
       nullif(o.smsc_message_id, '') AS smsc_message_id,
       o.command_status, o.at AS answered_at,
       message_state_name(r.message_state) AS receipt_state,
       r.error AS receipt_error, r.at AS receipt_at,
       r.delivered_at AS receipt_delivered_at,
       m.command_id, m.esm_class, m.data_coding, m.registered_delivery,
       credits(coalesce(o.released_micro, 0)) AS released, coalesce(o.reason, d.reason) AS reason,
       t.name AS tariff, p.prefix AS price_prefix, p.service AS price_service,
       credits(o.cost_micro) AS cost,
       credits(m.price_micro - o.released_micro - o.cost_micro) AS margin
FROM message m
JOIN account a ON a.id = m.account_id
LEFT JOIN login lo ON lo.id = m.login_id
LEFT JOIN outcome o ON o.account_id = m.account_id AND o.message_id = m.id
LEFT JOIN in_doubt d ON d.account_id = m.account_id AND d.message_id = m.id AND d.resolved_at IS NULL
LEFT JOIN upstream u ON u.id = coalesce(o.upstream_id, d.upstream_id)
LEFT JOIN price p ON p.id = m.price_id
LEFT JOIN tariff t ON t.id = p.tariff_id
LEFT JOIN LATERAL (
    SELECT w.message_state, w.error, time_from_id(w.id) AS at, NULL::timestamptz AS delivered_at, w.id
    FROM delivery w WHERE w.account_id = m.account_id AND w.message_id = m.id
    UNION ALL
    SELECT w.message_state, w.error, time_from_id(w.id), CASE w.state WHEN 'delivered' THEN w.at END, w.id
    FROM delivered w WHERE w.account_id = m.account_id AND w.message_id = m.id
    ORDER BY 5 DESC LIMIT 1
) r ON true;
