"""The people who run the proxy, and the link with which the first of them is made."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, Literal, TypeVar, get_args

import asyncpg
from asyncpg import Connection

from proxy.store.events import write_event
from proxy.store.outcomes import NotFound, Refused, bad_name
from proxy.store.passwords import hash_password, verify_password

Result = TypeVar("Result")
Scope = Literal["read", "credit", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""Each may do what the former may."""

PASSWORD_MIN: Final = 10
PASSWORD_MAX: Final = 200
SETUP_LINK_LIFE: Final = timedelta(hours=24)
TOKEN_BYTES: Final = 32

_HASHERS: Final = ThreadPoolExecutor(2, thread_name_prefix="operator-password")
"""A hash takes 20 ms of a core and 19 MiB, and messages are waiting."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who may sign in."""

    id: int
    name: str
    scope: Scope

    def may(self, scope: Scope) -> bool:
        """Whether that is among what this operator may do."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


@dataclass(frozen=True, slots=True)
class Done:
    """The operator is as was asked."""

    operator: Operator


def hash_of_token(token: str) -> bytes:
    """What is stored of a random token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def password_problem(password: str) -> str | None:
    """Why a password can't be taken, or None."""
    if len(password) < PASSWORD_MIN:
        return f"a password has at least {PASSWORD_MIN} characters"
    if len(password) > PASSWORD_MAX:
        return f"a password has at most {PASSWORD_MAX} characters"
    return None


async def add(
    conn: Connection, name: str, password: str, scope: Scope, *, by: str
) -> Done | Refused:
    """Make an operator; writes an event."""
    problem = password_problem(password)
    if problem is not None:
        return Refused(problem)
    password_hash = await _in_thread(hash_password, password)
    async with conn.transaction():
        return await _insert(conn, name, password_hash, scope, by)


async def _insert(
    conn: Connection, name: str, password_hash: str, scope: Scope, by: str
) -> Done | Refused:
    try:
        async with conn.transaction():  # a savepoint, for the CHECK to fail in
            operator_id = await conn.fetchval(
                "INSERT INTO operator (name, password_hash, scope, created_by)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING RETURNING id",
                name,
                password_hash,
                scope,
                by,
            )
    except (asyncpg.CheckViolationError, asyncpg.CharacterNotInRepertoireError):
        return bad_name()
    if operator_id is None:
        return Refused(f"there is already an operator {name!r}")
    await write_event(conn, "operator_added", f"Operator {name} added ({scope}) by {by}")
    return Done(Operator(operator_id, name, scope))


async def verify(conn: Connection, name: str, password: str) -> Operator | None:
    """The operator whose name and password these are; takes as long for an unknown name."""
    row = await conn.fetchrow(
        "SELECT id, name, scope, enabled, password_hash FROM operator WHERE name = $1",
        name.replace("\0", ""),
    )
    password_hash = None if row is None else row["password_hash"]
    right = await _in_thread(_verify, password_hash, password[: PASSWORD_MAX + 1])
    if row is None or not right or not row["enabled"]:
        return None
    return Operator(row["id"], row["name"], row["scope"])


async def set_password(conn: Connection, name: str, password: str, *, by: str) -> Done | Refused:
    """Give an operator another password; ends all sessions of theirs."""
    problem = password_problem(password)
    if problem is not None:
        return Refused(problem)
    password_hash = await _in_thread(hash_password, password)
    async with conn.transaction():
        row = await conn.fetchrow(
            "UPDATE operator SET password_hash = $2 WHERE name = $1 RETURNING id, name, scope",
            name,
            password_hash,
        )
        if row is None:
            return _nobody(name)
        await _end_sessions(conn, row["id"])
        await write_event(conn, "operator_changed", f"Password of operator {name} set by {by}")
    return Done(Operator(**row))


async def set_scope(conn: Connection, name: str, scope: Scope, *, by: str) -> Done | Refused:
    """Let an operator do more or less, from the next request on."""
    async with conn.transaction():
        if scope != "admin" and await _is_last_admin(conn, name):
            return Refused(f"{name} is the only administrator")
        row = await conn.fetchrow(
            "UPDATE operator SET scope = $2 WHERE name = $1 RETURNING id, name, scope", name, scope
        )
        if row is None:
            return _nobody(name)
        await write_event(
            conn, "operator_changed", f"Scope of operator {name} set to {scope} by {by}"
        )
    return Done(Operator(**row))


async def set_enabled(conn: Connection, name: str, enabled: bool, *, by: str) -> Done | Refused:
    """Keep an operator out, or let them in again; keeping out ends their sessions."""
    async with conn.transaction():
        if not enabled and await _is_last_admin(conn, name):
            return Refused(f"{name} is the only administrator")
        row = await conn.fetchrow(
            "UPDATE operator SET enabled = $2 WHERE name = $1 RETURNING id, name, scope",
            name,
            enabled,
        )
        if row is None:
            return _nobody(name)
        if not enabled:
            await _end_sessions(conn, row["id"])
        word = "enabled" if enabled else "disabled"
        await write_event(conn, "operator_changed", f"Operator {name} {word} by {by}")
    return Done(Operator(**row))


def _nobody(name: str) -> NotFound:
    return NotFound(f"there is no operator {name!r}")


async def _end_sessions(conn: Connection, operator_id: int) -> None:
    await conn.execute("DELETE FROM web_session WHERE operator_id = $1", operator_id)


async def _is_last_admin(conn: Connection, name: str) -> bool:
    """Whether nobody could undo it; until the transaction ends nobody else asks."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtext('smpp_proxy_operators'))")
    admins = await conn.fetch("SELECT name FROM operator WHERE scope = 'admin' AND enabled")
    return [row["name"] for row in admins] == [name]


async def all_operators(conn: Connection) -> list[dict[str, Any]]:
    """name, scope, enabled, created_at, created_by, signed_in_at and sessions, by name."""
    rows = await conn.fetch(
        "SELECT name, scope::text, enabled, created_at, created_by, signed_in_at,"
        " (SELECT count(*) FROM web_session s WHERE s.operator_id = o.id) AS sessions"
        " FROM operator o ORDER BY name"
    )
    return [dict(row) for row in rows]


async def find(conn: Connection, name: str) -> dict[str, Any] | None:
    """One row of all_operators, or None."""
    return next((row for row in await all_operators(conn) if row["name"] == name), None)


# ------------------------------------------------------------------------- the first one


async def setup_link(conn: Connection, now: datetime | None = None) -> str | None:
    """A new token for /setup?token=…, or None when there is an operator already.

    Replaces the link of an earlier start.  Only its hash is stored, so it can't be shown again.
    """
    now = now or datetime.now(UTC)
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(hashtext('smpp_proxy_operators'))")
        await conn.execute("DELETE FROM setup_link WHERE expires_at <= $1", now)
        if await conn.fetchval("SELECT EXISTS (SELECT FROM operator)"):
            await conn.execute("DELETE FROM setup_link")
            return None
        token = secrets.token_urlsafe(TOKEN_BYTES)
        await conn.execute(
            "INSERT INTO setup_link (hash, expires_at) VALUES ($1, $2)",
            hash_of_token(token),
            now + SETUP_LINK_LIFE,
        )
    return token


async def setup_link_is_good(conn: Connection, token: str, now: datetime) -> bool:
    """Whether the first operator can be made with it."""
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM setup_link WHERE hash = $1 AND expires_at > $2)"
            " AND NOT EXISTS (SELECT FROM operator)",
            hash_of_token(token),
            now,
        )
    )


async def use_setup_link(
    conn: Connection, token: str, name: str, password: str, now: datetime
) -> Done | Refused:
    """Make the first operator, who may do everything, and use up every link."""
    problem = password_problem(password)
    if problem is not None:
        return Refused(problem)
    if not await setup_link_is_good(conn, token, now):  # before the expensive part
        return Refused("this link has been used or is too old")
    password_hash = await _in_thread(hash_password, password)
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(hashtext('smpp_proxy_operators'))")
        if not await setup_link_is_good(conn, token, now):
            return Refused("this link has been used or is too old")
        outcome = await _insert(conn, name, password_hash, "admin", "the set-up link")
        if isinstance(outcome, Done):
            await conn.execute("DELETE FROM setup_link")
        return outcome


async def _in_thread(work: Callable[..., Result], *args: Any) -> Result:
    return await asyncio.get_running_loop().run_in_executor(_HASHERS, work, *args)


def _verify(password_hash: str | None, password: str) -> bool:
    # Where there is no such name something is verified all the same: it takes as long.
    return verify_password(password_hash or _hash_of_nobody(), password)


@cache
def _hash_of_nobody() -> str:
    return hash_password(secrets.token_hex())
