SELECT o.upstream_id, o.smsc_message_id, m.data_coding, m.segments, m.destination_addr
FROM outcome o
JOIN message m ON m.account_id = o.account_id AND m.id = o.message_id
WHERE o.account_id = $1 AND o.message_id = $2 AND o.state = 'charged'
