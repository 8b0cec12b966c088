"""Accounts (who pays), their logins (system_ids) and their inbound address patterns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
from asyncpg import Connection

from proxy.credit.rules import Patterns, Rules
from proxy.store.credit import add_credit
from proxy.store.events import write_event
from proxy.store.ids import IdMint
from proxy.store.outcomes import NotFound, Refused, bad_name, no_account
from proxy.store.passwords import hash_password
from proxy.store.sql import load

Outcome = TypeVar("Outcome")

SYSTEM_ID_OCTETS = 15
"""SMPP 3.4 section 5.2.1: a C-octet string of at most 16 with its NUL."""


@dataclass(frozen=True, slots=True)
class LoginRow:
    """What a bind needs to know of a system_id and of the account that pays for it."""

    login_id: int
    account_id: int
    account_name: str
    system_id: str
    password_hash: str
    enabled: bool
    rules: Rules


@dataclass(frozen=True, slots=True)
class Created:
    """The account is there, with one login."""

    account_id: int
    login_id: int


@dataclass(frozen=True, slots=True)
class LoginAdded:
    """The account has one more login."""

    login_id: int


@dataclass(frozen=True, slots=True)
class Changed:
    """The account has the new values."""

    account_id: int


async def create(
    conn: Connection,
    name: str,
    *,
    password: str,
    system_id: str | None = None,
    credit_micro: int = 0,
    by: str,
    mint: IdMint,
) -> Created | Refused:
    """Create an account with a login (named like the account unless said) and its first credits.

    One transaction: all of it or nothing.
    """
    password_hash = await asyncio.to_thread(hash_password, password)

    async def work() -> Created | Refused:
        outcome = await _create(conn, name, system_id or name, password_hash)
        if isinstance(outcome, Created):
            text = f"Account created by {by}"
            await write_event(conn, "account_created", text, account_id=outcome.account_id)
        if isinstance(outcome, Created) and credit_micro:
            added = await add_credit(conn, name, credit_micro, by=by, mint=mint)
            if isinstance(added, Refused):
                return added
        return outcome

    return await all_or_nothing(conn, work(), Created)


async def all_or_nothing(conn: Connection, work: Awaitable[Outcome], done: type) -> Outcome:
    """Run in one transaction, which is rolled back when the outcome is a refusal."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        outcome = await work
    except BaseException:
        await transaction.rollback()
        raise
    await (transaction.commit() if isinstance(outcome, done) else transaction.rollback())
    return outcome


async def _create(
    conn: Connection, name: str, system_id: str, password_hash: str
) -> Created | Refused:
    try:
        account_id = await conn.fetchval(
            "INSERT INTO account (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id", name
        )
    except asyncpg.CheckViolationError:
        return bad_name()
    if account_id is None:
        return Refused(f"there is already an account {name!r}")
    login = await insert_login(conn, account_id, system_id, password_hash)
    return Created(account_id, login.login_id) if isinstance(login, LoginAdded) else login


async def insert_login(
    conn: Connection, account_id: int, system_id: str, password_hash: str
) -> LoginAdded | Refused:
    """Add a login to an account."""
    if not 0 < len(system_id.encode()) <= SYSTEM_ID_OCTETS:
        return Refused(f"a system_id has 1 to {SYSTEM_ID_OCTETS} octets: {system_id!r} has not")
    login_id = await conn.fetchval(load("insert_login"), account_id, system_id, password_hash)
    if login_id is None:
        return Refused(f"the system_id {system_id!r} is taken")
    return LoginAdded(login_id)


async def set_enabled(conn: Connection, name: str, enabled: bool, *, by: str) -> Changed | NotFound:
    """Let an account in, or keep it out; its sessions are told by every proxy at once."""
    async with conn.transaction():
        account_id = await conn.fetchval(
            "UPDATE account SET enabled = $2 WHERE name = $1 RETURNING id", name, enabled
        )
        if account_id is None:
            return no_account(name)
        text = f"Account {'enabled' if enabled else 'disabled'} by {by}"
        await write_event(conn, "account_changed", text, account_id=account_id)
    return Changed(account_id)


async def find_login(conn: Connection, system_id: str) -> LoginRow | None:
    """The login of a system_id, or None when nobody has it."""
    row = await conn.fetchrow(load("logins") + "WHERE l.system_id = $1", system_id)
    return None if row is None else _login(row)


def _login(row: Mapping[str, Any]) -> LoginRow:
    values = dict(row)
    names = ("login_id", "account_id", "account_name", "system_id", "password_hash", "enabled")
    login = {name: values.pop(name) for name in names}
    for name in ("allowed_senders", "allowed_prefixes"):
        if values[name] is not None:
            values[name] = Patterns(values[name])
    return LoginRow(**login, rules=Rules(**values))


async def logins_of_accounts(conn: Connection, account_ids: Sequence[int]) -> list[LoginRow]:
    """All logins of some accounts, for refreshing what a proxy remembers of them."""
    rows = await conn.fetch(load("logins") + "WHERE l.account_id = ANY ($1)", list(account_ids))
    return [_login(row) for row in rows]


async def balance(conn: Connection, account_id: int) -> tuple[int, int]:
    """The balance of an account and its credit limit, in micro-credits."""
    row = await conn.fetchrow(
        "SELECT balance_micro, credit_limit_micro FROM account WHERE id = $1", account_id
    )
    return row["balance_micro"], row["credit_limit_micro"]


async def available(conn: Connection, account_ids: Sequence[int]) -> list[tuple[int, int]]:
    """What accounts have left to spend, in micro-credits."""
    rows = await conn.fetch(
        "SELECT id, balance_micro + credit_limit_micro - reserved_micro AS micro"
        " FROM account WHERE id = ANY ($1)",
        list(account_ids),
    )
    return [(row["id"], row["micro"]) for row in rows]


async def id_of(conn: Connection, name: str) -> int | None:
    """The id of an account, or None when there is no such."""
    found: int | None = await conn.fetchval("SELECT id FROM account WHERE name = $1", name)
    return found


async def all_inbound(conn: Connection) -> list[tuple[str, int]]:
    """Every inbound pattern with the account it belongs to."""
    rows = await conn.fetch("SELECT pattern, account_id FROM inbound ORDER BY pattern")
    return [(row["pattern"], row["account_id"]) for row in rows]
