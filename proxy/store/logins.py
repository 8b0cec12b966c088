"""The logins of an account: system_ids and passwords."""

from __future__ import annotations

import asyncio

from asyncpg import Connection

from proxy.store.accounts import Changed, LoginAdded, insert_login
from proxy.store.events import write_event
from proxy.store.outcomes import Refused, no_account
from proxy.store.passwords import hash_password


async def list_logins(conn: Connection, account: str) -> list[str] | None:
    """The system_ids of an account, oldest first; None when there is no such account."""
    rows = await conn.fetch(
        "SELECT l.system_id FROM account a LEFT JOIN login l ON l.account_id = a.id"
        " WHERE a.name = $1 ORDER BY l.id",
        account,
    )
    return [row["system_id"] for row in rows if row["system_id"] is not None] if rows else None


async def add_login(
    conn: Connection, account: str, system_id: str, password: str, *, by: str
) -> LoginAdded | Refused:
    """One more login for an account; system_ids are unique over all accounts."""
    password_hash = await asyncio.to_thread(hash_password, password)
    async with conn.transaction():
        account_id = await _account_id(conn, account)
        if account_id is None:
            return no_account(account)
        outcome = await insert_login(conn, account_id, system_id, password_hash)
        if isinstance(outcome, Refused):
            return outcome
        await write_event(
            conn, "login_added", f"Login {system_id} added by {by}", account_id=account_id
        )
    return outcome


async def set_password(
    conn: Connection, account: str, system_id: str, password: str, *, by: str
) -> Changed | Refused:
    """A new password for a login; sessions that are bound stay."""
    password_hash = await asyncio.to_thread(hash_password, password)
    async with conn.transaction():
        account_id = await _account_id(conn, account)
        if account_id is None:
            return no_account(account)
        done = await conn.fetchval(
            "UPDATE login SET password_hash = $3 WHERE account_id = $1 AND system_id = $2"
            " RETURNING true",
            account_id,
            system_id,
            password_hash,
        )
        if not done:
            return _no_login(account, system_id)
        await write_event(
            conn, "password_set", f"Password of {system_id} set by {by}", account_id=account_id
        )
    return Changed(account_id)


async def remove_login(
    conn: Connection, account: str, system_id: str, *, by: str
) -> Changed | Refused:
    """Nobody binds with this system_id any more; its sessions end, on every proxy.

    Messages that it sent keep their account, and lose the system_id.
    """
    async with conn.transaction():
        account_id = await _account_id(conn, account)
        if account_id is None:
            return no_account(account)
        done = await conn.fetchval(
            "DELETE FROM login WHERE account_id = $1 AND system_id = $2 RETURNING true",
            account_id,
            system_id,
        )
        if not done:
            return _no_login(account, system_id)
        await write_event(
            conn, "login_removed", f"Login {system_id} removed by {by}", account_id=account_id
        )
    return Changed(account_id)


async def _account_id(conn: Connection, account: str) -> int | None:
    account_id: int | None = await conn.fetchval("SELECT id FROM account WHERE name = $1", account)
    return account_id


def _no_login(account: str, system_id: str) -> Refused:
    return Refused(f"account {account!r} has no login {system_id!r}")
