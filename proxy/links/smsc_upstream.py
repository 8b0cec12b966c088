"""A carrier: its links, its backlog, its rate."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from operator import attrgetter

from proxy.config import SmppUpstreamSettings
from proxy.credit.tariff import Tariff
from proxy.flow.costs import cost_by
from proxy.flow.deliver import Arrival, Deliver
from proxy.flow.failover import Failover
from proxy.flow.forward import Forward
from proxy.flow.message import Message, Operation
from proxy.flow.settle import Answer, Settle
from proxy.links.smsc_connect import BINDS, Connector
from proxy.links.smsc_link import SmscLink
from proxy.links.smsc_standing import Standing
from proxy.routing.health import State
from proxy.routing.status_rules import Rule, Rules
from proxy.smpp import vocabulary as smpp
from proxy.smpp.address_rules import AddressRules
from proxy.smpp.receipt import receipt_key
from proxy.smpp.session import BIND_TYPE, STATE_OF_BIND
from proxy.telemetry import metrics
from proxy.telemetry.tasks import Tasks, wait_until

_UNBIND_S = 2.0
_LOOK_EVERY_S = 1.0
_BUSY_S = 2.0
"""When more waits than its rate takes in this time, other upstreams are preferred."""
_RESERVE = 4
"""One part in so many of the windows is kept for messages whose clients wait."""
_room = attrgetter("room")


class SmscUpstream:
    """One `[[upstream]]` of the configuration."""

    def __init__(
        self,
        settings: SmppUpstreamSettings,
        upstream_id: int,
        settle: Settle,
        failover: Failover,
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
        self.on_room: Callable[[], None] = _nobody_waits
        """Called when `spare` may have grown."""
        self.address_rules = AddressRules(settings.address)
        self._rules = Rules(settings.on_status)
        self._settle = settle
        self._failover = failover
        self._deliver = deliver
        self._tasks = tasks
        self._record_event = record_event
        self._links: list[SmscLink] = []
        self._senders: list[SmscLink] = []
        self._backlog: deque[Message] = deque()
        """Charged messages that wait for a window slot."""
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._standing = Standing(settings, self._loop.time(), record_event)
        self._connector = Connector(settings, self, record_event)
        self._pumping_later: asyncio.TimerHandle | None = None
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
        return cost_by(self.costs, message)

    def rule(self, status: int) -> Rule:
        """What is done about a command_status other than ESME_ROK."""
        return self._rules.rule(status)

    @property
    def pool(self) -> None:
        """A carrier is in no pool."""
        return None

    @property
    def bound(self) -> bool:
        """At least one link can take messages, and nobody has paused it."""
        return bool(self._senders) and not self._stopping and not self.paused

    @property
    def room(self) -> int:
        """How many more messages may be charged for this upstream."""
        return self.settings.backlog_max - len(self._backlog)

    @property
    def allowance(self) -> int | None:
        """How many more messages it should get while others are healthy; None: any number.

        Advice only: one that is alone gets them all the same.
        """
        allowed = self._standing.health.allowance(self._loop.time())
        if allowed is None:
            return None
        return max(0, allowed - self.open_requests - len(self._backlog))

    @property
    def healthy(self) -> bool:
        """Bound, does not rest, and no more waits for its rate than goes out in a moment."""
        if not self.bound:
            return False
        if self._standing.health.state is not State.HEALTHY and self.allowance == 0:
            return False
        rate = self._standing.pace.rate_per_s
        return rate is None or len(self._backlog) < max(1.0, rate * _BUSY_S)

    @property
    def spare(self) -> int:
        """How many messages of the durable queue it would take now.

        What windows and rates let through at once, less what waits, less a quarter of the
        windows.  While it rests one at a time, and on trial as many as that allows.
        """
        if not self.bound:
            return 0
        reserve = len(self._senders) * self.settings.window // _RESERVE
        free = sum(link.window.free for link in self._senders) - reserve
        # What the rate of each connection lets through has its own bounds: no reserve of that.
        spare = min(free, sum(link.room for link in self._senders))
        pace = self._standing.pace
        if pace.limited:
            spare = min(spare, pace.available(self._loop.time()))
        spare -= len(self._backlog)
        if spare <= 0:
            self._pump_when_the_rates_let()
        allowed = self._standing.health.allowance(self._loop.time())
        if allowed is not None:
            spare = min(spare, max(1, allowed) - self.open_requests)
        return max(0, spare)

    def status(self) -> dict[str, object]:
        """For the other proxies, in the form of proxy.store.nodes."""
        if self.paused:
            state = "paused"
        elif not self._senders:
            state = "down"
        else:
            state = "up" if self._standing.health.state is State.HEALTHY else "resting"
        return {
            "name": self.name,
            "kind": "smpp",
            "state": state,
            "links": len(self._links),
            "window_used": self.open_requests,
            "window_max": len(self._senders) * self.settings.window,
            "backlog": self.backlog,
            "paused": self.paused,
            **self._standing.status(self._loop.time()),
            **({"why": self._connector.reason} if state == "down" else {}),
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

    def answered(
        self, answers: list[Answer], late: list[Answer], statuses: Mapping[int, int], seconds: float
    ) -> None:
        """Responses of one read; the late ones are of messages in doubt.

        `statuses` counts those of `answers`, the first of which took `seconds`.
        """
        if self.address_rules.changes_inward:
            answers, late = self._as_written(answers), self._as_written(late)
        if answers:
            # First slow down: what is tried again is then tried at the new rate.
            self._standing.answered(statuses, seconds, self._loop.time())
            self._failover.answered(self, answers)
        if late:
            self._failover.answered(self, late, late=True)
        self._room_made()

    def _as_written(self, answers: list[Answer]) -> list[Answer]:
        """What a submit_multi_resp refuses is found, and charged back, by the client's numbers."""
        return [
            (message, status, self.address_rules.undone(message.body, body))
            if message.command_id == smpp.SUBMIT_MULTI
            else (message, status, body)
            for message, status, body in answers
        ]

    def silent(self, messages: list[Message]) -> None:
        """Written, and no answer in time."""
        timeout_s = self.settings.response_timeout_s
        self._standing.silent(len(messages), timeout_s, self._loop.time())
        self._settle.doubtful(self, messages, "the upstream did not answer")
        self._room_made()

    def arrived(self, link: SmscLink, arrivals: list[Arrival]) -> None:
        """Receipts and MO messages of one read."""
        rules = self.address_rules
        if rules.changes_inward:
            arrivals = [(c, number, rules.inward(c, body)) for c, number, body in arrivals]
        self._deliver.received(
            link,
            self.id,
            self.settings.receipt_ids,
            arrivals,
            all_asked=rules.asks_receipt,
            own_sender=self.settings.address.source_addr is not None,
        )

    def alerted(self, body: bytes) -> None:
        """An alert_notification."""
        self._deliver.alerted(self.address_rules.inward(smpp.ALERT_NOTIFICATION, body))

    def link_bound(self, link: SmscLink) -> None:
        """A link is ready."""
        self._links.append(link)
        if link.can_send:
            self._senders.append(link)
        self._links_changed()
        self._record_event(
            "upstream_bound", f"Upstream {self.name} bound a {BIND_TYPE[link.state]}"
        )
        self._room_made()

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
                self._standing.lost(self._loop.time())
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
        self._standing.look(self._loop.time(), self.bound)

    # --------------------------------------------------------------------------- sending

    def pump(self) -> None:
        """Give the backlog's oldest messages to the links with room."""
        backlog, pace = self._backlog, self._standing.pace
        allowed = len(backlog)
        if allowed and pace.limited:
            allowed = min(allowed, pace.available(self._loop.time()))
        while allowed > 0:
            link = max(self._senders, key=_room, default=None)
            if link is None or (room := link.room) <= 0:
                break
            # Several links share a batch evenly; one link takes all that fits.
            share = -(-allowed // len(self._senders))
            number = min(allowed, room, share)
            link.write([backlog.popleft() for _ in range(number)])
            allowed -= number
            if pace.limited:
                pace.take(number)
        if backlog:
            self._pump_when_the_rates_let()
        self._window_used.set(self.open_requests)

    def _room_made(self) -> None:
        """Something was answered, or a link came: first the backlog, then the durable queue."""
        self.pump()
        if not self._backlog:
            self.on_room()

    def _pump_when_the_rates_let(self) -> None:
        """Come back when a rate lets more through; for a window an answer has to come first."""
        pace = self._standing.pace
        if self._pumping_later or (not pace.limited and self.settings.bind_rate is None):
            return
        waits = [link.wait_s for link in self._senders if link.room <= 0]
        # A link without a rate, or with room, waits for nothing but the upstream's rate.
        free = len(waits) < len(self._senders)
        wait_s = 0.0 if free else min((w for w in waits if w is not None), default=None)
        if pace.limited and pace.available(self._loop.time()) <= 0 and wait_s is not None:
            wait_s = max(wait_s, pace.wait_s())
        # Time has passed since `pump` looked: what waits may go by now.
        if wait_s or (wait_s is not None and self._backlog):
            self._pumping_later = self._loop.call_later(max(wait_s, 0.001), self._pump_now)

    def _pump_now(self) -> None:
        self._pumping_later = None
        self._room_made()

    async def _watch(self) -> None:
        """What waited for a slot as long as for an answer goes back: its client has waited too."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = self._loop.time()
            self._standing.look(now, self.bound)
            stale = [message for message in self._backlog if message.waits_until <= now]
            if stale:
                self._backlog = deque(m for m in self._backlog if m.waits_until > now)
                self._settle.not_sent_in_time(stale, f"upstream {self.name} had no room in time")

    # ---------------------------------------------------------------- starting and leaving

    def start(self) -> None:
        """Connect, and keep connected."""
        self._tasks.spawn(self._watch(), f"backlog of {self.name}")
        for number in range(self.settings.binds):
            for bind_command in BINDS[self.settings.bind]:
                name = f"link {self.name} {number} {smpp.command_name(bind_command)}"
                self._tasks.spawn(self._connector.keep_linked(bind_command), name)

    async def stop(self, patience_s: float) -> None:
        """Wait for open answers, then unbind."""
        await wait_until(lambda: not self._backlog and not self.open_requests, patience_s)
        self._stopping = self._connector.stopping = True
        for link in list(self._links):
            link.unbind("the proxy is shutting down")
        await wait_until(lambda: not self._links, _UNBIND_S)
        for link in list(self._links):
            link.close("the proxy is shutting down")


def _nobody_waits() -> None:
    """No durable queue is there."""
