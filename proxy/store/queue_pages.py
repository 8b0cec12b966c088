"""The durable queue as people see it: what waits, in pages, counted, and what they do about it.

Rows are dictionaries, as those of pages.py.  Whoever looks has to come by an index: there may be
a million messages, and the proxies work on them meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from asyncpg import Connection

from proxy.store.ids import ID_MAX
from proxy.store.outcomes import Refused, no_account
from proxy.store.sql import Row, clean, dicts, load

Key = tuple[datetime, int, str, str, datetime, int]
"""Where a message stands in the order: when its line goes, account, line, route, due_at, id."""
KEY: Final = (datetime, int, str, str, datetime, int)
"""The types of that."""

_BEGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Before every time in the queue."""
_FIRST: Final[Key] = (_BEGIN, 0, "", "", _BEGIN, 0)
_NAME_MAX: Final = 200
_BATCH: Final = 500


Line = tuple[int, str, str]
"""Account, line, route: what one account has to one destination by one route, in order."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Messages of the queue: by their ids, or all of an account, of a route, of both."""

    ids: tuple[int, ...] = ()
    """When there are some, they alone count."""
    account_id: int | None = None
    route: str | None = None


class Wanted(NamedTuple):
    """A message of a selection."""

    account_id: int
    line: str
    route: str
    due_at: datetime
    id: int
    sending: bool
    """It is on its way, and nobody can stop it."""


async def selection(
    conn: Connection,
    *,
    ids: Sequence[int] = (),
    account: str | None = None,
    route: str | None = None,
) -> Selection | Refused:
    """What somebody chose; refused when there is no such account, or nothing was chosen."""
    if ids:
        return Selection(ids=tuple(dict.fromkeys(ids)))
    if account is None and route is None:
        return Refused("nothing was chosen: name messages, an account or a route")
    account_id = None
    if account is not None:
        account_id = await _account_id(conn, account)
        if account_id is None:
            return no_account(account)
    return Selection(account_id=account_id, route=None if route is None else _text(route))


async def next_to_go(
    conn: Connection, *, route: str | None = None, after: Key | None = None, limit: int
) -> list[Row]:
    """Messages of all accounts, the next to go first; each row has its key under "key".

    A message that is put off meanwhile moves back, so a later page may have it once more.
    """
    async with _by_index(conn):
        rows = await conn.fetch(
            load("queue_next"), limit, None if route is None else _text(route), *(after or _FIRST)
        )
    found = dicts(rows)
    for row in found:
        row["key"] = (row.pop("at"), row.pop("account_id"), row.pop("line"), row["route"],
                      row["due_at"], row["id"])  # fmt: skip
        _finish(row)
    return found


async def of_account(
    conn: Connection, account: str, *, route: str | None = None, after: int = 0, limit: int
) -> list[Row]:
    """Messages of one account with larger ids than `after`, oldest first."""
    account_id = await _account_id(conn, account)
    if account_id is None:
        return []
    async with _by_index(conn):
        rows = await conn.fetch(
            load("queue_of_account"),
            account_id,
            after,
            limit,
            None if route is None else _text(route),
        )
    found = dicts(rows)
    for row in found:
        del row["account_id"], row["line"]
        _finish(row)
    return found


def _finish(row: Row) -> None:
    row["state"] = "sending" if row.pop("sending") else "queued"
    if row["state"] == "sending":
        row["next_at"] = None


async def message(conn: Connection, message_id: int) -> Row | None:
    """Everything about one message of the queue but its text; None: it is not there.

    "before_it" counts the messages to the same destination that go before it.
    """
    async with _by_index(conn):
        found = await conn.fetchrow(load("queue_message"), message_id)
    if found is None:
        return None
    row = dict(found)
    _finish(row)
    return row


async def summary(conn: Connection, account: str | None = None) -> list[Row]:
    """How much waits, by route: messages, sending, scheduled (for later), oldest_at.

    `oldest_at` is since when the oldest of them might have gone; None: all are scheduled.  This
    counts every message: a million take some tenths of a second.
    """
    account_id = None
    if account is not None:
        account_id = await _account_id(conn, account)
        if account_id is None:
            return []
    of_account = "" if account_id is None else " WHERE account_id = $1"
    arguments = () if account_id is None else (account_id,)
    rows = await conn.fetch(
        "SELECT route, count(*) AS messages,"  # noqa: S608 - no value stands in it
        " count(*) FILTER (WHERE due_at > now()) AS scheduled,"
        " min(due_at) FILTER (WHERE due_at <= now()) AS oldest_at"
        f" FROM queued{of_account} GROUP BY route ORDER BY route",
        *arguments,
    )
    sending = await conn.fetch(
        "SELECT route, count(*) AS messages FROM queued"  # noqa: S608
        f"{of_account or ' WHERE true'} AND sending GROUP BY route",
        *arguments,
    )
    on_their_way = {row["route"]: row["messages"] for row in sending}
    return [{**row, "sending": on_their_way.get(row["route"], 0)} for row in rows]


async def waits_for(conn: Connection, route: str) -> bool:
    """Whether anything waits for a route."""
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM queue_line WHERE claimed_by IS NULL AND route = $1)"
            " OR EXISTS (SELECT FROM queue_line WHERE claimed_by IS NOT NULL AND route = $1)",
            route,
        )
    )


async def count(conn: Connection, chosen: Selection) -> int:
    """How many messages a selection has now."""
    if chosen.ids:
        return len(await _by_ids(conn, chosen.ids))
    low, high = _accounts(chosen)
    return int(
        await conn.fetchval(
            "SELECT count(*) FROM queued WHERE account_id BETWEEN $1 AND $2"
            " AND ($3::text IS NULL OR route = $3)",
            low,
            high,
            chosen.route,
        )
    )


async def batches(
    conn: Connection, chosen: Selection, until_id: int = ID_MAX
) -> AsyncIterator[list[Wanted]]:
    """The messages of a selection, up to 500 at a time, in the order of their lines.

    `until_id`: those with larger ids came later, and are not among them.
    """
    if chosen.ids:
        found = await _by_ids(conn, chosen.ids)
        for start in range(0, len(found), _BATCH):
            yield found[start : start + _BATCH]
        return
    low, high = _accounts(chosen)
    behind: tuple[str, str, datetime, int] = ("", "", _BEGIN, 0)
    while True:
        async with _by_index(conn, in_its_order=True):
            rows = await conn.fetch(
                load("queue_wanted"), low, high, chosen.route, until_id, _BATCH, *behind
            )
        if rows:
            yield [Wanted(*row) for row in rows]
        if len(rows) < _BATCH:
            return
        low, *rest, _ = rows[-1]
        behind = (rest[0], rest[1], rest[2], rest[3])


async def lines(conn: Connection, chosen: Selection) -> AsyncIterator[list[Line]]:
    """The lines that a selection has messages in, up to 500 at a time, in order."""
    if chosen.ids:
        found = [one[:3] for one in await _by_ids(conn, chosen.ids)]
        yield list(dict.fromkeys(found))
        return
    low, high = _accounts(chosen)
    behind = ("", "")
    while True:
        async with _by_index(conn, in_its_order=True):
            rows = await conn.fetch(load("queue_lines"), low, high, chosen.route, _BATCH, *behind)
        if rows:
            yield [(row[0], row[1], row[2]) for row in rows]
        if len(rows) < _BATCH:
            return
        low, *rest = rows[-1]
        behind = (rest[0], rest[1])


async def retry(conn: Connection, these: list[Line]) -> Counter[int]:
    """Let these lines go now where they wait for another try; how many did, by account."""
    async with _by_index(conn):
        rows = await conn.fetch(
            load("retry_lines"),
            [account_id for account_id, _, _ in these],
            [line for _, line, _ in these],
            [route for _, _, route in these],
        )
    return Counter(row["account_id"] for row in rows)


def _accounts(chosen: Selection) -> tuple[int, int]:
    """From which account to which; ids of accounts begin with 1."""
    if chosen.account_id is None:
        return 0, ID_MAX
    return chosen.account_id, chosen.account_id


async def _by_ids(conn: Connection, ids: tuple[int, ...]) -> list[Wanted]:
    async with _by_index(conn):
        rows = await conn.fetch(load("queue_wanted_ids"), list(ids))
    return [Wanted(*row) for row in rows]


async def _account_id(conn: Connection, name: str) -> int | None:
    found: int | None = await conn.fetchval("SELECT id FROM account WHERE name = $1", _text(name))
    return found


def _text(text: str) -> str:
    return clean(text, _NAME_MAX)


_NEVER: Final = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan")
_NEVER_SORTED: Final = (*_NEVER, "enable_sort", "enable_incremental_sort")


@asynccontextmanager
async def _by_index(conn: Connection, *, in_its_order: bool = False) -> AsyncIterator[None]:
    """A transaction in which index lookups are planned, whatever size the tables had last.

    `in_its_order`: what is wanted has the order of an index, so nothing is to be sorted.
    """
    async with conn.transaction():
        await conn.execute(
            "SELECT set_config(name, 'off', true) FROM unnest($1::text[]) AS name",
            _NEVER_SORTED if in_its_order else _NEVER,
        )
        yield
