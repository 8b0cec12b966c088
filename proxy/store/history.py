"""What happened, for people: accounts, credits, messages and events, read from the stable views.

Every function returns rows as dictionaries with the views' column names; credits are exact
Decimals, times are in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asyncpg import Connection

from proxy.smpp.vocabulary import status_name
from proxy.store.sql import load

Row = dict[str, Any]

_BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The epoch of ids: nothing is older."""

_LOOK_BACK: Final = (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1))
"""The newest rows are looked for in the newest partitions first."""


async def accounts(conn: Connection) -> list[Row]:
    """All accounts, by name."""
    return _rows(await conn.fetch(load("accounts") + "ORDER BY v.name"))


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
    return await _newest(conn, load("credit_log"), since, limit, account_name)


async def messages(
    conn: Connection,
    *,
    account: str | None = None,
    destination: str | None = None,
    state: str | None = None,
    since: datetime | None = None,
    limit: int = 50,
) -> list[Row]:
    """Messages, newest first, at most `limit`; a filter that is None lets everything through.

    `destination` also finds the submit_multi that has it among its destinations; `state` is one
    of held, in_doubt, charged, released.
    """
    return await _newest(conn, load("messages"), since, limit, account, destination, state)


async def _newest(
    conn: Connection, query: str, since: datetime | None, limit: int, *filters: str | None
) -> list[Row]:
    """The newest rows of a query that takes (oldest time, limit, filters…).

    Looks back further and further, because the rows wanted are nearly always recent ones and
    the tables hold months.
    """
    oldest = since or _BEGINNING
    now = datetime.now(UTC)
    rows: list[Any] = []
    for look_back in _LOOK_BACK:
        if now - look_back <= oldest:
            break
        rows = await conn.fetch(query, now - look_back, limit, *filters)
        if len(rows) >= limit:
            return _rows(rows)
    return _rows(await conn.fetch(query, max(oldest, _BEGINNING), limit, *filters))


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
        load("events"), since or _BEGINNING, limit, account, kind, severity or "debug"
    )
    return _rows(rows)[::-1]


def _rows(records: list[Mapping[str, Any]]) -> list[Row]:
    return [dict(record) for record in records]
