"""What this proxy remembers of the database, kept up to date.

Rules, prices, inbound addresses and what operators say of upstreams change while messages flow.
Each change is told by a notification, and looked for now and then in case one is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from proxy.credit.tariff import Tariff
from proxy.flow.bind import Registry
from proxy.flow.deliver import Deliver
from proxy.flow.rounds import attempt
from proxy.routing.inbound import InboundTable
from proxy.store import accounts, tariffs, upstreams

_EVERY_S = 10.0
_RECHECK_EVERY_S = 1.0


class ManagedUpstream(Protocol):
    """What operators change of an upstream while it works."""

    paused: bool
    costs: Tariff | None


class Refresh:
    """Reads again what has changed."""

    def __init__(
        self,
        pool: Callable[[], Any],
        registry: Registry,
        deliver: Deliver,
        upstreams_by_id: Mapping[int, ManagedUpstream],
    ) -> None:
        self._pool = pool
        self._registry = registry
        self._deliver = deliver
        self._upstreams = upstreams_by_id
        self._changed = asyncio.Event()

    def changed(self, _payload: str = "") -> None:
        """Something has changed in the database."""
        self._registry.changes += 1
        self._changed.set()

    def again(self) -> None:
        """What was read a moment ago may be out of date."""
        self._changed.set()

    def credit_came(self, payload: str) -> None:
        """An account, by its id, has more to spend."""
        if payload.isdigit():
            self._registry.wake(int(payload))

    async def once(self) -> None:
        """Read everything that is remembered again."""
        pool = self._pool()
        await self._registry.refresh(pool, list(self._registry.accounts))
        self._deliver.inbound = InboundTable(await accounts.all_inbound(pool))
        for row in await upstreams.managed(pool):
            upstream = self._upstreams.get(row["id"])
            if upstream is not None:
                upstream.paused = row["paused"]
                upstream.costs = await self._costs(upstream.costs, row["cost_tariff_id"])

    async def _costs(self, known: Tariff | None, tariff_id: int | None) -> Tariff | None:
        if tariff_id is None:
            return None
        version = (await tariffs.versions(self._pool(), [tariff_id])).get(tariff_id)
        if known is not None and (known.id, known.version) == (tariff_id, version):
            return known
        return await tariffs.load_tariff(self._pool(), tariff_id)

    async def run(self) -> None:
        """Until cancelled.  One at a time, so that an older answer never overwrites a newer one."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S):
                    await self._changed.wait()
            self._changed.clear()
            await attempt(self.once, waits="not_refreshed", failed="refresh_failed")

    async def recheck(self) -> None:
        """Look after accounts that are refused from memory, until cancelled."""
        while True:
            await asyncio.sleep(_RECHECK_EVERY_S)
            await attempt(
                lambda: self._registry.recheck_dry(self._pool()),
                waits="not_rechecked",
                failed="recheck_failed",
            )
