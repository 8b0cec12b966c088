"""A carrier: its links, its backlog, its rate."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import structlog

from proxy.config import UpstreamSettings
from proxy.credit.tariff import Tariff
from proxy.flow.deliver import Arrival, Deliver
from proxy.flow.forward import Forward
from proxy.flow.message import Message, Operation
from proxy.flow.settle import Answer, Settle
from proxy.links.smsc_link import SmscLink
from proxy.routing.throttle import Throttle
from proxy.smpp import vocabulary as smpp
from proxy.smpp.receipt import receipt_key
from proxy.smpp.session import BIND_TYPE, STATE_OF_BIND
from proxy.telemetry import metrics
from proxy.telemetry.tasks import Tasks, wait_until

log = structlog.get_logger()

_BINDS = {
    "transceiver": (smpp.BIND_TRANSCEIVER,),
    "transmitter+receiver": (smpp.BIND_TRANSMITTER, smpp.BIND_RECEIVER),
}
_UNBIND_S = 2.0
_LOOK_EVERY_S = 1.0
_STABLE_S = 10.0
"""A link that lived this long starts its back-off anew."""


class SmscUpstream:
    """One `[[upstream]]` of the configuration."""

    def __init__(
        self,
        settings: UpstreamSettings,
        upstream_id: int,
        settle: Settle,
        deliver: Deliver,
        tasks: Tasks,
        record_event: Callable[..., None],
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.id = upstream_id
        self.forward: Forward | None = None
        """Where the backlog goes when the last link is lost."""
        self.paused = False
        """An operator's wish: nothing new goes this way; what is under way ends."""
        self.costs: Tariff | None = None
        self._settle = settle
        self._deliver = deliver
        self._tasks = tasks
        self._record_event = record_event
        self._links: list[SmscLink] = []
        self._senders: list[SmscLink] = []
        self._backlog: deque[Message] = deque()
        """Charged messages that wait for a window slot."""
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._throttle = (
            Throttle(settings.rate, self._loop.time()) if settings.rate is not None else None
        )
        self._pumping_later = False
        self._up = metrics.UPSTREAM_UP.labels(self.name)
        self._window_used = metrics.WINDOW_USED.labels(self.name)
        self._window_max = metrics.WINDOW_MAX.labels(self.name)
        self._up.set(0)

    # ------------------------------------------------------------------ what the flow sees

    def response_key(self, smsc_message_id: str) -> str | None:
        """The key that receipts are found by, where it differs from the response's id."""
        if self.settings.response_ids == "as_is":
            return None
        key = receipt_key(smsc_message_id, self.settings.response_ids)
        return None if key == smsc_message_id else key

    def cost_micro(self, message: Message) -> int | None:
        """What the carrier takes for a message; None: not known."""
        if self.costs is None:
            return None
        table = self.costs.at(time.time())
        each = message.segments // message.destinations
        total = 0
        for destination in message.all_destinations:
            cost = table.find(destination, message.service)
            if cost is None or cost.price_micro is None:
                return None
            total += cost.price_micro * each
        return total

    @property
    def bound(self) -> bool:
        """At least one link can take messages, and nobody has paused it."""
        return bool(self._senders) and not self._stopping and not self.paused

    @property
    def room(self) -> int:
        """How many more messages may be charged for this upstream."""
        return self.settings.backlog_max - len(self._backlog)

    def status(self) -> dict[str, object]:
        """For the other proxies, in the form of proxy.store.nodes."""
        return {
            "name": self.name,
            "links": len(self._links),
            "window_used": self.open_requests,
            "window_max": len(self._senders) * self.settings.window,
            "backlog": self.backlog,
            "paused": self.paused,
        }

    @property
    def open_requests(self) -> int:
        """Requests without an answer, over all links."""
        return sum(len(link.window.open) for link in self._links)

    @property
    def backlog(self) -> int:
        """Charged messages that wait for a window slot."""
        return len(self._backlog)

    def send(self, messages: list[Message]) -> None:
        """Write them, in order, as windows and rate allow; the rest waits."""
        deadline = self._loop.time() + self.settings.response_timeout_s
        for message in messages:
            # One that comes from another upstream's backlog has waited there already.
            message.waits_until = message.waits_until or deadline
        self._backlog.extend(messages)
        self.pump()

    def operate(self, operation: Operation) -> bool:
        """Relay an operation over the link with the most room; False when there is none."""
        link = max(self._senders, key=lambda one: one.window.free, default=None)
        if link is None or link.window.free <= 0:
            return False
        link.operate(operation)
        return True

    # ------------------------------------------------------------------- what links tell

    def answered(self, answers: list[Answer], late: list[Answer]) -> None:
        """Responses of one read; the late ones are of messages in doubt."""
        self._settle.answered(self, answers)
        if late:
            self._settle.answered(self, late, late=True)
        self.pump()

    def doubtful(self, messages: list[Message], reason: str) -> None:
        """Written, and no answer in time."""
        self._settle.doubtful(self, messages, reason)

    def arrived(self, link: SmscLink, arrivals: list[Arrival]) -> None:
        """Receipts and MO messages of one read."""
        self._deliver.received(link, self.id, self.settings.receipt_ids, arrivals)

    def alerted(self, body: bytes) -> None:
        """An alert_notification."""
        self._deliver.alerted(body)

    def link_bound(self, link: SmscLink) -> None:
        """A link is ready."""
        self._links.append(link)
        if link.can_send:
            self._senders.append(link)
        self._links_changed()
        self._record_event(
            "upstream_bound", f"Upstream {self.name} bound a {BIND_TYPE[link.state]}"
        )
        self.pump()

    def link_closing(self, link: SmscLink) -> None:
        """A link writes nothing more; it is lost in a moment."""
        if link in self._senders:
            self._senders.remove(link)

    def link_lost(self, link: SmscLink, unanswered: list[Message], reason: str) -> None:
        """A link is gone; what it had written is in doubt, what waits goes elsewhere."""
        if link in self._links:
            self._links.remove(link)
            bind_type = BIND_TYPE[STATE_OF_BIND[link.bind_command]]
            metrics.SESSIONS.labels("smsc", bind_type).dec()
            if not self._stopping:
                self._record_event(
                    "upstream_lost", f"Upstream {self.name} lost a link: {reason}", severity="error"
                )
        if link in self._senders:
            self._senders.remove(link)
        self._links_changed()
        if unanswered:
            self._settle.doubtful(self, unanswered, f"link lost: {reason}")
        if not self._senders and self._backlog and self.forward is not None:
            waiting = list(self._backlog)
            self._backlog.clear()
            self.forward.send(waiting)

    def _links_changed(self) -> None:
        self._up.set(len(self._links))
        self._window_max.set(len(self._senders) * self.settings.window)

    # --------------------------------------------------------------------------- sending

    def pump(self) -> None:
        """Give the backlog's oldest messages to the links with room."""
        backlog = self._backlog
        allowed = len(backlog)
        if allowed and self._throttle is not None:
            allowed = min(allowed, self._throttle.available(self._loop.time()))
            if allowed < len(backlog):
                self._pump_later(self._throttle.wait_s())
        while allowed > 0:
            link = max(self._senders, key=lambda one: one.window.free, default=None)
            if link is None or link.window.free <= 0:
                break
            # Several links share a batch evenly; one link takes all that fits.
            share = -(-allowed // len(self._senders))
            number = min(allowed, link.window.free, share)
            link.write([backlog.popleft() for _ in range(number)])
            allowed -= number
            if self._throttle is not None:
                self._throttle.take(number)
        self._window_used.set(self.open_requests)

    async def _watch_backlog(self) -> None:
        """What waited for a slot as long as for an answer goes back: its client has waited too."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = self._loop.time()
            stale = [message for message in self._backlog if message.waits_until <= now]
            if stale:
                self._backlog = deque(m for m in self._backlog if m.waits_until > now)
                self._settle.not_sent_in_time(stale, f"upstream {self.name} had no room in time")

    def _pump_later(self, wait_s: float) -> None:
        if not self._pumping_later:
            self._pumping_later = True
            self._loop.call_later(max(wait_s, 0.001), self._pump_now)

    def _pump_now(self) -> None:
        self._pumping_later = False
        self.pump()

    # ------------------------------------------------------------------------ connecting

    def start(self) -> None:
        """Connect, and keep connected."""
        self._tasks.spawn(self._watch_backlog(), f"backlog of {self.name}")
        for number in range(self.settings.binds):
            for bind_command in _BINDS[self.settings.bind]:
                name = f"link {self.name} {number} {smpp.command_name(bind_command)}"
                self._tasks.spawn(self._keep_linked(bind_command), name)

    async def _keep_linked(self, bind_command: int) -> None:
        s = self.settings
        wait_s = s.reconnect_min_s
        while not self._stopping:
            started = self._loop.time()
            reason = await self._one_link(bind_command)
            if self._stopping:
                return
            if self._loop.time() - started > _STABLE_S:
                wait_s = s.reconnect_min_s
            # Jitter: a carrier that restarts is not met by everybody in the same instant.
            pause_s = wait_s * random.uniform(0.5, 1.0)  # noqa: S311
            log.info("upstream_link_down", upstream=self.name, retry_in_s=round(pause_s, 2))
            self._record_event(
                "upstream_down", f"Upstream {self.name} has a link down: {reason}", severity="error"
            )
            await asyncio.sleep(pause_s)
            wait_s = min(wait_s * 2, s.reconnect_max_s)

    async def _one_link(self, bind_command: int) -> str:
        """From connecting to losing; returns why it ended."""
        s = self.settings
        try:
            async with asyncio.timeout(s.connect_timeout_s):
                _, link = await self._loop.create_connection(
                    partial(SmscLink, self, bind_command), s.host, s.port, ssl=self._tls()
                )
        except (OSError, TimeoutError, ssl.SSLError) as error:
            return str(error) or type(error).__name__
        return await link.gone

    def _tls(self) -> ssl.SSLContext | None:
        s = self.settings
        if not s.tls:
            return None
        context = ssl.create_default_context(cafile=str(s.tls_ca) if s.tls_ca else None)
        if not s.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def stop(self, patience_s: float) -> None:
        """Wait for open answers, then unbind."""
        await wait_until(lambda: not self._backlog and not self.open_requests, patience_s)
        self._stopping = True
        for link in list(self._links):
            link.unbind("the proxy is shutting down")
        await wait_until(lambda: not self._links, _UNBIND_S)
        for link in list(self._links):
            link.close("the proxy is shutting down")
