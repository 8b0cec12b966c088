"""Sends the queued webhooks until somebody has taken them.

At least once each, whatever stops in the middle: a webhook is claimed for as long as an attempt
may take, and comes due again by itself.  Its id stays, so the receiver can tell a repetition.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

import structlog

from proxy.flow.rounds import attempt
from proxy.store import warnings
from proxy.store.warnings import DueWebhook
from proxy.telemetry import metrics

log = structlog.get_logger()

Send = Callable[[str], Awaitable[str | None]]
"""Sends a body; returns None when the receiver took it, else why not, one of few texts."""

AT_ONCE: Final = 8
"""Webhooks that are under way at the same time, for each proxy."""
RETRY_MIN_S: Final = 5.0
RETRY_MAX_S: Final = 3600.0
GIVE_UP_AFTER_S: Final = 3 * 86400.0

_EVERY_S = 1.0
_LEASE_MARGIN_S = 30.0
"""On top of an attempt: for writing down what became of it."""


def retry_in_s(attempts: int) -> float:
    """The pause after so many attempts: doubles from 5 s up to an hour, give or take a quarter.

    The quarter is chance, so that what failed together does not come back together.
    """
    pause_s = min(RETRY_MIN_S * 2.0 ** min(attempts - 1, 20), RETRY_MAX_S)
    return pause_s * random.uniform(0.75, 1.25)  # noqa: S311 - jitter


class Webhooks:
    """Runs until cancelled."""

    def __init__(
        self,
        pool: Callable[[], Any],
        send: Send,
        *,
        timeout_s: float,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """`timeout_s` is the longest that `send` takes; None as a clock is the database's."""
        self._pool = pool
        self._send = send
        self._lease_s = timeout_s + _LEASE_MARGIN_S
        self._clock = clock

    async def run(self) -> None:
        """Send what is due, now and every second; without a pause while there is more."""
        while True:
            sent = await attempt(self.once, waits="webhooks_wait", failed="webhooks_failed")
            if (sent or 0) < AT_ONCE:
                await asyncio.sleep(_EVERY_S)

    async def once(self) -> int:
        """Send what is due, several at the same time; returns how many that were."""
        async with self._pool().acquire() as connection:
            due = await warnings.claim_webhooks(
                connection, AT_ONCE, lease_s=self._lease_s, now=self._now()
            )
        attempts = (self._attempt(webhook) for webhook in due)
        for outcome in await asyncio.gather(*attempts, return_exceptions=True):
            if outcome is not None:  # that one's lease ends by itself
                raise outcome
        return len(due)

    def _now(self) -> datetime | None:
        return self._clock() if self._clock is not None else None

    async def _attempt(self, webhook: DueWebhook) -> None:
        reason = await self._send(webhook.body)
        async with self._pool().acquire() as connection:
            if reason is None:
                await warnings.webhook_delivered(connection, webhook.id, self._now())
                metrics.WEBHOOKS.labels("delivered").inc()
                log.info("webhook_delivered", id=str(webhook.id), attempts=webhook.attempts)
                return
            given_up = await warnings.postpone_webhook(
                connection,
                webhook,
                reason,
                retry_in_s=retry_in_s(webhook.attempts),
                give_up_after_s=GIVE_UP_AFTER_S,
                now=self._now(),
            )
        metrics.WEBHOOKS.labels("given_up" if given_up else "failed").inc()
        log.warning(
            "webhook_given_up" if given_up else "webhook_not_delivered",
            id=str(webhook.id),
            attempts=webhook.attempts,
            reason=reason,
        )
