-- Every tariff: how many prices it has, how many accounts pay by it, which upstreams' costs it is.
SELECT t.name, coalesce(p.prices, 0) AS prices, coalesce(a.accounts, 0) AS accounts,
       array(SELECT u.name FROM upstream u WHERE u.cost_tariff_id = t.id ORDER BY u.name) AS upstreams,
       t.version, t.created_at, t.changed_at
FROM tariff t
LEFT JOIN (
    SELECT tariff_id, count(*) AS prices FROM price WHERE retired_at IS NULL GROUP BY tariff_id
) p ON p.tariff_id = t.id
LEFT JOIN (
    SELECT tariff_id, count(*) AS accounts FROM account GROUP BY tariff_id
) a ON a.tariff_id = t.id
ORDER BY t.name
