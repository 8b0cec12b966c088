-- The durable queue: messages that were charged and answered, and wait for their upstream here.

-- What goes to one destination of an account by one route goes in order, one at a time.  A line
-- stands for that; it exists while it has messages.
CREATE TABLE queue_line (
    account_id bigint NOT NULL,
    line       text COLLATE "C" NOT NULL,      -- the destination, or a hash of many
    route      text COLLATE "C" NOT NULL,
    next_at    timestamptz NOT NULL,           -- when its first message may go
    tries      integer NOT NULL DEFAULT 0,     -- how often that was put off, in a row
    claimed_by smallint,                       -- the node that is sending it
    claimed_run bigint,                        -- and which run of a proxy: nodes are taken over
    PRIMARY KEY (account_id, line, route)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 20000);
CREATE INDEX queue_line_due ON queue_line (route, next_at) WHERE claimed_by IS NULL;
CREATE INDEX queue_line_claimed ON queue_line (claimed_by) WHERE claimed_by IS NOT NULL;

-- A message of the queue.  `sending` is committed before the first octet goes upstream: when its
-- proxy dies it is in doubt, and not sent again.
CREATE TABLE queued (
    id          bigint NOT NULL,               -- the message's
    account_id  bigint NOT NULL,
    line        text COLLATE "C" NOT NULL,
    route       text COLLATE "C" NOT NULL,
    due_at      timestamptz NOT NULL,          -- when it came, or what schedule_delivery_time says
    expires_at  timestamptz NOT NULL,
    command_id  smallint NOT NULL,
    body        bytea NOT NULL,                -- as it came
    price_micro bigint NOT NULL,
    prices      text NOT NULL,                 -- of a submit_multi: of each destination, joined by ','
    service     text NOT NULL,
    asked       smallint NOT NULL,
    sending     boolean NOT NULL DEFAULT false,
    attempts    integer NOT NULL DEFAULT 0,    -- how often it was claimed
    last_status bigint,                        -- what the upstream said the last time
    last_reason text,
    PRIMARY KEY (account_id, id) INCLUDE (price_micro)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 20000);
CREATE INDEX queued_of_line ON queued (account_id, line, route, due_at, id);
CREATE INDEX queued_sending ON queued (account_id, line, route) WHERE sending;
CREATE INDEX queued_by_expiry ON queued (expires_at);

-- Locks are taken in this order everywhere: accounts, lines, messages; each ascending.  Who has a
-- line locked has its messages.

-- The queue is empty at one moment and has a million rows at the next: a plan that was made for the
-- one is not kept for the other, and only index lookups are good for both.

-- Puts messages into the queue.  Times are seconds since 1970, 0: now.
--   p_at, p_balance   where each stands in the batch that charge_batch charged, and what that
--                     returned: what was refused stays out.  NULL: they were charged before, and
--                     what has an end already stays out, so that this can be repeated.
CREATE FUNCTION put_in_queue(
    p_at integer[], p_id bigint[], p_account_id bigint[], p_line text[], p_route text[],
    p_due double precision[], p_expires double precision[], p_command_id smallint[], p_body bytea[],
    p_price_micro bigint[], p_prices text[], p_service text[], p_asked smallint[], p_balance bigint[]
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_custom_plan 
AS $$
DECLARE
    chosen boolean[];
BEGIN
    IF p_balance IS NOT NULL THEN
        SELECT array_agg(p_balance[at] IS NOT NULL ORDER BY n) INTO chosen
        FROM unnest(p_at) WITH ORDINALITY AS u(at, n);
    ELSE
        SELECT array_agg(NOT EXISTS (SELECT FROM outcome o WHERE o.account_id = u.account_id
                                       AND o.message_id = u.id)
                         AND NOT EXISTS (SELECT FROM in_doubt d WHERE d.account_id = u.account_id
                                           AND d.message_id = u.id)
                         AND NOT EXISTS (SELECT FROM queued q WHERE q.account_id = u.account_id
                                           AND q.id = u.id) ORDER BY n)
        INTO chosen FROM unnest(p_id, p_account_id) WITH ORDINALITY AS u(id, account_id, n);
    END IF;
    INSERT INTO queue_line (account_id, line, route, next_at)
    SELECT u.account_id, u.line, u.route,
           min(coalesce(to_timestamp(nullif(u.due, 0)), now()))
    FROM unnest(p_account_id, p_line, p_route, p_due, chosen)
      AS u(account_id, line, route, due, wanted)
    WHERE u.wanted
    GROUP BY 1, 2, 3
    -- As the columns are sorted, whatever the database's own collation is: others lock in that order.
    ORDER BY u.account_id, u.line COLLATE "C", u.route COLLATE "C"
    ON CONFLICT (account_id, line, route) DO UPDATE
    SET next_at = CASE WHEN queue_line.tries > 0 OR queue_line.claimed_by IS NOT NULL
                       THEN queue_line.next_at
                       ELSE least(queue_line.next_at, excluded.next_at) END;

    INSERT INTO queued (id, account_id, line, route, due_at, expires_at, command_id, body,
                        price_micro, prices, service, asked)
    SELECT u.id, u.account_id, u.line, u.route, coalesce(to_timestamp(nullif(u.due, 0)), now()),
           to_timestamp(u.expires), u.command_id, u.body, u.price_micro, u.prices, u.service, u.asked
    FROM unnest(p_id, p_account_id, p_line, p_route, p_due, p_expires, p_command_id, p_body,
                p_price_micro, p_prices, p_service, p_asked, chosen)
      AS u(id, account_id, line, route, due, expires, command_id, body, price_micro, prices, service,
           asked, wanted)
    WHERE u.wanted;
END $$;

-- Claims, for each route, the first messages of so many lines.  p_run: which run of a proxy this is.
CREATE FUNCTION claim_queued(p_node smallint, p_run bigint, p_route text[], p_limit integer[])
RETURNS TABLE (id bigint, account_id bigint, line text, route text, command_id smallint, body bytea,
               price_micro bigint, prices text, service text, asked smallint, attempts integer,
               due_at timestamptz, expires_at timestamptz, last_status bigint)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_custom_plan 
AS $$
#variable_conflict use_column
DECLARE
    free record;
    locked_at timestamptz;
BEGIN
    FOR k IN 1 .. cardinality(p_route) LOOP
        -- A statement of its own: a line may have changed just before it was locked, and only what
        -- the next statement sees of its messages is of the same moment.
        SELECT array_agg(l.account_id) AS accounts, array_agg(l.line) AS lines INTO free
        FROM (SELECT account_id, line FROM queue_line
              WHERE route = p_route[k] AND claimed_by IS NULL AND next_at <= now()
              ORDER BY next_at LIMIT p_limit[k]
              FOR UPDATE SKIP LOCKED) l;
        CONTINUE WHEN free.accounts IS NULL;
        locked_at := clock_timestamp();
        RETURN QUERY
        WITH first AS MATERIALIZED (
            SELECT f.account_id, f.line, CASE WHEN q.due_at <= locked_at THEN q.id END AS id, q.due_at
            FROM unnest(free.accounts, free.lines) AS f(account_id, line)
            LEFT JOIN LATERAL (
                SELECT q.id, q.due_at FROM queued q
                WHERE q.account_id = f.account_id AND q.line = f.line AND q.route = p_route[k]
                  AND q.expires_at > locked_at
                ORDER BY q.due_at, q.id LIMIT 1
            ) q ON true
        ), claimed AS (
            -- A line whose messages have all expired waits for that to be written down.
            UPDATE queue_line l
            SET claimed_by = CASE WHEN f.id IS NOT NULL THEN p_node END,
                claimed_run = CASE WHEN f.id IS NOT NULL THEN p_run END,
                next_at = CASE WHEN f.id IS NOT NULL THEN l.next_at
                               ELSE coalesce(f.due_at, now() + interval '5 seconds') END
            FROM first f
            WHERE l.account_id = f.account_id AND l.line = f.line AND l.route = p_route[k]
        )
        UPDATE queued q SET sending = true, attempts = q.attempts + 1
        FROM first f
        WHERE q.account_id = f.account_id AND q.id = f.id
        RETURNING q.id, q.account_id, q.line, q.route, q.command_id, q.body, q.price_micro, q.prices,
                  q.service, q.asked, q.attempts, q.due_at, q.expires_at, q.last_status;
    END LOOP;
END $$;

-- Locks the lines of these messages, in order.
CREATE FUNCTION lock_lines(p_id bigint[], p_account_id bigint[]) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_custom_plan 
AS $$
BEGIN
    PERFORM 1 FROM queue_line l
    WHERE (l.account_id, l.line, l.route) IN (
        SELECT q.account_id, q.line, q.route
        FROM unnest(p_id, p_account_id) AS u(id, account_id)
        JOIN queued q ON q.account_id = u.account_id AND q.id = u.id)
    ORDER BY l.account_id, l.line, l.route
    FOR UPDATE;
END $$;

-- Lets lines go on whose first message has ended: the caller has them locked.
CREATE FUNCTION step_lines(p_account_id bigint[], p_line text[], p_route text[]) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_custom_plan 
AS $$
BEGIN
    DELETE FROM queue_line l USING unnest(p_account_id, p_line, p_route) AS u(account_id, line, route)
    WHERE l.account_id = u.account_id AND l.line = u.line AND l.route = u.route
      AND NOT EXISTS (SELECT FROM queued q
                      WHERE q.account_id = l.account_id AND q.line = l.line AND q.route = l.route);
    -- A first message that was put off goes on waiting when another one behind it has ended.
    UPDATE queue_line l
    SET claimed_by = NULL,
        (tries, next_at) = (
            SELECT CASE WHEN q.kept THEN l.tries ELSE 0 END,
                   CASE WHEN q.kept THEN greatest(l.next_at, q.due_at) ELSE q.due_at END
            FROM (SELECT due_at, attempts > 0 AND l.claimed_by IS NULL AND l.tries > 0 AS kept
                  FROM queued
                  WHERE account_id = l.account_id AND line = l.line AND route = l.route
                  ORDER BY due_at, id LIMIT 1) q)
    FROM unnest(p_account_id, p_line, p_route) AS u(account_id, line, route)
    WHERE l.account_id = u.account_id AND l.line = u.line AND l.route = u.route
      AND NOT EXISTS (SELECT FROM queued q     -- another message of it is on its way
                      WHERE q.account_id = l.account_id AND q.line = l.line AND q.route = l.route
                        AND q.sending);
END $$;

-- What became of messages of the queue; all of it can be repeated.
--   p_id …           they have ended: they leave it
--   p_receipt_…      receipts for their clients, kept when their message leaves it now
--   p_later_…        they are tried again, after a pause that doubles from p_min_s to p_max_s; or
--                    at once (p_later_at_once), when they were not tried at all
--   p_later_attempt  which claim this is about: an older one is over
CREATE FUNCTION work_queue(
    p_id bigint[], p_account_id bigint[],
    p_receipt_id bigint[], p_receipt_message bigint[], p_receipt_account bigint[],
    p_receipt_state smallint[], p_receipt_error text[], p_receipt_body bytea[],
    p_later_id bigint[], p_later_account bigint[], p_later_attempt integer[], p_later_status bigint[],
    p_later_reason text[], p_later_at_once boolean[], p_min_s double precision, p_max_s double precision
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_custom_plan 
AS $$
DECLARE
    gone record;
BEGIN
    PERFORM lock_lines(p_id || p_later_id, p_account_id || p_later_account);
    IF cardinality(p_id) > 0 THEN
        WITH left_it AS (
            DELETE FROM queued q USING unnest(p_id, p_account_id) AS u(id, account_id)
            WHERE q.account_id = u.account_id AND q.id = u.id
            RETURNING q.id, q.account_id, q.line, q.route
        )
        SELECT array_agg(id) AS ids, array_agg(account_id) AS accounts, array_agg(line) AS lines,
               array_agg(route) AS routes INTO gone FROM left_it;
        IF gone.ids IS NOT NULL THEN
            WITH kept AS (
                INSERT INTO delivery (id, account_id, kind, message_id, message_state, error, command_id, body)
                SELECT u.id, u.account_id, 'receipt', u.message_id, u.state, u.error, 5, u.body
                FROM unnest(p_receipt_id, p_receipt_account, p_receipt_message, p_receipt_state,
                            p_receipt_error, p_receipt_body)
                  AS u(id, account_id, message_id, state, error, body)
                JOIN unnest(gone.ids, gone.accounts) AS g(id, account_id)
                  ON g.id = u.message_id AND g.account_id = u.account_id
                RETURNING account_id
            )
            SELECT array_agg(DISTINCT account_id) AS accounts INTO p_receipt_account FROM kept;
            PERFORM pg_notify('smpp_proxy_delivery', id::text) FROM unnest(p_receipt_account) AS id;
            PERFORM step_lines(gone.accounts, gone.lines, gone.routes);
        END IF;
    END IF;
    IF cardinality(p_later_id) > 0 THEN
        WITH later AS (
            UPDATE queued q SET sending = false, last_status = coalesce(u.status, q.last_status),
                                last_reason = u.reason
            FROM unnest(p_later_id, p_later_account, p_later_attempt, p_later_status, p_later_reason,
                        p_later_at_once) AS u(id, account_id, attempt, status, reason, at_once)
            WHERE q.account_id = u.account_id AND q.id = u.id AND q.sending AND q.attempts = u.attempt
            RETURNING q.account_id, q.line, q.route, u.at_once
        )
        UPDATE queue_line l
        SET claimed_by = NULL, tries = CASE WHEN w.at_once THEN l.tries ELSE l.tries + 1 END,
            next_at = CASE WHEN w.at_once THEN now() ELSE
                now() + make_interval(secs => least(p_max_s, p_min_s * 2 ^ least(l.tries, 30))) END
        FROM later w
        WHERE l.account_id = w.account_id AND l.line = w.line AND l.route = w.route;
    END IF;
END $$;

-- Messages that a dead proxy was sending: nobody knows whether they went out.  Returns how many, whose.
CREATE FUNCTION forget_queue_claims(p_nodes smallint[], OUT account_id bigint, OUT count bigint)
RETURNS SETOF record LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_custom_plan 
AS $$
#variable_conflict use_column
DECLARE
    dead record;
BEGIN
    SELECT array_agg(l.account_id) AS accounts, array_agg(l.line) AS lines, array_agg(l.route) AS routes
    INTO dead
    FROM (SELECT account_id, line, route FROM queue_line WHERE claimed_by = ANY (p_nodes)
          ORDER BY 1, 2, 3 FOR UPDATE) l;
    IF dead.accounts IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH lost AS (
        DELETE FROM queued q USING unnest(dead.accounts, dead.lines, dead.routes) AS u(account_id, line, route)
        WHERE q.account_id = u.account_id AND q.line = u.line AND q.route = u.route AND q.sending
        RETURNING q.account_id, q.id
    ), doubtful AS (
        INSERT INTO in_doubt (message_id, account_id, reason)
        SELECT id, account_id, 'its proxy stopped while it was being sent' FROM lost
        ON CONFLICT DO NOTHING
    )
    SELECT account_id, count(*) FROM lost GROUP BY 1;
    PERFORM step_lines(dead.accounts, dead.lines, dead.routes);
END $$;

-- Claims of a run of a proxy that it does not know of, because their answer was lost: not sent, so
-- free again.  Not those of its node: another run may have had that number, and may send still.
CREATE FUNCTION free_queue_claims(p_node smallint, p_run bigint, p_known bigint[]) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_custom_plan 
AS $$
BEGIN
    PERFORM 1 FROM queue_line WHERE claimed_by IS NOT NULL AND claimed_run = p_run
    ORDER BY account_id, line, route FOR UPDATE;
    UPDATE queued q SET sending = false
    FROM queue_line l
    WHERE l.claimed_by IS NOT NULL AND l.claimed_run = p_run AND q.account_id = l.account_id
      AND q.line = l.line AND q.route = l.route AND q.sending AND q.id <> ALL (p_known);
    UPDATE queue_line l SET claimed_by = NULL, next_at = now()
    WHERE l.claimed_by IS NOT NULL AND l.claimed_run = p_run
      AND NOT EXISTS (SELECT FROM queued q WHERE q.account_id = l.account_id AND q.line = l.line
                        AND q.route = l.route AND q.sending);
    -- It had another number before: whoever has that now would answer for them.
    UPDATE queue_line SET claimed_by = p_node
    WHERE claimed_by IS NOT NULL AND claimed_run = p_run AND claimed_by <> p_node;
END $$;

-- Locks messages that are to leave the queue, and returns those that are not on their way.
CREATE FUNCTION lock_queued(p_id bigint[], p_account_id bigint[]) RETURNS SETOF queued
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_custom_plan 
AS $$
BEGIN
    PERFORM 1 FROM account WHERE id = ANY (p_account_id) ORDER BY id FOR NO KEY UPDATE;
    PERFORM lock_lines(p_id, p_account_id);
    RETURN QUERY
    SELECT q.* FROM unnest(p_id, p_account_id) AS u(id, account_id)
    JOIN queued q ON q.account_id = u.account_id AND q.id = u.id
    WHERE NOT q.sending
    FOR UPDATE OF q;
END $$;

-- The routes that have anything in the queue: from one to the next by the index, whatever waits.
CREATE FUNCTION routes_waiting() RETURNS SETOF text
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off
    SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    found_route text := '';
BEGIN
    LOOP
        SELECT min(l.route) INTO found_route FROM queue_line l
        WHERE l.claimed_by IS NULL AND l.route > found_route;
        EXIT WHEN found_route IS NULL;
        RETURN NEXT found_route;
    END LOOP;
    RETURN QUERY SELECT DISTINCT l.route FROM queue_line l WHERE l.claimed_by IS NOT NULL;
END $$;

-- All messages of a line take another route, unless one of them is on its way.
CREATE FUNCTION move_line(p_account_id bigint, p_line text, p_old text, p_new text) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    next timestamptz;
BEGIN
    -- Nobody charges for it, changes it or takes something out of it meanwhile.
    PERFORM 1 FROM account WHERE id = p_account_id FOR NO KEY UPDATE;
    -- The two lines may be in any order, so for none of them is anybody waited for.
    SELECT next_at INTO next FROM queue_line
    WHERE account_id = p_account_id AND line = p_line AND route = p_old AND claimed_by IS NULL
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM 1 FROM queue_line WHERE account_id = p_account_id AND line = p_line AND route = p_new
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND AND EXISTS (SELECT FROM queue_line WHERE account_id = p_account_id
                               AND line = p_line AND route = p_new) THEN
        RETURN;
    END IF;
    DELETE FROM queue_line WHERE account_id = p_account_id AND line = p_line AND route = p_old;
    INSERT INTO queue_line (account_id, line, route, next_at) VALUES (p_account_id, p_line, p_new, next)
    ON CONFLICT (account_id, line, route) DO UPDATE
    SET next_at = CASE WHEN queue_line.tries > 0 OR queue_line.claimed_by IS NOT NULL
                       THEN queue_line.next_at ELSE least(queue_line.next_at, excluded.next_at) END;
    UPDATE queued SET route = p_new
    WHERE account_id = p_account_id AND line = p_line AND route = p_old;
END $$;

-- ---------------------------------------------------------------------------- the views

CREATE OR REPLACE VIEW v_account AS
SELECT a.id, a.name,
       credits(a.balance_micro) AS balance,
       credits(a.credit_limit_micro) AS credit_limit,
       credits(coalesce(flying.held_micro, 0) + coalesce(doubtful.held_micro, 0)
               + coalesce(awaiting.held_micro, 0) + coalesce(waiting.held_micro, 0)) AS held,
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
) awaiting ON true
LEFT JOIN LATERAL (      -- in the queue, and older than the last sweep
    SELECT sum(q.price_micro) AS held_micro FROM queued q
    WHERE q.account_id = a.id AND q.id <= s.swept_through
) waiting ON true;

CREATE OR REPLACE VIEW v_message AS
SELECT m.id, a.name AS account, lo.system_id, time_from_id(m.id) AS submitted_at,
       m.source_addr, m.destination_addr, m.segments,
       credits(m.price_micro) AS price,
       CASE WHEN o.awaits_receipt THEN 'accepted' WHEN o.state IS NOT NULL THEN o.state::text
            WHEN d.message_id IS NOT NULL THEN 'in_doubt'
            WHEN q.sending THEN 'sending' WHEN q.id IS NOT NULL THEN 'queued' ELSE 'held' END AS state,
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
       credits(m.price_micro - o.released_micro - o.cost_micro) AS margin,
       q.route, q.attempts, q.due_at, q.expires_at
FROM message m
JOIN account a ON a.id = m.account_id
LEFT JOIN login lo ON lo.id = m.login_id
LEFT JOIN outcome o ON o.account_id = m.account_id AND o.message_id = m.id
LEFT JOIN in_doubt d ON d.account_id = m.account_id AND d.message_id = m.id AND d.resolved_at IS NULL
LEFT JOIN queued q ON q.account_id = m.account_id AND q.id = m.id
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
