-- The lists are texts (see proxy/store/arrays.py), with 0 and '' for what is missing.
-- $9: accounts with a receiver on this node, $10: the node, $11: the oldest message id to look at
-- $12: 1 where the upstream was asked for every receipt
WITH incoming AS (
    SELECT id, nullif(account_id, 0) AS account_id, upstream_id, nullif(key, '') AS key,
           nullif(message_state, 0) AS message_state, nullif(error, '') AS error, command_id, body,
           all_asked = 1 AS all_asked
    FROM unnest($1::text::bigint[], $2::text::bigint[], $3::text::integer[], texts_from($4),
                $5::text::smallint[], texts_from($6), $7::text::smallint[], $8::bytea[],
                $12::text::smallint[])
      AS i(id, account_id, upstream_id, key, message_state, error, command_id, body, all_asked)
), owned AS (
    SELECT i.id, coalesce(i.account_id, o.account_id) AS account_id, o.message_id,
           i.key, i.message_state, i.error, i.command_id, i.body,
           -- A receipt that the client did not ask for: it was for the charge.
           w.asked = 0 OR (w.asked = 2 AND i.message_state = 2) AS unasked,
           -- Charged on delivery: this receipt decides, unless it is about a state on the way.
           CASE WHEN o.awaits_receipt THEN (
               SELECT CASE WHEN message_state_name(i.message_state) = ANY (a.delivery_release)
                           THEN 'release'
                           WHEN i.message_state IN (2, 3, 4, 5, 8) THEN 'charge' END
               FROM account a WHERE a.id = o.account_id) END AS decision
    FROM incoming i
    LEFT JOIN LATERAL (
        SELECT f.account_id, f.message_id, f.awaits_receipt, f.asked FROM outcome f
        WHERE coalesce(f.receipt_key, f.smsc_message_id) = i.key AND f.upstream_id = i.upstream_id
          AND f.message_id >= $11
        ORDER BY f.message_id DESC LIMIT 1      -- carriers reuse ids: the youngest is meant
    ) o ON i.key IS NOT NULL
    -- What the client asked for, where the proxy asked for every receipt.
    CROSS JOIN LATERAL (
        SELECT CASE WHEN o.asked IS NOT NULL OR NOT i.all_asked THEN o.asked
                    ELSE (SELECT (m.registered_delivery & 3)::smallint FROM message m
                          WHERE m.account_id = o.account_id AND m.id = o.message_id
                            AND m.id >= $11) END AS asked
    ) w
), charged AS (
    UPDATE outcome o SET awaits_receipt = false
    FROM owned w
    WHERE w.decision = 'charge' AND o.account_id = w.account_id AND o.message_id = w.message_id
      AND o.message_id >= $11      -- for the planner: not all partitions
), released AS (
    INSERT INTO release_due (account_id, message_id, reason)
    SELECT account_id, message_id, 'receipt: ' || message_state_name(max(message_state))
    FROM owned WHERE decision = 'release' GROUP BY account_id, message_id
    ON CONFLICT DO NOTHING
), kept_for_us AS (
    INSERT INTO delivered (id, account_id, kind, message_id, message_state, error, state, command_status)
    SELECT id, account_id, 'receipt', message_id, message_state, error, 'unasked', 0
    FROM owned WHERE unasked
    ON CONFLICT DO NOTHING
), kept AS (
    INSERT INTO delivery (id, account_id, kind, message_id, message_state, error, command_id, body,
                          claimed_by)
    SELECT w.id, w.account_id, CASE WHEN w.key IS NULL THEN 'mo' ELSE 'receipt' END::delivery_kind,
           w.message_id, w.message_state, w.error, w.command_id, w.body,
           CASE WHEN w.account_id = ANY ($9::bigint[]) THEN $10::smallint END
    FROM owned w
    WHERE w.account_id IS NOT NULL AND w.unasked IS NOT TRUE
    -- Kept before, and the answer was lost.
    ON CONFLICT (account_id, id) DO UPDATE SET claimed_by = delivery.claimed_by
    RETURNING id, account_id, message_id, claimed_by IS NOT NULL AS claimed,
              -- another proxy may have a receiver
              CASE WHEN claimed_by IS NULL
                   THEN pg_notify('smpp_proxy_delivery', account_id::text) END
)
SELECT w.id, w.account_id, w.message_id, coalesce(k.claimed, false) AS claimed,
       w.decision IS NOT DISTINCT FROM 'release' AS release_due, w.unasked IS TRUE AS unasked
FROM owned w LEFT JOIN kept k ON k.id = w.id
WHERE w.account_id IS NOT NULL
