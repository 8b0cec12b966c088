-- Ends the wait for receipts that did not come in time, of some messages at once: the accounts
-- that pay for those are charged, the messages of the others stand in release_due afterwards.
WITH late AS (      -- by the index over time, and not account by account
    SELECT o.account_id, o.message_id, p.age_s
    FROM (SELECT DISTINCT delivery_max_age_s AS age_s FROM account) p
    CROSS JOIN LATERAL (
        SELECT account_id, message_id FROM outcome
        WHERE awaits_receipt AND message_id < id_from_time(now() - make_interval(secs => p.age_s))
        OFFSET 0
    ) o
), due AS MATERIALIZED (
    SELECT l.account_id, l.message_id, a.delivery_overdue
    FROM late l JOIN account a ON a.id = l.account_id AND a.delivery_max_age_s = l.age_s
    -- A receipt came, and the credit goes back in a moment: that one is not charged.
    WHERE NOT EXISTS (SELECT FROM release_due r
                      WHERE r.account_id = l.account_id AND r.message_id = l.message_id)
    LIMIT 5000
), charged AS (
    UPDATE outcome o SET awaits_receipt = false, reason = 'no receipt in time'
    FROM due d
    WHERE d.delivery_overdue = 'charge' AND o.account_id = d.account_id
      AND o.message_id = d.message_id AND o.awaits_receipt
)
INSERT INTO release_due (account_id, message_id, reason)
SELECT account_id, message_id, 'no receipt in time' FROM due WHERE delivery_overdue = 'release'
ON CONFLICT DO NOTHING
