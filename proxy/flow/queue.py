"""The durable queue, beside the way of a message whose client waits.

A message of a queued route is committed with its debit and answered; from then on it is here: in
PostgreSQL, in order for each destination.  `run` claims what the upstreams have room for, and
gives it to `forward` as if it had just been charged.  What comes of that ends it, or puts it off
with a pause that doubles; what expires gets a receipt of our making.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import structlog

from proxy.config import QueueSettings
from proxy.flow import waiting
from proxy.flow.forward import Forward
from proxy.flow.homeless import Homeless
from proxy.flow.message import Message, Upstream
from proxy.flow.rounds import attempt
from proxy.flow.settle import Settle
from proxy.flow.waiting import GivenUp
from proxy.routing.table import Route, RouteTable
from proxy.smpp.pdu import PduError
from proxy.smpp.times import timing
from proxy.smpp.vocabulary import MessageState
from proxy.store import queue as store
from proxy.store.database import UNREACHABLE
from proxy.store.group_commit import Lane
from proxy.store.ids import IdMint
from proxy.store.ledger import Settlement
from proxy.store.queue import Ended, Place, Postponed
from proxy.telemetry import metrics

log = structlog.get_logger()

_LOOK_EVERY_S = 1.0
_COUNT_EVERY_S = 15.0
_CLAIM_MAX = 500
_EXPIRED_AT_ONCE = 500
_AHEAD = 2
"""Nothing is claimed for a route while so many times its room waits to be committed."""

Item = Ended | Postponed | Message | GivenUp
"""A Message is one that was charged for the direct way, and comes into the queue."""


class Queue:
    """What this proxy does for the queue that all proxies share."""

    def __init__(
        self,
        pool: Callable[[], Any],
        connect: Callable[[], Awaitable[Any]],
        mint: IdMint,
        settings: QueueSettings,
        settle: Settle,
        forward: Forward,
        record_event: Callable[..., None],
    ) -> None:
        self._pool = pool
        self._mint = mint
        self._settings = settings
        self._settle = settle
        self._forward = forward
        self._record_event = record_event
        self.routes: RouteTable[Upstream] = RouteTable(())
        self.full = False
        """It holds as many messages as it may."""
        self.draining = False
        self._waiting: set[str] = set()
        """Routes that have something in the queue, as far as this proxy knows."""
        self._run = secrets.randbits(62)
        """Marks the claims of this proxy; its node number may be another's next."""
        self._here: dict[int, Message] = {}
        """Claimed by this proxy: their line waits until they are out of here."""
        self._unreadable: set[int] = set()
        """Claimed, and never sent."""
        self._homeless = Homeless(pool, record_event)
        self._uncommitted: Counter[str] = Counter()
        """By route: what has an outcome that is in doubt if this proxy dies now."""
        self._arrived: set[str] = set()
        """Routes that something came for while the database was asked which have any."""
        self._turn = 0
        self._unsure = True
        """Perhaps more is claimed than is known here: an answer of the database was lost."""
        self._wake = asyncio.Event()
        self._claiming = asyncio.Lock()
        self.lane: Lane[Item, set[int]] = Lane(
            "queue",
            connect=connect,
            execute=self._execute,
            committed=self._committed,
            failed=self._failed,
            retry=True,
        )

    # ------------------------------------------------------------------------ coming in

    def takes(self, route: Route[Upstream]) -> bool:
        """Whether a message of this route goes through the queue now.

        Where its upstreams were down, until what waits is gone: nothing overtakes it.
        """
        if route.mode == "queued":
            return True
        return route.queue_when_down and (
            route.name in self._waiting or not any(u.bound for u in route.upstreams)
        )

    def place(self, message: Message, now_s: float) -> Place:
        """Where a message will stand.  Raises PduError when its times are malformed."""
        assert message.route is not None
        due_at_s, expires_at_s = timing(message.command_id, message.body, now_s)
        return Place(
            message.route.name,
            store.line_of(message.destination_addr),
            due_at_s or 0.0,
            self.latest(due_at_s or now_s, expires_at_s),
        )

    def latest(self, begins_s: float, expires_at_s: float | None) -> float:
        """When a message expires that may be sent from `begins_s` on."""
        latest_s = begins_s + self._settings.max_age_s
        return latest_s if expires_at_s is None else min(expires_at_s, latest_s)

    def arrived(self, messages: Iterable[Message]) -> None:
        """They are committed in the queue."""
        names = {m.queue.route for m in messages if m.queue is not None}
        self._waiting |= names
        self._arrived |= names
        self.wake()

    def enqueue(self, messages: list[Message]) -> bool:
        """Charged messages whose upstreams are gone: their route lets them wait here."""
        if self.full or self.draining:
            return False
        now_s = time.time()
        for message in messages:
            try:
                message.queue = self.place(message, now_s)
            except PduError:  # for the direct way its times were the carrier's business
                message.queue = Place(
                    message.route.name if message.route else "",
                    store.line_of(message.destination_addr),
                    0.0,
                    self.latest(now_s, None),
                )
        self.lane.add(list(messages))
        return True

    def wake(self) -> None:
        """There may be room at an upstream, or something to send."""
        self._wake.set()

    # ---------------------------------------------------------------------- what ends it

    async def passed(self) -> None:
        """Returns when everything handed in before this call is committed."""
        await self.lane.passed()

    def ended(self, settlements: list[Settlement]) -> None:
        """They have an outcome, or are in doubt: they leave the queue with that."""
        now_s = time.time()
        self._uncommitted.update(s.message.queue.route for s in settlements)
        self.lane.add([Ended(s, waiting.receipts_of(s, now_s)) for s in settlements])

    def not_sent(self, messages: list[Message], reason: str) -> None:
        """Claimed and not tried: free for the next claim of any proxy.

        A part may wait for the one upstream that has the other parts, while there is room at
        others: it is not claimed again and again.
        """
        self.lane.add([Postponed(m, reason, at_once=m.part is None) for m in messages])

    def refused(self, message: Message, status: int, reason: str) -> None:
        """Refused for now: tried again after a pause."""
        self.lane.add([Postponed(message, reason, status)])

    def given_up(self, messages: list[Message], status: int) -> None:
        """Their charge failed, or its commit was not confirmed: they may be in the queue.

        Whoever claims first would send what its client was refused, so the client waits until
        it is known.  What can't be taken out again is accepted.
        """
        self.lane.add([GivenUp(message, status) for message in messages])

    async def _execute(self, connection: Any, batch: list[Item]) -> set[int]:
        coming = [item for item in batch if isinstance(item, Message)]
        if coming:
            await store.put(connection, coming)
        given_up = [item.settlement for item in batch if isinstance(item, GivenUp)]
        kept = await store.give_up(connection, self._mint, given_up) if given_up else set()
        ended = [item for item in batch if isinstance(item, Ended)]
        postponed = [item for item in batch if isinstance(item, Postponed)]
        if not ended and not postponed:
            return kept
        return kept | await store.work(
            connection,
            self._mint,
            ended,
            postponed,
            retry_min_s=self._settings.retry_min_s,
            retry_max_s=self._settings.retry_max_s,
        )

    def _committed(self, batch: list[Item], released: set[int]) -> None:
        coming: list[Message] = []
        settlements: list[Settlement] = []
        for item in batch:
            if isinstance(item, Message):
                coming.append(item)
            elif isinstance(item, GivenUp):
                if item.message.id in released:  # here: what stays
                    self._settle.held_micro += item.message.price_micro
                    coming.append(item.message)
                else:
                    item.refuse()
            elif isinstance(item, Ended):
                settlements.append(item.settlement)
                self._uncommitted[item.settlement.message.queue.route] -= 1
                self._not_here(item.settlement.message)
            else:
                self._not_here(item.message)
                metrics.QUEUE_POSTPONED.inc()
        if settlements:
            self._settle.committed(settlements, released)
        if coming:
            self._settle.queued(coming)
            self.arrived(coming)
        self.wake()

    def _not_here(self, message: Message) -> None:
        """It is out of here; but perhaps it was claimed again before this was heard."""
        if self._here.get(message.id) is message:
            del self._here[message.id]

    def _failed(self, batch: list[Item]) -> None:
        """The database refuses this for ever: what is claimed stays so, for an operator to see."""
        for item in batch:
            if isinstance(item, Message):
                item.queue = None  # and not once more into the queue
                self._settle.not_sent_in_time([item], "the queue did not take it")
            elif isinstance(item, GivenUp):
                item.refuse()
            elif isinstance(item, Ended):
                self._uncommitted[item.settlement.message.queue.route] -= 1
                if item.settlement.in_doubt:
                    continue
                # Once more, in words that are ours: its line must not stand still for ever.
                old, why = item.settlement, "its outcome could not be written"
                args = (old.message, old.upstream_id, old.status)
                self.ended([Settlement(*args, in_doubt=True, reason=why)])

    # ----------------------------------------------------------------------- going out

    async def run(self) -> None:
        """Give upstreams what they have room for, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._wake.wait()
            self._wake.clear()
            await attempt(self.once, waits="queue_waits", failed="queue_failed")

    async def once(self) -> None:
        """Claim until there is no room, or nothing left that may go."""
        nothing_more: set[str] = set()
        while not self.draining:
            limits = self._limits(nothing_more)
            if not limits:
                return
            async with self._claiming:
                claimed = await self._claim(limits)
                messages = [self._message(one) for one in claimed]
                self._forward.send([m for m in messages if m is not None])
            counts = Counter(one.route for one in claimed)
            nothing_more.update(name for name, limit in limits.items() if counts[name] < limit)

    def _limits(self, nothing_more: set[str]) -> dict[str, int]:
        """How many messages of each waiting route there is room for.

        Routes that share an upstream have its room in turn.
        """
        spare: dict[Upstream, int] = {}
        limits: dict[str, int] = {}
        routes = [r for r in self.routes.routes if r.name in self._waiting - nothing_more]
        self._turn += 1
        first = self._turn % max(1, len(routes))
        for route in routes[first:] + routes[:first]:
            room = 0
            for upstream in route.upstreams:
                if not upstream.bound:
                    continue
                left = spare.get(upstream)
                if left is None:
                    left = upstream.spare
                take = min(left, _CLAIM_MAX - room)
                spare[upstream] = left - take
                room += take
            if room > 0 and self._uncommitted[route.name] <= _AHEAD * room:
                limits[route.name] = room
        return limits

    async def _claim(self, limits: dict[str, int]) -> list[store.Claimed]:
        node = self._mint.node
        try:
            async with self._pool().acquire() as connection:
                if self._unsure:
                    known = [*self._here, *self._unreadable]
                    await store.free_unknown_claims(connection, node, known, self._run)
                    self._unsure = False
                return await store.claim(connection, node, limits, self._run)
        except BaseException:
            self._unsure = True
            raise

    def _message(self, claimed: store.Claimed) -> Message | None:
        """The message as its upstream gets it."""
        try:
            message = waiting.message_of(claimed, time.time())
        except PduError:
            # It could be read when it came.  It stays claimed, for an operator to see.
            log.exception("queued_message_unreadable", message_id=claimed.id)
            self._unreadable.add(claimed.id)
            return None
        message.route = self.routes.by_name.get(claimed.route)
        if message.route is not None:
            message.upstreams = message.route.ways(lambda upstream: upstream.cost_micro(message))
        self._here[message.id] = message
        return message

    # ------------------------------------------------------------------- now and then

    async def watch(self) -> None:
        """What expires, what has no route any more, and how much there is; until cancelled."""
        counted_at = float("-inf")
        while True:
            await attempt(self._look, waits="queue_watch_waits", failed="queue_watch_failed")
            if time.monotonic() - counted_at > _COUNT_EVERY_S:
                await attempt(self._count, waits="queue_watch_waits", failed="queue_watch_failed")
                counted_at = time.monotonic()
                # A claim may be committed long after its connection was lost.
                self._unsure = True
            await attempt(
                lambda: self._homeless.move(self.routes),
                waits="queue_watch_waits",
                failed="queue_watch_failed",
            )
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self) -> None:
        self._arrived = set()
        self._waiting = set(await store.routes_waiting(self._pool())) | self._arrived
        self.wake()
        while expired := await store.expired(self._pool(), _EXPIRED_AT_ONCE):
            ended = await self.withdraw(expired, MessageState.EXPIRED, "expired in the queue")
            if ended < _EXPIRED_AT_ONCE:
                break

    async def withdraw(
        self, wanted: list[tuple[int, int]], state: MessageState, reason: str
    ) -> int:
        """Take messages out, by (account_id, message_id); returns how many were there."""
        ended, released = await waiting.withdraw(
            self._pool(), self._mint, wanted, state, reason, time.time()
        )
        self._settle.committed(ended, released)
        self.wake()
        return len(ended)

    async def _count(self) -> None:
        depths = await store.depths(self._pool())
        self.full = sum(depth.messages for depth in depths) >= self._settings.messages_max
        known = {route.name for route in self.routes.routes}
        nothing = known.difference(depth.route for depth in depths)
        for depth in (*depths, *(store.Depth(name, 0, 0.0) for name in nothing)):
            metrics.DURABLE_QUEUE_MESSAGES.labels(depth.route).set(depth.messages)
            metrics.DURABLE_QUEUE_OLDEST_SECONDS.labels(depth.route).set(depth.oldest_s)
        if any(depth.route not in known for depth in depths):
            self._homeless.begin()

    async def stop(self) -> None:
        """Claim nothing more; returns when what is under way is known."""
        self.draining = True
        async with self._claiming:
            pass

    async def close(self) -> None:
        """The upstreams have stopped: what was not sent is free for other proxies."""
        with suppress(*UNREACHABLE):
            await self.lane.passed()
            known, node = list(self._here), self._mint.node
            await store.free_unknown_claims(self._pool(), node, known, self._run)
