"""Lists that are read a page at a time, by keys: right while rows are added.

A page begins behind the key of the last row that was read, so what is added meanwhile neither
moves a row into the next page nor out of it.  Rows are dictionaries with the names of the stable
views; messages, ledger rows and events come newest first, accounts in order of creation.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asyncpg import Connection

from proxy.store.ids import NODE_BITS, id_at_time
from proxy.store.sql import load

Row = dict[str, Any]

_FIRST: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The epoch of ids: nothing is older."""

_LAST: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""Later moments do not all have an id of 64 bits."""

_ID_MAX: Final = 2**63 - 1

_LOOK_BACK: Final = (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1))
"""The rows that are wanted are nearly always near to where the page begins."""

EventKey = tuple[datetime, datetime, int, str, str]
"""Where an event stands in the order: its minute, time, account id, kind and text."""


def id_of_moment(moment: datetime) -> int:
    """The smallest id of a moment; of the nearest that has one."""
    return id_at_time(min(max(moment, _FIRST), _LAST).timestamp())


async def accounts(
    conn: Connection, *, after: int = 0, name: str | None = None, limit: int
) -> list[Row]:
    """Accounts behind the id `after`, oldest first; with a name only that one."""
    return _rows(await conn.fetch(load("page_accounts"), after, limit, name))


async def messages(
    conn: Connection,
    *,
    account: str | None = None,
    destination: str | None = None,
    state: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int,
) -> list[Row]:
    """Messages with smaller ids than `before`, in [since, until); None filters nothing."""
    filters = (account, destination, state)
    return await _newest(conn, load("page_messages"), since, until, before, limit, filters)


async def credit_log(
    conn: Connection,
    account: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int,
) -> list[Row]:
    """Changes of an account's credits with smaller ids than `before`, in [since, until)."""
    query = load("page_credit_log")
    return await _newest(conn, query, since, until, before, limit, (account,))


async def events(
    conn: Connection,
    *,
    account: str | None = None,
    kind: str | None = None,
    severity: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: EventKey | None = None,
    limit: int,
) -> list[Row]:
    """Events behind the key `before`, first seen in [since, until); severity is the least wanted.

    Each row has its key under "key".
    """
    bottom, top = _FIRST if since is None else since, _LAST if until is None else until
    rows = await conn.fetch(
        load("page_events"),
        limit,
        min(max(bottom, _FIRST), _LAST),
        min(max(top, _FIRST), _LAST),
        account,
        kind,
        severity or "debug",
        *(before or (_LAST, _LAST, 0, "", "")),
    )
    found = _rows(rows)
    for row in found:
        key = (row.pop("minute"), row["at"], row.pop("account_id"), row["kind"], row["text"])
        row["key"] = key
    return found


async def _newest(
    conn: Connection,
    query: str,
    since: datetime | None,
    until: datetime | None,
    before: int | None,
    limit: int,
    filters: Sequence[str | None],
) -> list[Row]:
    """Rows of a query that takes (smaller than this id, from that one on, limit, filters…)."""
    bottom = 0 if since is None else id_of_moment(since)
    top = _ID_MAX if until is None else id_of_moment(until)
    if before is not None:
        top = min(top, before)
    newest = min(top, id_of_moment(datetime.now(UTC)))
    for look_back in _LOOK_BACK:
        from_id = newest - (int(look_back.total_seconds() * 1e6) << NODE_BITS)
        if from_id <= bottom:
            break
        rows = await conn.fetch(query, top, from_id, limit, *filters)
        if len(rows) >= limit:
            return _rows(rows)
    return _rows(await conn.fetch(query, top, bottom, limit, *filters))


def _rows(records: list[Any]) -> list[Row]:
    return [dict(record) for record in records]
