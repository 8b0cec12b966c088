"""On a clock: the credits that plans grant, and those that expire.

Several proxies may do it at once: each period is granted once, each grant expires once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from proxy.credit.money import text_from_micro
from proxy.flow.rounds import attempt
from proxy.store import grants, plans
from proxy.store.ids import IdMint

log = structlog.get_logger()

_SECOND_US = 1_000_000


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


class Grants:
    """Runs until cancelled.

    `pool` gives the pool of connections, `clock` the time (with a time zone).
    """

    def __init__(
        self, pool: Callable[[], Any], mint: IdMint, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._pool = pool
        self._mint = mint
        self._clock = clock

    async def run(self) -> None:
        """Grant and expire now, and as each second begins."""
        while True:
            await attempt(self.once, waits="grants_wait", failed="grants_failed")
            # Periods begin with a second: an account without credits does not wait for the next.
            await asyncio.sleep((_SECOND_US - utc_now().microsecond) / _SECOND_US)

    async def once(self) -> None:
        """Grant what is due, then expire what is due.

        In this order an account whose credits of a period expire when those of the next are
        granted is not empty in between.
        """
        now = self._clock()
        async with self._pool().acquire() as connection:
            for granted in await plans.grant_due(connection, self._mint, now):
                log.info(
                    "credit_granted",
                    account_id=granted.account_id,
                    credits=text_from_micro(granted.amount_micro),
                    plan=granted.plan,
                    period=granted.period,
                )
            for account_id, micro in await grants.expire_due(connection, now):
                log.info("credit_expired", account_id=account_id, credits=text_from_micro(micro))
