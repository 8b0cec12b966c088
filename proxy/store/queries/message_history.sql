-- Everything that happened to one message, in order: $1 its account, $2 its id.
-- Most of it stands in no view that can be searched by message, so it is read from the tables.
-- command_status is what the peer named in the detail answered, where there was an answer.
WITH m AS (
    SELECT v.*, a.id AS account_id, d.resolution AS policy
    FROM v_message v
    JOIN account a ON a.name = v.account
    LEFT JOIN in_doubt d ON d.account_id = a.id AND d.message_id = v.id
                        AND d.resolution LIKE 'policy: %'
    WHERE v.account = $1 AND v.id = $2
), step(at, place, what, detail, command_status) AS (
    SELECT submitted_at, 1, 'submitted',
           format('by %s: %s -> %s, %s', coalesce(system_id, '?'),
                  coalesce(nullif(source_addr, ''), '(no sender)'), destination_addr,
                  CASE segments WHEN 1 THEN '1 segment' ELSE segments || ' segments' END),
           NULL::bigint
    FROM m
    UNION ALL
    SELECT time_from_id(l.id),
           CASE l.operation WHEN 'use' THEN 2 ELSE 6 END,
           CASE l.operation WHEN 'use' THEN 'credit taken' WHEN 'refund' THEN 'credit released'
                            ELSE 'credit ' || l.operation::text END,
           format('%s %s, balance %s', credits(abs(l.amount_micro)),
                  CASE abs(l.amount_micro) WHEN 1000000 THEN 'credit' ELSE 'credits' END,
                  credits(l.balance_micro)), NULL
    FROM m JOIN ledger l ON l.account_id = m.account_id
     AND ((l.operation = 'use' AND l.id = m.id)
          OR (l.operation <> 'use' AND l.message_id = m.id AND l.id > m.id))
    UNION ALL
    SELECT now(), 9, CASE WHEN sending THEN 'being sent' ELSE 'waiting in the queue' END,
           format('route %s%s%s', route, CASE attempts WHEN 0 THEN '' WHEN 1 THEN ', 1 attempt'
                                         ELSE format(', %s attempts', attempts) END,
                  ', ' || last_reason), NULL
    FROM m JOIN queued USING (account_id, id, route, attempts)
    UNION ALL
    SELECT d.since, 3, 'in doubt', format('%s%s', 'upstream ' || u.name || ': ', d.reason), NULL
    FROM m JOIN in_doubt d ON d.account_id = m.account_id AND d.message_id = m.id
    LEFT JOIN upstream u ON u.id = d.upstream_id
    UNION ALL
    SELECT d.resolved_at, 4, 'doubt resolved', coalesce(d.resolution, ''), NULL
    FROM m JOIN in_doubt d ON d.account_id = m.account_id AND d.message_id = m.id
    WHERE d.resolved_at IS NOT NULL
    UNION ALL
    SELECT answered_at, 5,
           CASE WHEN state = 'released' THEN 'released' ELSE 'charged' END,
           CASE WHEN policy IS NOT NULL THEN format('by %s, the upstream never answered', policy)
                WHEN upstream IS NULL THEN coalesce(reason, 'never sent')
                WHEN smsc_message_id IS NULL AND reason IS NOT NULL THEN reason
                ELSE format('upstream %s%s%s', upstream, ', id ' || smsc_message_id,
                            ': ' || reason) END,
           CASE WHEN policy IS NULL AND upstream IS NOT NULL AND (smsc_message_id IS NOT NULL OR reason IS NULL)
                THEN command_status END
    FROM m WHERE answered_at IS NOT NULL
    UNION ALL
    SELECT time_from_id(w.id), 7, 'receipt received', message_state_name(w.message_state)
           || coalesce(', error ' || w.error, ''), NULL
    FROM m JOIN LATERAL (
        SELECT id, message_state, error FROM delivery
        WHERE account_id = m.account_id AND message_id = m.id
        UNION ALL
        SELECT id, message_state, error FROM delivered
        WHERE account_id = m.account_id AND message_id = m.id
    ) w ON true
    UNION ALL
    SELECT w.at, 8,
           CASE w.state WHEN 'delivered' THEN 'receipt delivered'
                        WHEN 'unasked' THEN 'receipt not passed on'
                        ELSE 'receipt ' || w.state::text END,
           CASE w.state WHEN 'unasked' THEN 'the client did not ask for it' ELSE 'the client' END,
           CASE WHEN w.state NOT IN ('expired', 'unasked') THEN w.command_status END
    FROM m JOIN delivered w ON w.account_id = m.account_id AND w.message_id = m.id
    UNION ALL
    SELECT now(), 9, 'receipt waiting',
           CASE w.attempts WHEN 0 THEN 'for the client'
                           ELSE format('for the client, %s attempts', w.attempts) END, NULL
    FROM m JOIN delivery w ON w.account_id = m.account_id AND w.message_id = m.id
)
SELECT at, what, detail, command_status FROM step ORDER BY at, place
