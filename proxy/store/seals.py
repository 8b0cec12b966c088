"""Sealed days: what shows that the ledger of a day was changed after the day was over.

The hash of a day (UTC) is the SHA-256 over the hash of the day before, the day, and every row of
the ledger of that day, in order of account and id, in PostgreSQL's COPY text format: there
columns end with a tab and rows with a line end, both are escaped inside a value, and NULL (\\N)
is not the empty text.  So who changes a row of a sealed day has to replace its hash and every
later one; whoever noted one of those elsewhere, say from the proxy's log, sees it.

Days are sealed in order and without gaps, from the first that has rows.  The rows are streamed:
a day of any size takes the same memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, NamedTuple

from asyncpg import Connection

from proxy.store.ids import id_at_time, time_of_id
from proxy.store.sql import load

MARGIN: Final = timedelta(hours=1)
"""A day is sealed when it is over for this long: ids are minted by clocks that differ, before the
row is written."""

TIMEOUT_S: Final = 3600.0
"""What reading one day may take."""

_BEGIN: Final = b"smpp-proxy ledger day, format 1\n"
_NOTHING_BEFORE: Final = bytes(hashlib.sha256().digest_size)
_DAY: Final = timedelta(days=1)


class SealedDay(NamedTuple):
    """A day that has just been sealed."""

    day: date
    rows: int
    hash: bytes


async def seal_days(conn: Connection, now: datetime) -> list[SealedDay]:
    """Seal every day that is over and not sealed, a transaction for each; returns them.

    The earlier of `now` and the database's clock counts: a day that is sealed too early could
    never be mended.  Where another proxy is sealing, this leaves the work to it.  A transaction
    that wrote to a day and is still open makes this wait, and fail with lock_not_available.
    """
    sealed = []
    while (day := await _seal_next(conn, now)) is not None:
        sealed.append(day)
    return sealed


async def _seal_next(conn: Connection, now: datetime) -> SealedDay | None:
    async with conn.transaction():
        await conn.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5s'")
        if not await conn.fetchval(
            "SELECT pg_try_advisory_xact_lock(hashtext('smpp_proxy_seals'))"
        ):
            return None
        clock: datetime = await conn.fetchval("SELECT clock_timestamp()")
        today = (min(now, clock) - MARGIN).astimezone(UTC).date()
        last = await conn.fetchrow("SELECT day, hash FROM sealed_day ORDER BY day DESC LIMIT 1")
        day = await _first_day(conn, today) if last is None else last["day"] + _DAY
        if day is None or day >= today:
            return None
        await _wait_for_writers(conn, day)
        previous: bytes | None = None if last is None else last["hash"]
        digest, rows = await _hash(conn, day, previous)
        await conn.execute(
            "INSERT INTO sealed_day (day, rows, hash, previous) VALUES ($1, $2, $3, $4)",
            day,
            rows,
            digest,
            previous,
        )
    return SealedDay(day, rows, digest)


async def verify_seals(conn: Connection, limit: int) -> list[str]:
    """What is wrong with the sealed days, at most `limit` sentences.

    To be called in a transaction with one snapshot and without statement_timeout.
    """
    days = await conn.fetch("SELECT day, rows, hash, previous FROM sealed_day ORDER BY day")
    findings = broken_links(days)
    first = await _first_day(conn, days[0]["day"] if days else None)
    if days and first is not None:
        findings.append(f"the ledger has rows of {first}, before the first sealed day")
    for sealed in days:
        if len(findings) >= limit:
            break
        digest, rows = await _hash(conn, sealed["day"], sealed["previous"])
        if digest != sealed["hash"] or rows != sealed["rows"]:
            counts = f": {sealed['rows']} rows then, {rows} now" if rows != sealed["rows"] else ""
            findings.append(
                f"the ledger of {sealed['day']} has changed since it was sealed{counts}"
            )
    # The end of the chain can be cut off without a trace in what is left of it.
    next_day = days[-1]["day"] + _DAY if days else first
    if next_day is not None:
        due = _midnight(next_day + _DAY) + MARGIN
        if await conn.fetchval(load("sealing_stopped"), due, timeout=TIMEOUT_S):
            findings.append(f"day {next_day} is missing from the chain, and every day since")
    return findings[:limit]


def broken_links(days: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where a chain of sealed days, in order, is not one; without reading the ledger."""
    findings = []
    before: Mapping[str, Any] | None = None
    for sealed in days:
        day = sealed["day"]
        if before is None:
            if sealed["previous"] is not None:
                findings.append(f"day {day - _DAY} is missing from the chain")
        elif day != before["day"] + _DAY:
            missing = before["day"] + _DAY
            until = f" to {day - _DAY}" if day - _DAY != missing else ""
            findings.append(f"day {missing}{until} is missing from the chain")
        elif sealed["previous"] != before["hash"]:
            findings.append(f"the seal of {day} does not follow from that of {before['day']}")
        before = sealed
    return findings


async def _first_day(conn: Connection, before: date | None) -> date | None:
    """The first day that has rows, if that is before another."""
    below = 2**63 - 1 if before is None else _first_id(before)
    query = "SELECT min(id) FROM ledger WHERE id < $1"
    first: int | None = await conn.fetchval(query, below, timeout=TIMEOUT_S)
    return None if first is None else datetime.fromtimestamp(time_of_id(first), UTC).date()


async def _wait_for_writers(conn: Connection, day: date) -> None:
    """Until nobody has uncommitted rows in that day's partition."""
    name = f"ledger_{day:%Y%m%d}"  # as ensure_partitions() names it
    if await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", name):
        await conn.execute(f"LOCK TABLE {name} IN SHARE MODE")


async def _hash(conn: Connection, day: date, previous: bytes | None) -> tuple[bytes, int]:
    """The hash of a day, and how many rows it has."""
    digest = hashlib.sha256(_BEGIN)
    digest.update(previous or _NOTHING_BEFORE)
    digest.update(f"{day.isoformat()}\n".encode())

    async def add(data: bytes) -> None:
        digest.update(data)

    done: str = await conn.copy_from_query(
        load("sealed_rows"),
        _first_id(day),
        _first_id(day + _DAY),
        output=add,
        format="text",
        encoding="utf-8",
        timeout=TIMEOUT_S,
    )
    return digest.digest(), int(done.removeprefix("COPY "))


def _first_id(day: date) -> int:
    return id_at_time(_midnight(day).timestamp())


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
