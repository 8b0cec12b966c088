-- The two statements of the hot path, each one round trip for a whole batch.

-- Messages whose charge was given up before it was committed: the connection broke or was
-- silent, and the client was refused.  The charge may still be under way, in a network that
-- was interrupted, say; it fails on what stands here.
CREATE TABLE uncharged (
    account_id bigint NOT NULL,
    message_id bigint NOT NULL,
    PRIMARY KEY (account_id, message_id)
);

-- The texts of a list that proxy/store/arrays.py joined, each followed by U+0100.
CREATE FUNCTION texts_from(joined text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE joined WHEN '' THEN '{}'::text[]
                ELSE trim_array(string_to_array(joined, U&'\0100'), 1) END;

-- Charges a batch of messages, grouped by account (accounts ascending, so that two proxies
-- never deadlock; order of arrival kept within an account).
--   p_account, p_size        the accounts, and how many of the following messages are theirs
--   the other arrays         one element per message
-- Returns, per message, the balance after it, or NULL when it was refused, and per account
-- whether it may send at all.  A message that does not fit does not block a smaller one
-- behind it.  Ids are minted by the caller, so a batch that is repeated fails on the
-- primary key instead of charging twice.
CREATE FUNCTION charge_batch(
    p_account bigint[], p_size integer[],
    p_id bigint[], p_account_id bigint[], p_login_id integer[], p_command_id smallint[],
    p_source_addr text[], p_destination_addr text[], p_segments integer[], p_price_micro bigint[],
    p_esm_class smallint[], p_data_coding smallint[], p_registered_delivery smallint[],
    OUT balance_after bigint[], OUT usable boolean[]
) LANGUAGE plpgsql AS $$
DECLARE
    held_account account%ROWTYPE;
    balance bigint;
    floor_micro bigint;
    price bigint;
    i integer := 1;
BEGIN
    -- One element per message from the start: what is never admitted stays NULL.
    balance_after := array_fill(NULL::bigint, ARRAY[cardinality(p_id)]);
    FOR a IN 1 .. cardinality(p_account) LOOP
        SELECT * INTO held_account FROM account WHERE id = p_account[a] FOR NO KEY UPDATE;
        usable[a] := coalesce(held_account.enabled, false);
        IF usable[a] THEN
            balance := held_account.balance_micro;
            floor_micro := -held_account.credit_limit_micro;
            FOR i IN i .. i + p_size[a] - 1 LOOP
                price := p_price_micro[i];
                IF price > 0 AND balance - price >= floor_micro THEN
                    balance := balance - price;
                    balance_after[i] := balance;
                END IF;
            END LOOP;
            IF balance <> held_account.balance_micro THEN
                UPDATE account SET balance_micro = balance WHERE id = p_account[a];
            END IF;
        END IF;
        i := i + p_size[a];
    END LOOP;

    -- After the accounts are locked, which is what settle_batch does before it looks.
    IF EXISTS (SELECT 1 FROM uncharged u WHERE u.account_id = ANY (p_account)
                AND u.message_id BETWEEN p_id[1] AND p_id[cardinality(p_id)]
                AND u.message_id = ANY (p_id)) THEN
        RAISE EXCEPTION 'this charge was given up' USING ERRCODE = 'query_canceled';
    END IF;

    INSERT INTO message
    SELECT u.id, u.account_id, u.login_id, u.command_id, u.source_addr, u.destination_addr,
           u.segments, u.price_micro, u.esm_class, u.data_coding, u.registered_delivery
    FROM unnest(p_id, p_account_id, p_login_id, p_command_id, p_source_addr, p_destination_addr,
                p_segments, p_price_micro, p_esm_class, p_data_coding, p_registered_delivery,
                balance_after)
      AS u(id, account_id, login_id, command_id, source_addr, destination_addr,
           segments, price_micro, esm_class, data_coding, registered_delivery, balance_after)
    WHERE u.balance_after IS NOT NULL;

    INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro, message_id)
    SELECT u.id, u.account_id, 'use', 'sold', -u.price_micro, u.balance_after, u.id
    FROM unnest(p_id, p_account_id, p_price_micro, balance_after)
      AS u(id, account_id, price_micro, balance_after)
    WHERE u.balance_after IS NOT NULL;
END $$;

-- Ends a batch of holds.  Three groups of arrays: messages charged in full (the usual
-- case), messages of which something is released, and messages that came in doubt.
-- A message that has an outcome keeps it (promise 3), so everything here can be repeated.
--   p_back_micro   what to give back; NULL: all of the price
--   p_back_entry   the ids of the ledger rows that give it back
--   p_late         messages of this batch that were in doubt before
-- Returns the released messages that got their credit back just now.
CREATE FUNCTION settle_batch(
    p_id bigint[], p_account_id bigint[], p_upstream_id integer[], p_smsc_message_id text[],
    p_receipt_key text[],
    p_back_id bigint[], p_back_account_id bigint[], p_back_upstream_id integer[],
    p_back_smsc_message_id text[], p_back_receipt_key text[], p_back_status bigint[], p_back_micro bigint[],
    p_back_entry bigint[], p_back_reason text[],
    p_doubt_id bigint[], p_doubt_account_id bigint[], p_doubt_upstream_id integer[],
    p_doubt_reason text[],
    p_late bigint[], p_late_account_id bigint[], p_late_resolution text
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    released bigint[] := '{}';
BEGIN
    INSERT INTO outcome (message_id, account_id, state, command_status, upstream_id,
                         smsc_message_id, receipt_key)
    SELECT u.id, u.account_id, 'charged', 0, nullif(u.upstream_id, 0), u.smsc_message_id,
           nullif(u.receipt_key, '')
    FROM unnest(p_id, p_account_id, p_upstream_id, p_smsc_message_id, p_receipt_key)
      AS u(id, account_id, upstream_id, smsc_message_id, receipt_key)
    ON CONFLICT DO NOTHING;

    IF cardinality(p_back_id) > 0 THEN
        PERFORM 1 FROM account WHERE id = ANY (p_back_account_id) ORDER BY id FOR NO KEY UPDATE;
        WITH ended AS (
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
        ), given AS (
            UPDATE account a SET balance_micro = a.balance_micro + t.total
            FROM (SELECT account_id, sum(released_micro)::bigint AS total FROM ended GROUP BY 1) t
            WHERE a.id = t.account_id
            RETURNING a.id, a.balance_micro - t.total AS balance_before
        ), booked AS (
            INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro,
                                message_id, note)
            SELECT b.entry, e.account_id, 'refund', 'sold', e.released_micro,
                   g.balance_before + sum(e.released_micro)
                       OVER (PARTITION BY e.account_id ORDER BY b.entry),
                   e.message_id, e.reason
            FROM ended e
            JOIN given g ON g.id = e.account_id
            JOIN unnest(p_back_id, p_back_account_id, p_back_entry) AS b(id, account_id, entry)
              ON b.account_id = e.account_id AND b.id = e.message_id
            RETURNING message_id
        )
        SELECT coalesce(array_agg(message_id), '{}') INTO released FROM booked;

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
