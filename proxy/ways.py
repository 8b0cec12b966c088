"""The ways out of the configuration: upstreams of every kind, and the routes over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from proxy.config import ModemSettings, PoolSettings, Settings, UpstreamUnion, is_modem
from proxy.flow.deliver import Deliver
from proxy.flow.failover import Failover
from proxy.flow.forward import Forward
from proxy.flow.message import Upstream
from proxy.flow.queue import Queue
from proxy.flow.settle import Settle
from proxy.links.modem_pool import ModemPool
from proxy.links.modem_upstream import ModemUpstream
from proxy.links.modem_work import answer_within_s
from proxy.links.smsc_upstream import SmscUpstream
from proxy.routing.table import RouteTable, build_routes
from proxy.store import accounts
from proxy.store.sim_usage import SimUsage
from proxy.telemetry.tasks import Tasks

AnyUpstream = SmscUpstream | ModemUpstream | ModemPool


class Ways:
    """Every upstream of this proxy by its id, and the table of routes."""

    def __init__(
        self,
        settle: Settle,
        failover: Failover,
        deliver: Deliver,
        forward: Forward,
        queue: Queue,
        tasks: Tasks,
        record_event: Callable[..., None],
    ) -> None:
        self._flow: Final = (settle, failover, deliver, tasks, record_event)
        self._forward = forward
        self._queue = queue
        self.upstreams: dict[int, AnyUpstream] = {}
        self.routes: RouteTable[Upstream] = RouteTable(())
        self._by_name: dict[str, AnyUpstream] = {}

    async def build(self, settings: Settings, pool: Any) -> None:
        """Make the upstreams; nothing is connected yet."""
        # Pools last: they are made of modems.
        for one in sorted(settings.upstream, key=lambda u: isinstance(u, PoolSettings)):
            upstream_id = await pool.fetchval(
                "INSERT INTO upstream (name) VALUES ($1) ON CONFLICT (name)"
                " DO UPDATE SET name = excluded.name RETURNING id",
                one.name,
            )
            upstream = self._make(one, upstream_id, pool)
            if not isinstance(upstream, ModemPool):
                upstream.forward = self._forward
            upstream.on_room = self._queue.wake
            self.upstreams[upstream_id] = self._by_name[one.name] = upstream
        self.set_routes(settings)

    def _make(self, settings: UpstreamUnion, upstream_id: int, pool: Any) -> AnyUpstream:
        if isinstance(settings, PoolSettings):
            members = [self._by_name[name] for name in settings.modems]
            modems = [one for one in members if isinstance(one, ModemUpstream)]
            return ModemPool(settings, upstream_id, modems)
        if isinstance(settings, ModemSettings):

            async def account_id_of(name: str) -> int | None:
                return await accounts.id_of(pool, name)

            usage = SimUsage(lambda: pool)
            return ModemUpstream(settings, upstream_id, *self._flow, usage, account_id_of)
        return SmscUpstream(settings, upstream_id, *self._flow)

    def set_routes(self, settings: Settings) -> None:
        """Messages take these routes from now on.  Raises KeyError for an unknown upstream."""
        slow = {one.name for one in settings.upstream if is_modem(one)}
        self.routes = build_routes(
            settings.routes_or_default, self._by_name, lambda name: name in slow
        )
        self._queue.routes = self.routes

    def start(self) -> None:
        """Connect, and keep connected."""
        for upstream in self.upstreams.values():
            upstream.start()

    async def stop(self, patience_s: float) -> None:
        """Wait for what is under way, then disconnect."""
        await asyncio.gather(*(u.stop(patience_s) for u in self.upstreams.values()))

    @property
    def any_bound(self) -> bool:
        """Whether any of them takes messages."""
        return any(upstream.bound for upstream in self.upstreams.values())

    @property
    def backlog(self) -> int:
        """Charged messages that wait for a window slot."""
        return sum(u.backlog for u in self.upstreams.values() if not isinstance(u, ModemPool))

    def statuses(self) -> list[dict[str, Any]]:
        """For the other proxies, in the form of proxy.store.nodes."""
        return [upstream.status() for upstream in self.upstreams.values()]


def slowest_answer_s(settings: Iterable[UpstreamUnion]) -> float:
    """For how long an upstream may have a message before its answer is overdue.

    It waits for a window slot as long as for its answer, at most.
    """
    longest = 0.0
    for one in settings:
        if isinstance(one, ModemSettings):
            longest = max(longest, answer_within_s(one))
        elif not isinstance(one, PoolSettings):
            longest = max(longest, 2 * one.response_timeout_s)
    return longest
