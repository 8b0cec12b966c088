"""What is remembered of a modem's SIM: what it has sent, its balance, a PIN that was wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

HOUR_S: Final = 3600
BALANCE_CHARS_MAX: Final = 500


class SimRecord(NamedTuple):
    """What is known of a SIM when its proxy starts."""

    short_messages: dict[int, int]
    """By the Unix time at which an hour begins."""
    balance_text: str | None
    """The network's own words."""
    balance_at_s: float | None
    pin_tried: str | None
    """What stands for a PIN that was tried, and not found right."""


class SimUsage:
    """Reads and writes it.  Every method raises what asyncpg raises."""

    def __init__(self, pool: Callable[[], Any]) -> None:
        self._pool = pool

    async def load(self, upstream_id: int, since_s: int) -> SimRecord:
        """The short messages since then, and the rest."""
        rows = await self._pool().fetch(
            "SELECT extract(epoch FROM hour)::bigint AS hour, short_messages FROM sim_usage"
            " WHERE upstream_id = $1 AND hour >= $2",
            upstream_id,
            _at(since_s),
        )
        sim = await self._pool().fetchrow(
            "SELECT balance_text, extract(epoch FROM balance_at)::float8 AS balance_at, pin_tried"
            " FROM upstream WHERE id = $1",
            upstream_id,
        )
        return SimRecord(
            {row["hour"]: row["short_messages"] for row in rows},
            sim["balance_text"] if sim else None,
            sim["balance_at"] if sim else None,
            sim["pin_tried"] if sim else None,
        )

    async def add(self, upstream_id: int, short_messages: Mapping[int, int]) -> None:
        """More short messages, by hour.

        Done twice, when an answer of the database was lost, it counts too many: a limit is
        rather reached too early.
        """
        hours = sorted(short_messages)
        await self._pool().execute(
            "INSERT INTO sim_usage (upstream_id, hour, short_messages)"
            " SELECT $1, * FROM unnest($2::timestamptz[], $3::integer[])"
            " ON CONFLICT (upstream_id, hour) DO UPDATE"
            " SET short_messages = sim_usage.short_messages + excluded.short_messages",
            upstream_id,
            [_at(hour) for hour in hours],
            [short_messages[hour] for hour in hours],
        )

    async def set_balance(self, upstream_id: int, text: str) -> None:
        """What the network said last."""
        await self._pool().execute(
            "UPDATE upstream SET balance_text = $2, balance_at = clock_timestamp() WHERE id = $1",
            upstream_id,
            # A NUL is no character of a text; some networks end theirs with one.
            text.replace("\0", "")[:BALANCE_CHARS_MAX],
        )

    async def pin_tried(self, upstream_id: int, digest: str | None) -> None:
        """Remember that a PIN is tried now; None: it was right."""
        await self._pool().execute(
            "UPDATE upstream SET pin_tried = $2 WHERE id = $1", upstream_id, digest
        )


def _at(unix_s: int) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
