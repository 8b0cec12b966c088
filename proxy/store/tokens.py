"""Tokens of the HTTP API: shown once, kept as a hash, with a scope and perhaps an account."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
from asyncpg import Connection

from proxy.store.events import write_event
from proxy.store.outcomes import Refused, bad_name, no_account
from proxy.store.sql import load

SCOPES: Final = ("read", "credit", "admin")
"""Each allows what the ones before it allow."""

PREFIX: Final = "sp_"
"""So that a token that was published by mistake can be found by searching."""

USED_EVERY: Final = timedelta(minutes=1)
"""How exact last_used_at is."""

_TOKEN: Final = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}", re.ASCII)
_TOKEN_OCTETS: Final = 32


@dataclass(frozen=True, slots=True)
class Token:
    """A token that is valid now."""

    id: int
    name: str
    scope: str
    """One of SCOPES."""
    account: str | None
    """The only account it may see; None: all of them."""

    def allows(self, scope: str) -> bool:
        """Whether it may do what needs that scope."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


@dataclass(frozen=True, slots=True)
class TokenCreated:
    """The token is valid from now on."""

    token: str
    """The secret itself, which can't be had again."""


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """The token is not valid any more."""

    name: str


def looks_like_token(text: str) -> bool:
    """Whether a text has the form of a token: what has not needs no look into the database."""
    return _TOKEN.fullmatch(text) is not None


def hash_token(token: str) -> bytes:
    """What is kept of a token: its SHA-256."""
    return hashlib.sha256(token.encode()).digest()


async def create_token(
    conn: Connection,
    name: str,
    scope: str,
    *,
    account: str | None = None,
    expires_at: datetime | None = None,
    by: str,
    now: datetime | None = None,
) -> TokenCreated | Refused:
    """Make a token of a scope (one of SCOPES), which its holder may use until `expires_at`.

    With an account it sees that account only, and its scope is "read".
    """
    if scope not in SCOPES:
        return Refused(f"a scope is one of {', '.join(SCOPES)}")
    if account is not None and scope != "read":
        return Refused("the token of an account can only read")
    if expires_at is not None and expires_at <= (now or datetime.now(UTC)):
        return Refused("the token would have expired already")
    token = PREFIX + secrets.token_urlsafe(_TOKEN_OCTETS)
    async with conn.transaction():
        account_id = None
        if account is not None:
            account_id = await conn.fetchval("SELECT id FROM account WHERE name = $1", account)
            if account_id is None:
                return no_account(account)
        try:
            async with conn.transaction():  # a savepoint, for the CHECK to fail in
                token_id = await conn.fetchval(
                    load("insert_token"), name, hash_token(token), scope, account_id, by, expires_at
                )
        except asyncpg.CheckViolationError:
            return bad_name()
        if token_id is None:
            return Refused(f"there is already a token {name!r}, or was: the log names it")
        of_account = f" for account {account}" if account else ""
        await write_event(
            conn,
            "token_created",
            f"Token {name} created with scope {scope}{of_account} by {by}",
            account_id=account_id or 0,
        )
    return TokenCreated(token)


async def list_tokens(conn: Connection) -> list[dict[str, Any]]:
    """All tokens, revoked and expired ones included, by name; never the secrets."""
    return [dict(row) for row in await conn.fetch(load("tokens"))]


async def revoke_token(conn: Connection, name: str, *, by: str) -> TokenRevoked | Refused:
    """End a token at once; its name is not free again."""
    async with conn.transaction():
        row = await conn.fetchrow(
            "UPDATE api_token SET revoked_at = clock_timestamp(), revoked_by = $2"
            " WHERE name = $1 AND revoked_at IS NULL RETURNING account_id",
            name,
            by,
        )
        if row is None:
            exists = await conn.fetchval("SELECT true FROM api_token WHERE name = $1", name)
            what = "is revoked already" if exists else "does not exist"
            return Refused(f"the token {name!r} {what}")
        await write_event(
            conn,
            "token_revoked",
            f"Token {name} revoked by {by}",
            account_id=row["account_id"] or 0,
        )
    return TokenRevoked(name)


async def find_token(conn: Connection, token: str, *, now: datetime | None = None) -> Token | None:
    """Whose token this is; None when it is unknown, revoked or expired.  Notes that it was used."""
    if not looks_like_token(token):
        return None
    now = now or datetime.now(UTC)
    row = await conn.fetchrow(load("find_token"), hash_token(token), now)
    if row is None:
        return None
    used_at: datetime | None = row["last_used_at"]
    if used_at is None or used_at <= now - USED_EVERY:
        await conn.execute("UPDATE api_token SET last_used_at = $2 WHERE id = $1", row["id"], now)
    return Token(row["id"], row["name"], row["scope"], row["account"])
