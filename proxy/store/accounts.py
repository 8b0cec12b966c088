"""Accounts (who pays), their logins (system_ids) and their inbound address patterns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
from asyncpg import Connection

from proxy.credit.money import micro_from_text
from proxy.store.credit import Refused, add_credit, in_words
from proxy.store.ids import IdMint
from proxy.store.passwords import hash_password
from proxy.store.sql import load

Outcome = TypeVar("Outcome")

MAX_BINDS_MAX = 2**31 - 1
STATUS_MAX = 0xFFFF_FFFF
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
    max_binds: int
    insufficient_status: int | None
    """The account's own command_status for "insufficient credits", or None for the default."""


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
class NameTaken:
    """There is an account of this name; nothing was changed."""

    name: str

    @property
    def reason(self) -> str:
        """One sentence for people."""
        return f"there is already an account {self.name!r}"


@dataclass(frozen=True, slots=True)
class SystemIdTaken:
    """An account, this or another, logs in with this system_id; nothing was changed."""

    system_id: str

    @property
    def reason(self) -> str:
        """One sentence for people."""
        return f"the system_id {self.system_id!r} is taken"


@dataclass(frozen=True, slots=True)
class NotFound:
    """There is no such account."""

    name: str

    @property
    def reason(self) -> str:
        """One sentence for people."""
        return f"there is no account {self.name!r}"


@dataclass(frozen=True, slots=True)
class Changed:
    """The account has the new values."""

    account_id: int


@dataclass(frozen=True, slots=True)
class AccountChanges:
    """New values for an account; None leaves a value as it is."""

    max_binds: int | None = None
    credit_limit_micro: int | None = None
    insufficient_status: int | None = None
    """A command_status; 0 goes back to the configured one."""
    inbound: tuple[str, ...] | None = None
    """Address patterns that replace all the account has."""
    password: str | None = None
    system_id: str | None = None
    """The login whose password is set; one that does not exist is added."""


def changes_from_text(values: Mapping[str, str]) -> AccountChanges:
    """Read values such as {"max_binds": "4", "inbound": "4477*,447700900123"}.

    Raises ValueError, with a sentence for people, for an unknown key or an unreadable value.
    """
    known: dict[str, Any] = {}
    for key, text in values.items():
        if key == "max_binds":
            known[key] = _whole_number(key, text, MAX_BINDS_MAX)
        elif key == "credit_limit":
            known["credit_limit_micro"] = _credit_limit(text)
        elif key == "insufficient_status":
            default = text in {"", "default"}
            known[key] = 0 if default else _whole_number(key, text, STATUS_MAX, smallest=1)
        elif key == "inbound":
            known[key] = tuple(dict.fromkeys(p.strip() for p in text.split(",") if p.strip()))
        elif key in {"password", "system_id"}:
            if not text:
                raise ValueError(f"{key} is empty")
            known[key] = text
        else:
            raise ValueError(
                f"unknown key {key!r}: max_binds, credit_limit, insufficient_status, inbound, "
                "password and system_id can be set"
            )
    return AccountChanges(**known)


def _whole_number(key: str, text: str, largest: int, smallest: int = 0) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        raise ValueError(f"{key}: {text!r} is not a whole number") from None
    if not smallest <= number <= largest:
        raise ValueError(f"{key}: {text!r} is not between {smallest} and {largest}")
    return number


def _credit_limit(text: str) -> int:
    micro = micro_from_text(text)
    if micro < 0:
        raise ValueError("credit_limit is how far the balance may go below zero: 0 or more")
    return micro


async def create(
    conn: Connection,
    name: str,
    *,
    password: str,
    system_id: str | None = None,
    credit_micro: int = 0,
    by: str,
    mint: IdMint,
) -> Created | NameTaken | SystemIdTaken | Refused:
    """Create an account with a login (named like the account unless said) and its first credits.

    One transaction: all of it or nothing.
    """
    password_hash = await asyncio.to_thread(hash_password, password)

    async def work() -> Created | NameTaken | SystemIdTaken | Refused:
        outcome = await _create(conn, name, system_id or name, password_hash)
        if isinstance(outcome, Created) and credit_micro:
            added = await add_credit(conn, name, credit_micro, by=by, mint=mint)
            if isinstance(added, Refused):
                return added
        return outcome

    return await _all_or_nothing(conn, work(), Created)


async def _all_or_nothing(conn: Connection, work: Awaitable[Outcome], done: type) -> Outcome:
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
) -> Created | NameTaken | SystemIdTaken | Refused:
    try:
        account_id = await conn.fetchval(
            "INSERT INTO account (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id", name
        )
    except asyncpg.CheckViolationError:
        return Refused("a name is 1 to 64 of the characters A-Z a-z 0-9 _ . @ -")
    if account_id is None:
        return NameTaken(name)
    login = await _insert_login(conn, account_id, system_id, password_hash)
    return Created(account_id, login.login_id) if isinstance(login, LoginAdded) else login


async def _insert_login(
    conn: Connection, account_id: int, system_id: str, password_hash: str
) -> LoginAdded | SystemIdTaken | Refused:
    if not 0 < len(system_id.encode()) <= SYSTEM_ID_OCTETS:
        return Refused(f"a system_id has 1 to {SYSTEM_ID_OCTETS} octets: {system_id!r} has not")
    login_id = await conn.fetchval(load("insert_login"), account_id, system_id, password_hash)
    return SystemIdTaken(system_id) if login_id is None else LoginAdded(login_id)


async def set_values(
    conn: Connection, name: str, changes: AccountChanges
) -> Changed | NotFound | SystemIdTaken | Refused:
    """Change an account; one transaction, and every proxy is told by the table's trigger."""
    password_hash = None
    if changes.password is not None:
        password_hash = await asyncio.to_thread(hash_password, changes.password)
    work = _set_values(conn, name, changes, password_hash)
    return await _all_or_nothing(conn, work, Changed)


async def _set_values(
    conn: Connection, name: str, changes: AccountChanges, password_hash: str | None
) -> Changed | NotFound | SystemIdTaken | Refused:
    account = await conn.fetchrow(load("lock_account"), name)
    if account is None:
        return NotFound(name)
    account_id: int = account["id"]
    limit_micro = changes.credit_limit_micro
    try:
        async with conn.transaction():  # a savepoint, for the CHECK to fail in
            await conn.execute(
                load("set_account"),
                account_id,
                changes.max_binds,
                limit_micro,
                changes.insufficient_status,
            )
    except asyncpg.CheckViolationError as error:
        if error.constraint_name != "no_overdraft":
            raise
        owed = in_words(-account["balance_micro"])
        return Refused(f"the account owes {owed}: its credit limit can't be lower")
    if changes.inbound is not None:
        refusal = await _replace_inbound(conn, account_id, changes.inbound)
        if refusal is not None:
            return refusal
    if password_hash is not None or changes.system_id is not None:
        return await _set_login(conn, account_id, changes.system_id, password_hash)
    return Changed(account_id)


async def _replace_inbound(
    conn: Connection, account_id: int, patterns: Sequence[str]
) -> Refused | None:
    await conn.execute(
        "DELETE FROM inbound WHERE account_id = $1 AND pattern <> ALL ($2)",
        account_id,
        list(patterns),
    )
    try:
        async with conn.transaction():
            await conn.execute(load("insert_inbound"), account_id, list(patterns))
    except asyncpg.CheckViolationError:
        return Refused("an inbound pattern is an address, or a prefix that ends in '*'")
    taken = await conn.fetchrow(load("inbound_of_others"), account_id, list(patterns))
    if taken is not None:
        return Refused(f"inbound {taken['pattern']!r} belongs to account {taken['name']!r}")
    return None


async def _set_login(
    conn: Connection, account_id: int, system_id: str | None, password_hash: str | None
) -> Changed | SystemIdTaken | Refused:
    """Set the password of one login, or add a login."""
    logins = await conn.fetch(
        "SELECT id, system_id FROM login WHERE account_id = $1 ORDER BY id", account_id
    )
    if system_id is None:
        if len(logins) != 1:
            names = ", ".join(login["system_id"] for login in logins)
            return Refused(f"say whose password with system_id=…, one of: {names}")
        system_id = logins[0]["system_id"]
    if password_hash is None:
        return Refused(f"the system_id {system_id!r} needs a password=… as well")
    if system_id not in [login["system_id"] for login in logins]:
        added = await _insert_login(conn, account_id, system_id, password_hash)
        return Changed(account_id) if isinstance(added, LoginAdded) else added
    await conn.execute(
        "UPDATE login SET password_hash = $2 WHERE system_id = $1", system_id, password_hash
    )
    return Changed(account_id)


async def set_enabled(conn: Connection, name: str, enabled: bool) -> Changed | NotFound:
    """Let an account in, or keep it out; its sessions are told by every proxy at once."""
    account_id = await conn.fetchval(
        "UPDATE account SET enabled = $2 WHERE name = $1 RETURNING id", name, enabled
    )
    return NotFound(name) if account_id is None else Changed(account_id)


async def find_login(conn: Connection, system_id: str) -> LoginRow | None:
    """The login of a system_id, or None when nobody has it."""
    row = await conn.fetchrow(load("logins") + "WHERE l.system_id = $1", system_id)
    return None if row is None else LoginRow(**row)


async def logins_of_accounts(conn: Connection, account_ids: Sequence[int]) -> list[LoginRow]:
    """All logins of some accounts, for refreshing what a proxy remembers of them."""
    rows = await conn.fetch(load("logins") + "WHERE l.account_id = ANY ($1)", list(account_ids))
    return [LoginRow(**row) for row in rows]


async def all_inbound(conn: Connection) -> list[tuple[str, int]]:
    """Every inbound pattern with the account it belongs to."""
    rows = await conn.fetch("SELECT pattern, account_id FROM inbound ORDER BY pattern")
    return [(row["pattern"], row["account_id"]) for row in rows]
