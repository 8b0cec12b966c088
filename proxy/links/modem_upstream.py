"""A GSM modem as an upstream: its backlog, its SIM's limits, what becomes of its messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from proxy.config import ModemSettings
from proxy.credit.tariff import Tariff
from proxy.flow.costs import cost_by
from proxy.flow.deliver import Deliver
from proxy.flow.failover import Failover
from proxy.flow.forward import Forward
from proxy.flow.message import Message, Operation, Upstream
from proxy.flow.settle import Settle
from proxy.links.modem_connect import Connector
from proxy.links.modem_handover import Handover
from proxy.links.modem_inbox import Inbox
from proxy.links.modem_limits import SimLimits
from proxy.links.modem_link import ModemLink
from proxy.links.modem_memory import SimMemory
from proxy.links.modem_reports import Reports, report_key
from proxy.links.modem_start import Modem
from proxy.links.modem_watch import Watch
from proxy.links.modem_work import Worker
from proxy.routing.health import Health, State
from proxy.routing.status_rules import Rule, Rules
from proxy.smpp import vocabulary as smpp
from proxy.smpp.address_rules import AddressRules
from proxy.store.sim_usage import SimUsage
from proxy.telemetry import metrics
from proxy.telemetry.tasks import Tasks

log = structlog.get_logger()

LOOK_EVERY_S = 0.5
SAVE_EVERY_S = 2.0
AWAY_S = 10.0
"""A modem that is lost longer than this keeps no messages."""
_END_S = 2.0
_NO_SIGNAL = -113
_SPARE = 2
"""Messages of the durable queue that are here at a time: one goes out, the next one waits."""


class ModemUpstream:
    """One `[[upstream]]` with kind = "modem"."""

    def __init__(
        self,
        settings: ModemSettings,
        upstream_id: int,
        settle: Settle,
        failover: Failover,
        deliver: Deliver,
        tasks: Tasks,
        record_event: Callable[..., None],
        usage: SimUsage,
        account_id_of: Callable[[str], Awaitable[int | None]],
    ) -> None:
        """`account_id_of` finds the account that inbound messages are for, by its name."""
        self.settings = settings
        self.name = settings.name
        self.id = upstream_id
        self.forward: Forward | None = None
        """Where the backlog goes when the modem stays away."""
        self.pool: Upstream | None = None
        self.paused = False
        """An operator's wish: nothing new goes this way; what is under way ends."""
        self.costs: Tariff | None = None
        self.on_room: Callable[[], None] = _nobody_waits
        self.address_rules = AddressRules(settings.address)
        self._tasks = tasks
        self._record_event = record_event
        self._account_id_of = account_id_of
        self._rules = Rules(settings.on_status)
        self._health = Health(settings.health)
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._link: ModemLink | None = None
        self._modem = Modem()
        self._keeper: asyncio.Task[None] | None = None
        self._away_since = self._loop.time()
        self._was_bound = False
        self._limits = SimLimits(settings.per_hour, settings.per_day, settings.per_month)
        self._memory = SimMemory(settings.name, upstream_id, usage, self._limits)
        number = settings.number or ""
        inward = partial(self.address_rules.inward, smpp.DELIVER_SM)
        reports = Reports(number, inward)
        handover = Handover(deliver, upstream_id, all_asked=self.address_rules.asks_receipt)
        self._inbox = Inbox(handover, reports, number, inward, self._account_id)
        self._watch = Watch(
            settings, self._is_idle, self._network_changed, self._memory.balance_came
        )
        self._worker = Worker(
            settings,
            self,
            settle,
            failover,
            reports,
            self._inbox,
            self._limits,
            self._health,
            self._room_made,
        )
        self._connector = Connector(settings, self, self._inbox, self._watch, record_event)
        metrics.UPSTREAM_UP.labels(self.name).set(0)

    # ------------------------------------------------------------------ what the flow sees

    def response_key(self, smsc_message_id: str) -> str | None:
        """Reports may name the recipient in another way: its last digits are what counts."""
        reference, _, digits = smsc_message_id.partition("-")
        if not digits or not reference.isdecimal():
            return None
        key = report_key(int(reference), digits)
        return None if key == smsc_message_id else key

    def cost_micro(self, message: Message) -> int | None:
        """What the SIM's operator takes for a message; None: not known."""
        return cost_by(self.costs or getattr(self.pool, "costs", None), message)

    def rule(self, status: int) -> Rule:
        """What is done about a command_status other than ESME_ROK."""
        return self._rules.rule(status)

    @property
    def ready(self) -> bool:
        """A modem with a network."""
        return self._link is not None and self._watch.registered and not self._link.gone.done()

    @property
    def bound(self) -> bool:
        """Can take messages: ready, not paused or stopping, its SIM not at its limit."""
        return self.ready and not self.paused and not self._stopping and self._within_limits

    @property
    def _within_limits(self) -> bool:
        return self._limits.left(time.time()) != 0

    @property
    def healthy(self) -> bool:
        """Bound, and it did not fail too often."""
        return self.bound and self._health.usable(self._loop.time())

    @property
    def allowance(self) -> int | None:
        """How many more messages it should get while others are healthy; None: any number."""
        allowed = self._health.allowance(self._loop.time())
        return None if allowed is None else max(0, allowed - self.waiting)

    @property
    def room(self) -> int:
        """How many more messages may be charged for it."""
        return self.settings.backlog_max - len(self._worker.backlog)

    @property
    def spare(self) -> int:
        """How many messages of the durable queue it would take now."""
        return max(0, _SPARE - self.waiting) if self.bound else 0

    @property
    def backlog(self) -> int:
        """Charged messages that wait."""
        return len(self._worker.backlog)

    @property
    def open_requests(self) -> int:
        """1 while a message is being sent."""
        return int(self._worker.job is not None)

    @property
    def waiting(self) -> int:
        """All that is to be sent."""
        return self.backlog + self.open_requests

    @property
    def sending_link(self) -> ModemLink | None:
        """The modem, when it may send now."""
        return self._link if self.ready and self._within_limits else None

    def send(self, messages: list[Message]) -> None:
        """One after the other; the rest waits."""
        self._worker.send(messages)

    def hand_on(self, messages: list[Message]) -> None:
        """What no modem of a pool can take any more: another upstream may."""
        if self.forward is not None:
            self.forward.send(messages)
        else:
            self.send(messages)

    def operate(self, operation: Operation) -> bool:
        """A modem can't ask about, cancel or replace what it has sent."""
        return False

    # ---------------------------------------------------------------------- what modems tell

    def connected(self, link: ModemLink, modem: Modem) -> None:
        """It has started."""
        self._link, self._modem = link, modem
        self._worker.started_anew()
        self._network_changed()

    def disconnected(self, reason: str) -> None:
        """It is gone; what waits stays for a moment."""
        self._link = None
        self._away_since = self._loop.time()
        self._health.lost(self._away_since)
        metrics.MODEM_RESTARTS.labels(self.name).inc()
        self._look(reason)
        if not self._stopping:
            log.warning("modem_lost", upstream=self.name, reason=reason)

    def _network_changed(self) -> None:
        if not self.ready:
            self._away_since = self._loop.time()
        self._worker.wake()
        self._look()

    def _is_idle(self) -> bool:
        return self.waiting == 0

    async def _account_id(self) -> int | None:
        name = self.settings.account
        return None if name is None else await self._account_id_of(name)

    def trouble(self) -> None:
        """A message failed for a reason that may be the network's."""
        self._watch.look_soon()

    # ----------------------------------------------------------------------- watching it

    @property
    def state(self) -> str:
        """In a word: up, down, paused, resting, pin, no network, limit."""
        if self.paused:
            return "paused"
        if self._connector.locked:
            return "pin"
        if self._link is None:
            return "down"
        if not self._watch.registered:
            return "no network"
        if not self._within_limits:
            return "limit"
        return "up" if self._health.state is State.HEALTHY else "resting"

    def status(self) -> dict[str, object]:
        """For the other proxies, in the form of proxy.store.nodes."""
        now_s, stored = time.time(), self._inbox.storage
        used, until = self._limits.used(now_s), self._limits.again_at_s(now_s)
        limits = (self.settings.per_hour, self.settings.per_day, self.settings.per_month)
        return {
            "name": self.name,
            "kind": "modem",
            "state": self.state,
            "links": int(self.ready),
            "window_used": self.open_requests,
            "window_max": int(self.ready),
            "backlog": self.backlog,
            "paused": self.paused,
            "pool": self.pool.name if self.pool is not None else None,
            "health": self._health.state.value,
            "why": self._connector.locked
            or (self._connector.reason if self._link is None else self._health.why),
            "device": self.settings.device,
            "signal_dbm": self._watch.signal_dbm,
            "operator": self._watch.operator,
            "manufacturer": self._modem.manufacturer,
            "model": self._modem.model,
            "revision": self._modem.revision,
            "imei": self._modem.imei,
            "imsi": _masked(self._modem.imsi),
            "stored": None if stored is None else f"{stored.used}/{stored.total}",
            "used": dict(zip(("hour", "day", "month"), used, strict=True)),
            "limits": dict(zip(("hour", "day", "month"), limits, strict=True)),
            "limited_until": int(until) if until > now_s else None,
            "balance": self._memory.balance_text,
            "balance_at": int(self._memory.balance_at_s) if self._memory.balance_text else None,
        }

    async def _run(self) -> None:
        """Look after it until cancelled."""
        save_at = self._loop.time() + SAVE_EVERY_S
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = self._loop.time()
            self._look()
            self._worker.look(now)
            away = not self.ready and now - self._away_since >= AWAY_S
            if away or not self._within_limits:
                self._worker.give_back()
            if now >= save_at:
                save_at = now + SAVE_EVERY_S
                await self._memory.save()

    def _look(self, reason: str = "") -> None:
        """Tell of what has changed, by itself or with the time."""
        bound = self.bound
        metrics.UPSTREAM_UP.labels(self.name).set(self.ready)
        metrics.UPSTREAM_HEALTHY.labels(self.name).set(self.healthy)
        metrics.MODEM_REGISTERED.labels(self.name).set(self._watch.registered)
        signal_dbm = self._watch.signal_dbm
        shown_dbm = _NO_SIGNAL if signal_dbm is None else signal_dbm
        metrics.MODEM_SIGNAL_DBM.labels(self.name).set(shown_dbm)
        left = self._limits.left(time.time())
        if left is not None:
            metrics.MODEM_LIMIT_LEFT.labels(self.name).set(left)
        if bound != self._was_bound:
            self._was_bound = bound
            if bound:
                what = f"{self._modem.manufacturer} {self._modem.model}".strip() or "a modem"
                self._record_event("upstream_bound", f"Upstream {self.name} is ready: {what}")
                self._worker.wake()
                self.on_room()
            elif not self._stopping and not self.paused:
                text = f"Upstream {self.name} can't send: {reason or self.state}"
                self._record_event("upstream_lost", text, severity="error")

    def _room_made(self) -> None:
        self.on_room()

    # ---------------------------------------------------------------- starting and leaving

    def start(self) -> None:
        """Connect, and keep connected."""
        self._worker.start(self._tasks.spawn)
        self._tasks.spawn(self._run(), f"watch {self.name}")
        self._keeper = self._tasks.spawn(self._keep(), f"keep {self.name}")

    async def _keep(self) -> None:
        pin = self.settings.pin
        value = None if pin is None else pin.get_secret_value()
        self._connector.pin = await self._memory.load(value)
        if self._memory.balance_text is not None:
            asked_at_s = self._memory.balance_at_s
            self._watch.balance_due_s = asked_at_s + self.settings.balance_every_s
        await self._connector.keep_connected()

    async def stop(self, patience_s: float) -> None:
        """Send what can be sent in time, then leave the modem."""
        await self._worker.finish(patience_s)
        self._stopping = self._connector.stopping = True  # what goes back must not come again
        await self._worker.end()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait((self._keeper,), timeout=_END_S)
        await self._memory.save()


def _nobody_waits() -> None:
    """No durable queue is there."""


def _masked(imsi: str) -> str:
    """Country and network, and two digits to tell one from another."""
    return f"{imsi[:5]}…{imsi[-2:]}" if len(imsi) > 7 else ""
