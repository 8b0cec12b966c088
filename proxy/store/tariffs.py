"""Tariffs: lists of prices that accounts pay by, or that upstreams take.

A row of `price` is never changed, because messages name the one they were charged by: another
price is a new row, and the old one is retired.  Every change counts the tariff's version up in
the same transaction, and the table's trigger tells every proxy.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncpg import Connection

from proxy.credit.price_rows import Differences, PriceRow, differences
from proxy.credit.tariff import Price, Tariff
from proxy.store.arrays import numbers
from proxy.store.events import write_event
from proxy.store.outcomes import NotFound, Refused
from proxy.store.sql import Row, load

TIMEOUT_S: Final = 600.0
"""What one statement about a large tariff may take."""

LOCK_TIMEOUT_S: Final = 60.0
"""How long a change waits for another one of the same tariff."""

FIRST_TARIFF: Final = 1
"""The one that accounts begin with, as the column's default says."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,64}", re.ASCII)
_PATIENCE: Final = f"""
    SET LOCAL statement_timeout = {round(TIMEOUT_S * 1000)};
    SET LOCAL lock_timeout = {round(LOCK_TIMEOUT_S * 1000)}
"""


@dataclass(frozen=True, slots=True)
class Imported:
    """The tariff has the prices of the file; after a dry run: would have."""

    name: str
    created: bool
    """It is a new tariff."""
    dry_run: bool
    """Nothing was changed."""
    differences: Differences
    """From the prices it had before."""


@dataclass(frozen=True, slots=True)
class Removed:
    """The tariff is gone, with this many prices."""

    name: str
    prices: int


@dataclass(frozen=True, slots=True)
class Emptied:
    """The tariff has no prices any more; it stays, because messages name them."""

    name: str
    prices: int
    """How many were retired."""


async def load_tariff(source: Any, tariff_id: int) -> Tariff:
    """A tariff with the prices that are valid now or later; `source` is a connection or a pool.

    Raises LookupError when there is no such tariff.
    """
    # The version first: when the prices change in between they are only read once more.
    row = await source.fetchrow("SELECT name, version FROM tariff WHERE id = $1", tariff_id)
    if row is None:
        raise LookupError(f"there is no tariff {tariff_id}")
    prices = await source.fetch(load("tariff_prices"), tariff_id, timeout=TIMEOUT_S)

    def compiled() -> Tariff:
        tariff = Tariff(tariff_id, row["name"], row["version"], map(Price._make, prices))
        tariff.at(time.time())  # so that the first message need not wait for it
        return tariff

    return await asyncio.to_thread(compiled)


async def versions(source: Any, tariff_ids: Sequence[int]) -> dict[int, int]:
    """The version of each of the tariffs; one that is gone is not among them."""
    rows = await source.fetch(
        "SELECT id, version FROM tariff WHERE id = ANY ($1::integer[])", list(tariff_ids)
    )
    return {row["id"]: row["version"] for row in rows}


async def import_prices(
    conn: Connection, name: str, rows: Sequence[PriceRow], *, by: str, dry_run: bool = False
) -> Imported | Refused:
    """Make these the prices of a tariff, all of them; creates the tariff when it is new.

    No two rows may count for the same prefix and service at the same time, as
    `tariff_csv.read` makes sure.  One transaction; a dry run only compares.
    """
    if not _NAME.fullmatch(name):
        return Refused("a tariff's name is 1 to 64 of the characters A-Z a-z 0-9 _ . @ -")
    if dry_run:
        known_id = await _tariff_id(conn, name)
        _, changes = await _compare(conn, known_id, rows)
        return Imported(name, known_id is None, True, changes)
    async with conn.transaction():
        await conn.execute(_PATIENCE)
        tariff_id, created = await _lock_or_create(conn, name)
        ids, changes = await _compare(conn, tariff_id, rows)
        if changes.any:
            gone = [*changes.ended, *(change.old for change in changes.changed)]
            await _retire(conn, [row_id for row in gone for row_id in ids[row]])
            came = [*changes.added, *(change.new for change in changes.changed)]
            await _insert(conn, tariff_id, came)
        if changes.any or created:
            await _count_up(conn, tariff_id)
            await write_event(
                conn,
                "tariff_changed",
                f"Tariff {name} imported: {len(changes.added)} added, "
                f"{len(changes.changed)} changed, {len(changes.ended)} ended by {by}",
            )
    return Imported(name, created, False, changes)


async def _tariff_id(conn: Connection, name: str) -> int | None:
    tariff_id: int | None = await conn.fetchval("SELECT id FROM tariff WHERE name = $1", name)
    return tariff_id


async def _lock_or_create(conn: Connection, name: str) -> tuple[int, bool]:
    """The id of the tariff, locked against other changes, and whether it is new."""
    while True:
        tariff_id = await conn.fetchval(
            "SELECT id FROM tariff WHERE name = $1 FOR NO KEY UPDATE", name, timeout=TIMEOUT_S
        )
        if tariff_id is not None:
            return tariff_id, False
        tariff_id = await conn.fetchval(
            "INSERT INTO tariff (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING id",
            name,
            timeout=TIMEOUT_S,
        )
        if tariff_id is not None:
            return tariff_id, True


async def _compare(
    conn: Connection, tariff_id: int | None, rows: Sequence[PriceRow]
) -> tuple[dict[PriceRow, list[int]], Differences]:
    """The prices there are, with their ids, and what makes them the rows."""
    records = await conn.fetch(
        "SELECT id, prefix, service, price_micro, valid_from, valid_to FROM price"
        " WHERE tariff_id = $1 AND retired_at IS NULL",
        tariff_id,
        timeout=TIMEOUT_S,
    )

    def compare() -> tuple[dict[PriceRow, list[int]], Differences]:
        ids: dict[PriceRow, list[int]] = {}
        for row_id, *values in records:
            ids.setdefault(PriceRow(*values), []).append(row_id)
        return ids, differences(ids, rows)

    # In a thread: with a large tariff it takes a second, and a proxy may be doing this.
    return await asyncio.to_thread(compare)


async def _retire(conn: Connection, price_ids: Sequence[int]) -> None:
    # A join, because `= ANY` would go through the whole list for every row.
    await conn.execute(
        "UPDATE price SET retired_at = now()"
        " FROM unnest($1::text::integer[]) AS gone (id) WHERE price.id = gone.id",
        numbers(price_ids),
        timeout=TIMEOUT_S,
    )


async def _insert(conn: Connection, tariff_id: int, rows: Sequence[PriceRow]) -> None:
    await conn.copy_records_to_table(
        "price",
        columns=("tariff_id", *PriceRow._fields),
        records=((tariff_id, *row) for row in rows),
        timeout=TIMEOUT_S,
    )


async def _count_up(conn: Connection, tariff_id: int) -> None:
    """Every proxy is told when this commits."""
    await conn.execute(
        "UPDATE tariff SET version = version + 1, changed_at = now() WHERE id = $1", tariff_id
    )


async def export_prices(conn: Connection, name: str) -> list[PriceRow] | Refused:
    """All prices of a tariff but the retired ones: also those whose time is over."""
    tariff_id = await _tariff_id(conn, name)
    if tariff_id is None:
        return _no_tariff(name)
    ids, _ = await _compare(conn, tariff_id, ())
    return list(ids)


def _no_tariff(name: str) -> NotFound:
    return NotFound(f"there is no tariff {name!r}")


async def list_tariffs(conn: Connection) -> list[Row]:
    """Every tariff by name: prices, accounts that pay by it, upstreams whose costs it is."""
    return [dict(row) for row in await conn.fetch(load("tariffs"), timeout=TIMEOUT_S)]


async def remove_tariff(conn: Connection, name: str, *, by: str) -> Removed | Emptied | Refused:
    """Remove a tariff that nobody uses; where messages name its prices these are only retired.

    Reads the messages since the tariff was made.  Of a tariff that never priced a message a proxy
    may still charge one in the second after its last account got another.
    """
    async with conn.transaction():
        await conn.execute(_PATIENCE)
        tariff_id = await conn.fetchval(
            "SELECT id FROM tariff WHERE name = $1 FOR UPDATE", name, timeout=TIMEOUT_S
        )
        refusal = await _why_not_remove(conn, name, tariff_id)
        if refusal is not None:
            return refusal
        live = await conn.fetch(
            "SELECT id FROM price WHERE tariff_id = $1 AND retired_at IS NULL", tariff_id
        )
        if await conn.fetchval(load("tariff_in_messages"), tariff_id, timeout=TIMEOUT_S):
            if live:
                await _retire(conn, [row["id"] for row in live])
                await _count_up(conn, tariff_id)
                text = f"Tariff {name} emptied: {len(live)} ended by {by}"
                await write_event(conn, "tariff_changed", text)
            return Emptied(name, len(live))
        await conn.execute("DELETE FROM price WHERE tariff_id = $1", tariff_id, timeout=TIMEOUT_S)
        await conn.execute("DELETE FROM tariff WHERE id = $1", tariff_id)
        await write_event(conn, "tariff_removed", f"Tariff {name} removed by {by}")
    return Removed(name, len(live))


async def _why_not_remove(conn: Connection, name: str, tariff_id: int | None) -> Refused | None:
    if tariff_id is None:
        return _no_tariff(name)
    if tariff_id == FIRST_TARIFF:
        return Refused(f"new accounts begin with the tariff {name!r}: it can't be removed")
    users = await conn.fetchrow(load("tariff_users"), tariff_id)
    if users["accounts"]:
        some = ", ".join(users["some_accounts"])
        others = users["accounts"] - len(users["some_accounts"])
        more = f" and {others} more" if others else ""
        return Refused(f"accounts pay by the tariff {name!r}: {some}{more}")
    if users["upstreams"]:
        carriers = ", ".join(users["upstreams"])
        return Refused(f"the tariff {name!r} is what these upstreams cost: {carriers}")
    return None
