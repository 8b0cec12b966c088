-- Sealed days of the ledger, what the audit needs to check a counter, and where days begin.

-- A day (UTC) of the ledger that is over is hashed, together with the hash of the day before: who
-- changes a row of a sealed day must change every hash since.  proxy/store/seals.py says how.
CREATE TABLE sealed_day (
    day       date PRIMARY KEY,
    rows      bigint NOT NULL CHECK (rows >= 0),
    hash      bytea NOT NULL CHECK (octet_length(hash) = 32),
    previous  bytea CHECK (octet_length(previous) = 32),       -- NULL: the first day
    sealed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON sealed_day
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON sealed_day
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- account.used_micro began at 0 in 0003, also where there was a ledger already.  What its rows of use
-- and refund sum to beyond it, once and for all; without a row: nothing.  So audit_used is exact.
-- Nobody may charge meanwhile.
CREATE TABLE used_before (
    account_id bigint PRIMARY KEY,
    used_micro bigint NOT NULL
);
LOCK TABLE account IN EXCLUSIVE MODE;
INSERT INTO used_before (account_id, used_micro)
SELECT a.id, l.used_micro - a.used_micro
FROM account a
JOIN (SELECT account_id, -sum(amount_micro)::bigint AS used_micro FROM ledger
      WHERE operation IN ('use', 'refund') GROUP BY 1) l ON l.account_id = a.id
WHERE l.used_micro <> a.used_micro;

-- The first moment of a day in a time zone: where clocks are put back over midnight, so that it comes
-- twice (the Azores, Havana), the first of the two.  `AT TIME ZONE` alone is the second.
CREATE FUNCTION day_start(day date, zone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE RETURN
    (day::timestamp AT TIME ZONE zone)
    - CASE WHEN ((day::timestamp AT TIME ZONE zone) - interval '1 hour') AT TIME ZONE zone >= day::timestamp
           THEN interval '1 hour' ELSE interval '0' END;
