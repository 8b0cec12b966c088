-- $1 tariff: how many accounts pay by it, some of their names, and the upstreams whose costs it is.
SELECT (SELECT count(*) FROM account WHERE tariff_id = $1) AS accounts,
       array(SELECT name FROM account WHERE tariff_id = $1 ORDER BY name LIMIT 3) AS some_accounts,
       array(SELECT name FROM upstream WHERE cost_tariff_id = $1 ORDER BY name) AS upstreams
