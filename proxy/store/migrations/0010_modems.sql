-- What is to be remembered of a modem's SIM.

-- Short messages that a SIM has sent, by hour: for its limits, and for who pays the operator's bill.
CREATE TABLE sim_usage (
    upstream_id    integer NOT NULL REFERENCES upstream,
    hour           timestamptz NOT NULL CHECK (extract(epoch FROM hour) % 3600 = 0),
    short_messages integer NOT NULL CHECK (short_messages > 0),
    PRIMARY KEY (upstream_id, hour)
) WITH (fillfactor = 50);

ALTER TABLE upstream
    ADD balance_text text CHECK (length(balance_text) <= 500),  -- the network's own words
    ADD balance_at timestamptz,
    -- A SHA-256 that stands for a PIN which was tried and not found right; it is not tried again.
    ADD pin_tried text CHECK (pin_tried ~ '^[0-9a-f]{64}$');
