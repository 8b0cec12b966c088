"""What this proxy tells the others of its sessions and upstreams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog

from proxy.flow.rounds import attempt
from proxy.store import nodes
from proxy.store.database import UNREACHABLE

log = structlog.get_logger()

EVERY_S: Final = 5.0
"""A status is written at least so often, changed or not: an old one is not believed."""

LOOK_EVERY_S: Final = 1.0
"""And at most so often."""


class Report:
    """Writes `status` (in the form that proxy.store.nodes describes) when it has changed."""

    def __init__(
        self, pool: Callable[[], Any], node: Callable[[], int], status: Callable[[], dict[str, Any]]
    ) -> None:
        self._pool = pool
        self._node = node
        self._status = status
        self._written: tuple[int, dict[str, Any]] | None = None
        self._written_s = 0.0

    async def once(self, now_s: float) -> bool:
        """Write the status if it is due; whether it was.  `now_s` is any clock that only grows.

        While the proxy has no node number there is nothing to write it under.
        """
        node, status = self._node(), self._status()
        if node == 0:
            return False
        if self._written == (node, status) and now_s - self._written_s < EVERY_S:
            return False
        async with self._pool().acquire() as connection:
            await nodes.write_status(connection, node, status)
        self._written, self._written_s = (node, status), now_s
        return True

    async def run(self) -> None:
        """For ever; an unreachable database is waited for."""
        loop = asyncio.get_running_loop()
        while True:
            await attempt(
                lambda: self.once(loop.time()), waits="status_not_written", failed="report_failed"
            )
            await asyncio.sleep(LOOK_EVERY_S)

    async def close(self) -> None:
        """Take the status away; when the database is away it grows too old by itself."""
        if self._written is None:
            return
        node, self._written = self._written[0], None
        try:
            async with self._pool().acquire() as connection:
                await nodes.remove_status(connection, node)
        except UNREACHABLE as error:
            log.warning("status_not_removed", reason=str(error) or repr(error))
