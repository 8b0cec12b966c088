"""Queued messages whose route is gone from the configuration take the route they have now."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

from proxy.flow import waiting
from proxy.flow.message import Upstream
from proxy.routing.table import RouteTable
from proxy.smpp.pdu import PduError
from proxy.store import queue as store
from proxy.store.queue import FIRST_LINE, Claimed, LineKey

log = structlog.get_logger()

_AT_ONCE = 500


class Homeless:
    """Goes through the lines of unknown routes, some at a time.

    In order, and always behind those before: the lines that have no route at all stand in
    nobody's way.
    """

    def __init__(self, pool: Callable[[], Any], record_event: Callable[..., None]) -> None:
        self._pool = pool
        self._record_event = record_event
        self._behind: LineKey | None = None
        """The last line that was looked at; None: there are none to look at."""
        self._lost = 0

    def begin(self) -> None:
        """There are some; nothing happens while it goes through them."""
        if self._behind is None:
            self._behind, self._lost = FIRST_LINE, 0

    async def move(self, routes: RouteTable[Upstream]) -> None:
        """The next lines; in the end an event says how many have no route."""
        if self._behind is None:
            return
        known = [route.name for route in routes.routes]
        found = await store.homeless(self._pool(), known, _AT_ONCE, self._behind)
        for first in found:
            await self._move_line(first, routes)
            self._behind = (first.account_id, first.line, first.route)
        if len(found) == _AT_ONCE:
            return
        self._behind = None
        if self._lost:
            self._record_event(
                "queue_without_route",
                "Queued messages have no route any more",
                severity="error",
                count=self._lost,
            )

    async def _move_line(self, first: Claimed, routes: RouteTable[Upstream]) -> None:
        now_s = time.time()
        try:
            message = waiting.message_of(first, now_s)
        except PduError:
            log.exception("queued_message_unreadable", message_id=first.id)
            return
        route = routes.find(
            first.account, message.source_addr, message.destination_addr, message.data_coding, now_s
        )
        if route is None:
            self._lost += 1
        else:
            await store.move_line(
                self._pool(), first.account_id, first.line, first.route, route.name
            )
