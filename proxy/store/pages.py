"""Lists that are read a page at a time, by keys: right while rows are added.

A page begins behind the key of the last row that was read, so what is added meanwhile neither
moves a row into the next page nor out of it.  Rows are dictionaries with the names of the stable
views, credits exact Decimals, times in UTC; messages, ledger rows and events come newest first,
accounts in order of creation.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from asyncpg import Connection

from proxy.store.ids import ID_MAX, NODE_BITS, id_at_time
from proxy.store.sql import Row, dicts, load

FIRST: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The epoch of ids: nothing is older."""

_LAST: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""Later moments do not all have an id of 64 bits."""

_LOOK_BACK: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 60, 1440, 14400))
"""The rows that are wanted are nearly always near to where the page begins."""

EventKey = tuple[datetime, datetime, int, str, str]
"""Where an event stands in the order: its minute, time, account id, kind and text."""
EVENT_KEY: Final = (datetime, datetime, int, str, str)
"""The types of that."""


def id_of_moment(moment: datetime) -> int:
    """The smallest id of a moment; of the nearest that has one."""
    return id_at_time(min(max(moment, FIRST), _LAST).timestamp())


async def accounts(
    conn: Connection, *, after: int = 0, name: str | None = None, limit: int
) -> list[Row]:
    """Accounts behind the id `after`, oldest first; with a name only that one."""
    return dicts(await conn.fetch(load("page_accounts"), after, limit, name))


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
    """Messages with smaller ids than `before`, in [since, until); None filters nothing.

    `destination` also finds the submit_multi that has it among its destinations; `state` is one
    of held, in_doubt, accepted, charged, released.
    """
    filters = (account, destination, state)
    return await newest(
        conn, load("page_messages"), filters, since=since, until=until, before=before, limit=limit
    )


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
    return await newest(
        conn,
        load("page_credit_log"),
        (account,),
        since=since,
        until=until,
        before=before,
        limit=limit,
    )


async def events(
    conn: Connection,
    *,
    account: str | None = None,
    kind: str | None = None,
    severity: str | None = None,
    text: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: EventKey | None = None,
    limit: int,
) -> list[Row]:
    """Events behind the key `before`, first seen in [since, until); severity is the least wanted.

    `text` is in the event's text, in whatever case, or is its kind.  Each row has its key under
    "key".
    """
    bottom, top = FIRST if since is None else since, _LAST if until is None else until
    rows = await conn.fetch(
        load("page_events"),
        limit,
        min(max(bottom, FIRST), _LAST),
        min(max(top, FIRST), _LAST),
        account,
        kind,
        severity or "debug",
        *(before or (_LAST, _LAST, 0, "", "")),
        text and text.lower(),
    )
    found = dicts(rows)
    for row in found:
        key = (row.pop("minute"), row["at"], row.pop("account_id"), row["kind"], row["text"])
        row["key"] = key
    return found


async def newest(
    conn: Connection,
    query: str,
    filters: Sequence[str | None],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int,
) -> list[Row]:
    """Rows by id; the query takes $1 smaller than this id, $2 from that one on, $3 limit, filters.

    Looks back further and further from where the page begins, because the tables hold months and
    the newest partitions nearly always have enough.
    """
    bottom = 0 if since is None else id_of_moment(since)
    top = ID_MAX if until is None else id_of_moment(until)
    if before is not None:
        top = min(top, before)
    begins = min(top, id_of_moment(datetime.now(UTC)))
    for look_back in _LOOK_BACK:
        from_id = begins - (int(look_back.total_seconds() * 1e6) << NODE_BITS)
        if from_id <= bottom:
            break
        rows = await conn.fetch(query, top, from_id, limit, *filters)
        if len(rows) >= limit:
            return dicts(rows)
    return dicts(await conn.fetch(query, top, bottom, limit, *filters))
