-- The people who run the proxy: who may sign in to the console, and where they are signed in.

CREATE TYPE operator_scope AS ENUM ('read', 'credit', 'admin');   -- each may what the former may

CREATE TABLE operator (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9_.@-]{1,64}$'),
    password_hash text NOT NULL,
    scope         operator_scope NOT NULL,
    enabled       boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    created_by    text,
    signed_in_at  timestamptz
);

-- What a browser holds is random; here is only its SHA-256.
CREATE TABLE web_session (
    hash        bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    operator_id integer NOT NULL REFERENCES operator ON DELETE CASCADE,
    created_at  timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL
);
CREATE INDEX web_session_of_operator ON web_session (operator_id);

-- The link with which the first operator is made; used once.
CREATE TABLE setup_link (
    hash       bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    expires_at timestamptz NOT NULL
);

-- Attempts to sign in that have not succeeded, of a name ('name …') or an address ('from …').
CREATE TABLE sign_in_attempt (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text NOT NULL,
    at      timestamptz NOT NULL
);
CREATE INDEX sign_in_attempt_of_subject ON sign_in_attempt (subject, at);
CREATE INDEX sign_in_attempt_by_time ON sign_in_attempt (at);
