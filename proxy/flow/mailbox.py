"""The deliveries of one account that has a receiver on this proxy, oldest first."""

from __future__ import annotations

import asyncio
import heapq
from functools import partial
from typing import TYPE_CHECKING

from proxy.config import DeliverySettings
from proxy.flow.message import Account, EsmeSession
from proxy.smpp import vocabulary as smpp
from proxy.smpp.rewrite import receipt_for_client

if TYPE_CHECKING:
    from proxy.flow.deliver import Deliver

_READY_MAX = 1000
_TRIES_IN_A_ROW = 3
_TEMPORARY = frozenset(
    {smpp.ESME_RSYSERR, smpp.ESME_RMSGQFUL, smpp.ESME_RTHROTTLED, smpp.ESME_RX_T_APPN}
)


class Waiting:
    """A delivery that is claimed for this proxy."""

    __slots__ = ("body", "command_id", "id", "message_id", "tries")

    def __init__(self, delivery_id: int, command_id: int, body: bytes, message_id: int | None):
        self.id = delivery_id
        self.command_id = command_id
        self.body = body
        self.message_id = message_id
        self.tries = 0

    def __lt__(self, other: Waiting) -> bool:
        return self.id < other.id


class Mailbox:
    """Keeps the order of arrival, uses every session's window, and never holds much in memory.

    `more` says that the database may have rows that are not claimed yet.  While it does, new
    arrivals stay there too, so that nothing overtakes what came before it.
    """

    def __init__(self, account: Account, settings: DeliverySettings, deliver: Deliver) -> None:
        self.account = account
        self.more = False
        self._settings = settings
        self._deliver = deliver
        self._ready: list[Waiting] = []
        self._out: set[int] = set()
        self._loading = False
        self._paused = False
        self._pumping_soon = False
        self._closed = False

    @property
    def takes_more(self) -> bool:
        """Whether a new arrival may be claimed at once."""
        return not self.more and not self._loading and len(self._ready) < _READY_MAX

    @property
    def claimed(self) -> list[int]:
        """The ids of the deliveries that it has."""
        return [*self._out, *(item.id for item in self._ready)]

    def put(self, item: Waiting) -> None:
        """Add a claimed delivery; `pump` brings it out."""
        heapq.heappush(self._ready, item)

    def loaded(self, items: list[Waiting], *, more: bool, failed: bool) -> None:
        """The rows that `Deliver.load` claimed."""
        self._loading = False
        self.more = self.more or more
        have = set(self.claimed)  # freed and claimed again: it is the same row
        for item in items:
            if item.id not in have:
                heapq.heappush(self._ready, item)
        if failed:
            self._pause()
        else:
            self.pump()

    def pump(self) -> None:
        """Hand out what the sessions' windows take, once for all answers of one read."""
        if not self._pumping_soon:
            self._pumping_soon = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping_soon = False
        if self._paused or self._closed:
            return
        sessions = [s for s in self.account.sessions if s.can_receive]
        while self._ready:
            session = max(sessions, key=lambda s: s.deliver_room, default=None)
            if session is None or session.deliver_room <= 0:
                return
            self._hand_out(session, heapq.heappop(self._ready))
        if self.more and not self._loading and sessions:
            self._loading = True
            self.more = False
            self._deliver.load(self, _READY_MAX)

    def _hand_out(self, session: EsmeSession, item: Waiting) -> None:
        body = item.body
        if item.message_id is not None:
            body = receipt_for_client(item.command_id, body, item.message_id)
        self._out.add(item.id)
        session.deliver(item.command_id, body, partial(self._answered, session, item))

    def _answered(self, session: EsmeSession, item: Waiting, status: int | None) -> None:
        self._out.discard(item.id)
        if status == smpp.ESME_ROK:
            self._deliver.ended(self.account.id, item, "delivered", status)
        elif status is None and not session.can_receive:
            if self._closed:
                self._deliver.give_back(self.account.id, [item])
            else:
                self.put(item)  # its link is lost: the next session gets it
        elif status is None or status in _TEMPORARY:
            self._try_again(item, status)
        else:
            self._deliver.ended(self.account.id, item, "refused", status)
        self.pump()

    def _try_again(self, item: Waiting, status: int | None) -> None:
        """A client that is busy gets a pause; a message it never takes does not block others."""
        item.tries += 1
        if item.tries < _TRIES_IN_A_ROW:
            self.put(item)
        else:
            self._deliver.ended(self.account.id, item, "later", status or 0)
            self.more = True
        self._pause()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            asyncio.get_running_loop().call_later(self._settings.retry_min_s, self._resume)

    def _resume(self) -> None:
        self._paused = False
        self.pump()

    def close(self) -> list[Waiting]:
        """No receiver is left: returns what was claimed and not handed out."""
        self._closed = True
        items, self._ready = self._ready, []
        return items
