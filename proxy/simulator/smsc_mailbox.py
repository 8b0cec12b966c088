"""Receipts and mobile-originated messages waiting for a link that may take them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from proxy.simulator.smsc_link import OUTSTANDING_MAX, Delivery, Link
from proxy.smpp import vocabulary as smpp

WAITING_MAX: Final = 100_000
"""Deliveries kept for one system_id; the oldest is dropped for the newest."""

RETRY_AFTER_S: Final = 1.0

TEMPORARY_STATUSES: Final = frozenset(
    {smpp.ESME_RSYSERR, smpp.ESME_RMSGQFUL, smpp.ESME_RTHROTTLED, smpp.ESME_RX_T_APPN}
)
"""Answers that ask for the same deliver_sm again, later."""


class Mailbox:
    """Sends each delivery on the least busy link of its system_id, once one has room.

    A delivery is sent again, on any link, when its link ends before answering.
    """

    def __init__(self, later: Callable[[float, Callable[[], None]], None]) -> None:
        self._later = later
        self._waiting: dict[str | None, deque[Delivery]] = {}
        self.links: list[Link] = []

    def put(self, delivery: Delivery) -> None:
        """Send when a link has room, now if one has."""
        self._queue(delivery.system_id).append(delivery)
        self._pump(delivery.system_id)

    def room_on(self, link: Link) -> None:
        """A link was bound or got an answer: send what waits for it."""
        self._pump(link.system_id)
        self._pump(None)

    def answered(self, link: Link, delivery: Delivery, status: int) -> None:
        """Take the answer to a delivery; a temporary refusal of a receipt means: again later."""
        if delivery.answer is not None:
            if not delivery.answer.done():
                delivery.answer.set_result(status)
        elif status in TEMPORARY_STATUSES:
            self._later(RETRY_AFTER_S, lambda: self.put(delivery))
        self.room_on(link)

    def link_closed(self, link: Link) -> None:
        """Put back, in front and in order, what the link took and did not answer."""
        unanswered = list(link.outstanding.values())
        link.outstanding.clear()
        for delivery in reversed(unanswered):
            self._queue(delivery.system_id).appendleft(delivery)
        for system_id in {delivery.system_id for delivery in unanswered}:
            self._pump(system_id)

    def clear(self) -> None:
        """Forget everything; whoever waits for an answer gets a ConnectionError."""
        left = [delivery for queue in self._waiting.values() for delivery in queue]
        self._waiting.clear()
        for delivery in left:
            if delivery.answer is not None and not delivery.answer.done():
                delivery.answer.set_exception(ConnectionError("the simulator was stopped"))

    def _queue(self, system_id: str | None) -> deque[Delivery]:
        return self._waiting.setdefault(system_id, deque(maxlen=WAITING_MAX))

    def _pump(self, system_id: str | None) -> None:
        queue = self._waiting.get(system_id)
        while queue:
            if queue[0].abandoned:
                queue.popleft()
                continue
            link = self._least_busy(system_id)
            if link is None:
                return
            link.deliver(queue.popleft())

    def _least_busy(self, system_id: str | None) -> Link | None:
        able = [
            link
            for link in self.links
            if link.receives
            and len(link.outstanding) < OUTSTANDING_MAX
            and system_id in (None, link.system_id)
        ]
        return min(able, key=lambda link: len(link.outstanding), default=None)
