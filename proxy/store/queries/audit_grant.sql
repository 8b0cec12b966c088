-- The grants of an account have at least what it says expires (what was spent since is not taken
-- from them yet), it knows when, and each is a row of the ledger.
SELECT a.name AS account,
       CASE WHEN a.granted_micro > coalesce(g.left_micro, 0)
            THEN format('%s credits expire one day, but its grants have only %s left',
                        credits(a.granted_micro), credits(coalesce(g.left_micro, 0)))
            ELSE format('a grant expires at %s, but its next expiry is %s', g.first_at,
                        a.next_expiry_at) END AS detail
FROM account a
LEFT JOIN (SELECT account_id, sum(left_micro) AS left_micro, min(expires_at) AS first_at
           FROM credit_grant WHERE left_micro > 0 GROUP BY 1) g ON g.account_id = a.id
WHERE a.granted_micro > coalesce(g.left_micro, 0) OR a.next_expiry_at > g.first_at
UNION ALL
SELECT a.name,
       format('grant %s is of %s credits, its ledger row of %s', g.id, credits(g.amount_micro),
              coalesce(credits(l.amount_micro)::text, 'nothing'))
FROM credit_grant g
JOIN account a ON a.id = g.account_id
LEFT JOIN ledger l ON l.account_id = g.account_id AND l.id = g.id AND l.operation = 'grant'
WHERE l.amount_micro IS DISTINCT FROM g.amount_micro
UNION ALL
SELECT a.name, format('messages took %s credits of grants, its grants say %s',
                      credits(coalesce(m.granted_micro, 0)),
                      credits(a.grant_base_micro - a.granted_micro))
FROM account a
LEFT JOIN (SELECT account_id, sum(granted_micro) AS granted_micro FROM message
           WHERE granted_micro > 0 GROUP BY 1) m ON m.account_id = a.id
WHERE a.grant_base_micro - a.granted_micro <> coalesce(m.granted_micro, 0)
LIMIT $1
