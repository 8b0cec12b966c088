"""What happened, for people: accounts, credits, messages and events, read from the stable views.

Every function returns rows as dictionaries with the views' column names; credits are exact
Decimals, times are in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from asyncpg import Connection

from proxy.smpp.vocabulary import status_name
from proxy.store import pages
from proxy.store.sql import Row, dicts, load


async def accounts(conn: Connection) -> list[Row]:
    """All accounts, by name."""
    return dicts(await conn.fetch(load("accounts") + "ORDER BY v.name"))


async def account(conn: Connection, name: str) -> Row | None:
    """One account, or None when there is no such."""
    row = await conn.fetchrow(load("accounts") + "WHERE v.name = $1", name)
    return None if row is None else dict(row)


async def account_exists(conn: Connection, name: str) -> bool:
    """Whether there is such an account."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM account WHERE name = $1)", name))


async def credit_log(
    conn: Connection, account_name: str, *, since: datetime | None = None, limit: int = 50
) -> list[Row]:
    """The changes of an account's credits, newest first, at most `limit`."""
    rows = await pages.credit_log(conn, account_name, since=since, limit=limit)
    return [{key: value for key, value in row.items() if key != "id"} for row in rows]


async def message(conn: Connection, message_id: int) -> Row | None:
    """One message with everything that happened to it, or None when there is no such.

    The row of v_message, and under "history" a list of {at, what, detail} in order of time.
    """
    found = await conn.fetchrow("SELECT * FROM v_message WHERE id = $1", message_id)
    if found is None:
        return None
    row = dict(found)
    steps = await conn.fetch(load("message_history"), row["account"], message_id)
    row["history"] = [
        {"at": step["at"], "what": step["what"], "detail": _detail(step)} for step in steps
    ]
    return row


def _detail(step: Mapping[str, Any]) -> str:
    """The detail of one step; with the status's name when a peer gave one."""
    detail: str = step["detail"] or ""
    status: int | None = step["command_status"]
    return detail if status is None else f"{status_name(status)} from {detail}"


async def events(
    conn: Connection,
    *,
    account: str | None = None,
    kind: str | None = None,
    severity: str | None = None,
    since: datetime | None = None,
    limit: int = 50,
) -> list[Row]:
    """The last `limit` events, oldest first; `severity` is the least that is wanted.

    `since` is about last_at, the newest occurrence that a row counts, so it can be a cursor.
    """
    rows = await conn.fetch(
        load("events"), since or pages.FIRST, limit, account, kind, severity or "debug"
    )
    return dicts(rows)[::-1]
