"""Statements: what an account had, what came and went in a period, what it has then, and for what.

Everything is worked out from the ledger and the messages, in one snapshot, so that the figures of
a statement belong together while traffic flows.  Sums are made by the database, rows are read
with a cursor: a month of millions of messages takes no more memory here than a quiet day.

A row belongs to the moment of its id.  Ids are minted a little before the row is written, so a
period may still get rows for some moments after its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

from asyncpg import Connection

from proxy.credit.money import text_from_micro
from proxy.store.sql import load

Row = dict[str, Any]

By = Literal["day", "prefix", "sender", "state", "service"]
"""What usage is grouped by.  The prefix and the service are those of the price that counted; of a
submit_multi that is the price of its first destination."""

FETCH: Final = 1000
"""How many rows are in memory at a time."""

_SETTINGS: Final = ("SET LOCAL enable_partitionwise_join = on", "SET LOCAL work_mem = '64MB'")


class Period(NamedTuple):
    """Whose statement, from when (inclusive) to when (exclusive)."""

    account_id: int
    account: str
    timezone: str
    start: datetime
    end: datetime
    local_start: datetime
    """In the account's time zone, without naming it."""
    local_end: datetime
    first_id: int
    end_id: int


class Total(NamedTuple):
    """The ledger rows of one operation."""

    rows: int
    change: Decimal


@dataclass(frozen=True, slots=True)
class Statement:
    """One account in one period; opening + the changes of `totals` = closing."""

    period: Period
    opening: Decimal
    """The balance before the first row of the period."""
    totals: dict[str, Total]
    """By operation, all of them: also those that there was nothing of."""
    closing: Decimal
    by: By | None
    usage: list[Row]
    """The messages that were submitted in the period: a group each, under the name in `by`, with
    messages, segments, price, released, cost and margin.  Released is what they gave back until
    now, in the period or after it; cost and margin are of those whose cost is known (None: of
    none).  Empty without `by`."""


async def statement(
    conn: Connection,
    account_name: str,
    from_: date | datetime | None,
    to_: date | datetime | None,
    *,
    by: By | None = None,
) -> Statement | None:
    """The statement of an account, or None when there is no such account.

    A moment is a datetime, which without a zone means the account's; from it on, up to but
    without it.  A date is a whole day in the account's time zone, the last one included.  None:
    the first of the month in which the period ends; now.

    Raises ValueError when the period ends before it begins.
    """
    async with snapshot(conn):
        found = await conn.fetchrow(
            load("statement_period"), account_name, *_three_ways(from_), *_three_ways(to_)
        )
        if found is None:
            return None
        row = dict(found)
        if row.pop("backwards"):
            raise ValueError("the period ends before it begins")
        period = Period(**row)
        ids = (period.account_id, period.first_id, period.end_id)
        opening_micro: int = await conn.fetchval(load("statement_opening"), *ids[:2])
        totals = await conn.fetch(load("statement_totals"), *ids)
        usage_rows = [] if by is None else [row async for row in usage(conn, period, by)]
    return Statement(
        period,
        _credits(opening_micro),
        {row["operation"]: Total(row["rows"], _credits(row["micro"])) for row in totals},
        _credits(opening_micro + sum(row["micro"] for row in totals)),
        by,
        usage_rows,
    )


async def usage(conn: Connection, period: Period, by: By) -> AsyncIterator[Row]:
    """The messages of a period in groups, as Statement.usage; to be used in a snapshot()."""
    ids = (period.account_id, period.first_id, period.end_id)
    query = load("statement_usage")
    async for row in conn.cursor(query, *ids, by, period.timezone, prefetch=FETCH):
        group = dict(row)
        yield {by: group.pop("key"), **group}


async def credit_log(conn: Connection, of: Statement) -> AsyncIterator[Row]:
    """The changes of a period, oldest first; to be used in the snapshot() of the statement.

    As `credit log` has them, but the balance is carried forward from the opening balance in the
    order of the rows, so that the last one is the closing balance.
    """
    ids = (of.period.account_id, of.period.first_id, of.period.end_id)
    opening_micro = of.opening.scaleb(6)
    async for row in conn.cursor(load("statement_log"), *ids, opening_micro, prefetch=FETCH):
        yield dict(row)


@asynccontextmanager
async def snapshot(conn: Connection) -> AsyncIterator[None]:
    """A transaction that sees the database as it was when it began; may be nested."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        for setting in _SETTINGS:
            await conn.execute(setting)
        yield


def _three_ways(
    when: date | datetime | None,
) -> tuple[datetime | None, datetime | None, date | None]:
    """As the query takes it: a moment, a time in the account's zone, or a day there."""
    if when is None:
        return None, None, None
    if not isinstance(when, datetime):
        return None, None, when
    return (None, when, None) if when.tzinfo is None else (when, None, None)


def _credits(micro: int) -> Decimal:
    return Decimal(text_from_micro(micro))
