"""What is known of an upstream beside the configuration: whether it rests, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asyncpg import Connection

from proxy.store.events import write_event
from proxy.store.outcomes import NotFound, Refused
from proxy.store.sql import Row

_ALL = """
    SELECT u.name, t.name AS cost_tariff, u.paused
    FROM upstream u LEFT JOIN tariff t ON t.id = u.cost_tariff_id
"""


@dataclass(frozen=True, slots=True)
class Changed:
    """The upstream is as it was wanted; `changed` is False when it was so already."""

    upstream_id: int
    changed: bool


async def list_upstreams(conn: Connection) -> list[Row]:
    """Every upstream that a proxy ever had, by name."""
    return [dict(row) for row in await conn.fetch(f"{_ALL} ORDER BY u.name")]


async def upstream(conn: Connection, name: str) -> Row | None:
    """One upstream, or None when no proxy ever had it."""
    row = await conn.fetchrow(f"{_ALL} WHERE u.name = $1", name)
    return None if row is None else dict(row)


async def set_upstream_cost(
    conn: Connection, upstream_name: str, tariff_name: str | None, *, by: str
) -> Changed | Refused:
    """Say by which tariff the carrier is paid; None: its cost is not known."""
    async with conn.transaction():
        row = await _lock(conn, upstream_name)
        if row is None:
            return _no_upstream(upstream_name)
        tariff_id = None
        if tariff_name is not None:
            # Locked, so that nobody removes it meanwhile.
            tariff_id = await conn.fetchval(
                "SELECT id FROM tariff WHERE name = $1 FOR KEY SHARE", tariff_name
            )
            if tariff_id is None:
                return Refused(f"there is no tariff {tariff_name!r}")
        if row["cost_tariff_id"] == tariff_id:
            return Changed(row["id"], False)
        await conn.execute(
            "UPDATE upstream SET cost_tariff_id = $2 WHERE id = $1", row["id"], tariff_id
        )
        what = "unknown" if tariff_name is None else f"tariff {tariff_name}"
        await write_event(
            conn, "upstream_changed", f"Cost of upstream {upstream_name} set to {what} by {by}"
        )
    return Changed(row["id"], True)


async def set_upstream_paused(
    conn: Connection, name: str, paused: bool, *, by: str
) -> Changed | Refused:
    """Give an upstream no new messages, or let it have them again."""
    async with conn.transaction():
        row = await _lock(conn, name)
        if row is None:
            return _no_upstream(name)
        if row["paused"] == paused:
            return Changed(row["id"], False)
        await conn.execute("UPDATE upstream SET paused = $2 WHERE id = $1", row["id"], paused)
        what = "paused" if paused else "resumed"
        await write_event(conn, f"upstream_{what}", f"Upstream {name} {what} by {by}")
    return Changed(row["id"], True)


async def _lock(conn: Connection, name: str) -> Row | None:
    row = await conn.fetchrow(
        "SELECT id, cost_tariff_id, paused FROM upstream WHERE name = $1 FOR NO KEY UPDATE", name
    )
    return None if row is None else dict(row)


def _no_upstream(name: str) -> NotFound:
    return NotFound(f"there is no upstream {name!r}; a proxy that has it must have run once")


async def managed(source: Any) -> list[Row]:
    """What operators say of every upstream: its id, paused, cost_tariff_id.

    `source` is a connection or a pool.
    """
    rows = await source.fetch("SELECT id, paused, cost_tariff_id FROM upstream ORDER BY id")
    return [dict(row) for row in rows]
