"""Beside the way of a message: days of the ledger that are over are sealed.

Every proxy tries, every few minutes; the database lets one at a time do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from proxy.flow.rounds import attempt
from proxy.store.seals import SealedDay, seal_days

log = structlog.get_logger()

_EVERY_S = 300.0


def _now() -> datetime:
    return datetime.now(UTC)


class Seal:
    """Runs until cancelled."""

    def __init__(self, pool: Callable[[], Any], clock: Callable[[], datetime] = _now) -> None:
        self._pool = pool
        self._clock = clock

    async def run(self) -> None:
        """Seal now and every few minutes."""
        while True:
            await attempt(self.once, waits="seal_waits", failed="seal_failed")
            await asyncio.sleep(_EVERY_S)

    async def once(self) -> list[SealedDay]:
        """Seal what is due.  The hashes in the log are a witness outside of the database."""
        async with self._pool().acquire() as connection:
            sealed = await seal_days(connection, self._clock())
        for day in sealed:
            log.info("day_sealed", day=day.day.isoformat(), rows=day.rows, hash=day.hash.hex())
        return sealed
