"""Beside the way of messages: a warning before an account is empty, and when it is.

Once a second the thresholds of all accounts are compared with what is left to spend
(proxy/store/queries/fire_thresholds.sql and rearm_thresholds.sql say when one fires).  Nothing
of this is in the hot path.  What is crossed, topped up and crossed again between two looks is
told once, except at zero, where it is told again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from proxy.flow.rounds import attempt
from proxy.store import warnings
from proxy.telemetry import metrics

log = structlog.get_logger()

_EVERY_S = 1.0
_THOROUGH_EVERY = 10
"""How often a look takes in the hours to empty, which change slowly and cost ten times as much."""
_SAMPLE_EVERY_S = 300


class Warn:
    """Runs until cancelled; on several proxies at once each threshold fires once."""

    def __init__(
        self,
        pool: Callable[[], Any],
        *,
        webhooks: bool,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """`webhooks` says whether somebody is to be told; None as a clock is the database's."""
        self._pool = pool
        self._webhooks = webhooks
        self._clock = clock
        self._sampled = -1

    async def run(self) -> None:
        """Look now and every second; at hours to empty every ten seconds."""
        for look in itertools.count():
            once = partial(self.once, hours=look % _THOROUGH_EVERY == 0)
            await attempt(once, waits="warnings_wait", failed="warnings_failed")
            await asyncio.sleep(_EVERY_S)

    async def once(self, *, hours: bool = True) -> list[warnings.Fired]:
        """One look at every account, also at its hours to empty; returns what fired."""
        now = self._clock() if self._clock is not None else None
        async with self._pool().acquire() as connection:
            await self._sample(connection, now)
            await warnings.rearm_thresholds(connection, hours=hours, now=now)
            fired = await warnings.fire_thresholds(
                connection, webhooks=self._webhooks, hours=hours, now=now
            )
            low = await warnings.low_accounts(connection)
        metrics.ACCOUNTS_LOW.set(low.low)
        metrics.ACCOUNTS_EMPTY.set(low.empty)
        for one in fired:
            metrics.LOW_BALANCE_WARNINGS.labels(one.threshold_kind).inc()
            log.warning(one.kind, account=one.account, text=one.text)
        return fired

    async def _sample(self, connection: Any, now: datetime | None) -> None:
        """At the start, and when five minutes are full."""
        five_minutes = int((now or datetime.now(UTC)).timestamp() // _SAMPLE_EVERY_S)
        if five_minutes != self._sampled:
            await warnings.sample_usage(connection, now)
            await warnings.forget_webhooks(connection, now)
            self._sampled = five_minutes
