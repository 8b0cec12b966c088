-- Whether a proxy charged messages more than an hour ago, when a day that is not sealed was due.
-- $1 when that was.  Proxies from before there were seals do not count.
SELECT EXISTS (
    SELECT FROM ledger
    WHERE operation = 'use'
      AND id >= id_from_time(greatest($1, (SELECT applied_at FROM migration WHERE name = '0006_seals')))
      AND id < id_from_time(now() - interval '1 hour'))
