-- The HTTP API: tokens, and what each proxy says of itself.

-- Of a token only its SHA-256 is kept: 256 random bits need no slow hash.  A revoked token stays,
-- because the log names it.
CREATE TABLE api_token (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9_.@-]{1,64}$'),
    hash         bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    scope        text NOT NULL CHECK (scope IN ('read', 'credit', 'admin')),
    account_id   bigint REFERENCES account,      -- sees this account only; NULL: all of them
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,                    -- written at most once a minute
    revoked_at   timestamptz,
    revoked_by   text,
    -- An account's own token is for its customer, who may look and nothing else.
    CHECK (account_id IS NULL OR scope = 'read')
);

-- What every proxy says of its sessions and upstreams, every few seconds.  Nothing is lost when a
-- crash empties it: a row that is not written again is not believed for long.
CREATE UNLOGGED TABLE node_status (
    node   smallint PRIMARY KEY,
    at     timestamptz NOT NULL,
    status jsonb NOT NULL
) WITH (fillfactor = 50);
