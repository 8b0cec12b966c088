"""Several modems as one upstream: each message takes the one that has the least to do."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from proxy.config import PoolSettings
from proxy.credit.tariff import Tariff
from proxy.flow.costs import cost_by
from proxy.flow.message import Message, Operation
from proxy.links.modem_upstream import ModemUpstream
from proxy.routing.status_rules import Rule, Rules
from proxy.telemetry import metrics

_PINNED_S = 600.0
_PINNED_MAX = 10_000


class ModemPool:
    """One `[[upstream]]` with kind = "pool".

    Its modems are upstreams of their own: they are started, stopped, paused and reported on by
    themselves, and what they send is theirs, since a status report comes to the modem that sent.
    """

    def __init__(
        self, settings: PoolSettings, upstream_id: int, members: list[ModemUpstream]
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.id = upstream_id
        self.members = members
        self.pool = None
        self.paused = False
        """An operator's wish: nothing new goes this way."""
        self.costs: Tariff | None = None
        """Of those modems that have none of their own."""
        self._rules = Rules({})
        self._used: OrderedDict[ModemUpstream, None] = OrderedDict.fromkeys(members)
        """The one that was chosen last is the last."""
        self._pinned: OrderedDict[tuple[int, str], tuple[ModemUpstream, float]] = OrderedDict()
        self._up = metrics.UPSTREAM_UP.labels(self.name)
        for member in members:
            member.pool = self

    # ------------------------------------------------------------------ what the flow sees

    def response_key(self, smsc_message_id: str) -> str | None:
        """A modem answers, never the pool."""
        return None

    def cost_micro(self, message: Message) -> int | None:
        """What it costs at the pool's own tariff; None: not known."""
        return cost_by(self.costs, message)

    def rule(self, status: int) -> Rule:
        """Its modems have rules; this one is nobody's."""
        return self._rules.rule(status)

    @property
    def on_room(self) -> Callable[[], None]:
        """Called when a modem has room again."""
        return self.members[0].on_room

    @on_room.setter
    def on_room(self, called: Callable[[], None]) -> None:
        for member in self.members:
            member.on_room = called

    @property
    def bound(self) -> bool:
        """One of its modems can take messages."""
        return not self.paused and any(member.bound for member in self.members)

    @property
    def healthy(self) -> bool:
        """One of its modems is healthy."""
        return not self.paused and any(member.healthy for member in self.members)

    @property
    def allowance(self) -> int | None:
        """How many more messages it should get while others are healthy; None: any number."""
        allowed = 0
        for member in self.members:
            if member.bound:
                allowance = member.allowance
                if allowance is None:
                    return None
                allowed += allowance
        return allowed

    @property
    def room(self) -> int:
        """How many more messages may be charged for it."""
        return sum(member.room for member in self.members if member.bound)

    @property
    def spare(self) -> int:
        """How many messages of the durable queue it would take now."""
        return 0 if self.paused else sum(member.spare for member in self.members)

    @property
    def backlog(self) -> int:
        """Nothing waits here but in the modems."""
        return 0

    @property
    def open_requests(self) -> int:
        """Nothing is sent here but by the modems."""
        return 0

    def send(self, messages: list[Message]) -> None:
        """Each to the modem with the fewest waiting, and of those the one unused for longest.

        The parts of one message go to one modem: a handset joins only what has one sender.
        """
        homeless = []
        for message in messages:
            member = self._choose() if message.part is None else self._of_part(message)
            if member is None:
                homeless.append(message)
                continue
            self._used.move_to_end(member)
            member.send([message])
        if homeless:
            # Only when the last one went away a moment ago: now the pool is not bound any more.
            self.members[0].hand_on(homeless)

    def _choose(self) -> ModemUpstream | None:
        bound = [member for member in self._used if member.bound]
        usable = [member for member in bound if member.healthy] or bound
        return min(usable, key=lambda member: member.waiting, default=None)

    def _of_part(self, message: Message) -> ModemUpstream | None:
        """The modem that has the other parts, even while it is away: it may come back soon."""
        key, now = (message.account.id, message.part_key), asyncio.get_running_loop().time()
        member, until = self._pinned.pop(key, (None, 0.0))
        if member is None or now >= until:
            member, until = self._choose(), now + _PINNED_S
            if member is None:
                return None
        # While it is away that time runs out: what waits does not wait for a dead modem for ever.
        self._pinned[key] = (member, now + _PINNED_S if member.bound else until)
        if len(self._pinned) > _PINNED_MAX:
            self._pinned.popitem(last=False)
        return member

    def operate(self, operation: Operation) -> bool:
        """A modem can't ask about, cancel or replace what it has sent."""
        return False

    def status(self) -> dict[str, object]:
        """For the other proxies, in the form of proxy.store.nodes."""
        bound = sum(member.bound for member in self.members)
        self._up.set(bound)
        return {
            "name": self.name,
            "kind": "pool",
            "state": "paused" if self.paused else "up" if bound else "down",
            "links": bound,
            "window_used": sum(member.open_requests for member in self.members),
            "window_max": bound,
            "backlog": sum(member.backlog for member in self.members),
            "paused": self.paused,
            "modems": [member.name for member in self.members],
        }

    # ---------------------------------------------------------------- starting and leaving

    def start(self) -> None:
        """Nothing: each modem is started as an upstream of its own."""

    async def stop(self, patience_s: float) -> None:
        """Nothing: each modem is stopped as an upstream of its own."""
