"""Step 7: at start and on a clock, what nobody came back for.

Holds without an outcome come in doubt, doubts grow old, deliveries expire, and the claims of
proxies that are gone are freed.  Several proxies may sweep at once: each statement takes what it
finds and leaves the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from proxy.config import DeliverySettings, InDoubtSettings
from proxy.flow.deliver import Deliver
from proxy.flow.release import Release
from proxy.store import retries, sweeps
from proxy.store.database import UNREACHABLE
from proxy.store.ids import IdMint
from proxy.store.presence import DeadClaims
from proxy.telemetry import metrics

log = structlog.get_logger()

_EVERY_S = 5.0
_PARTITIONS_EVERY_S = 3600.0


class Sweep:
    """Runs until cancelled."""

    def __init__(
        self,
        pool: Callable[[], Any],
        mint: IdMint,
        deliver: Deliver,
        release: Release,
        in_doubt: InDoubtSettings,
        delivery: DeliverySettings,
        record_event: Callable[..., None],
        *,
        answer_within_s: float,
    ) -> None:
        self._pool = pool
        self._mint = mint
        self._dead_claims = DeadClaims(mint)
        self._deliver = deliver
        self._release = release
        self._in_doubt = in_doubt
        self._delivery = delivery
        self._record_event = record_event
        self._answer_within_s = answer_within_s
        self._partitions_at = 0.0

    async def run(self) -> None:
        """Sweep now and every few seconds."""
        while True:
            try:
                await self.once()
                metrics.DATABASE_UP.set(1)
            except UNREACHABLE as error:
                metrics.DATABASE_UP.set(0)
                log.warning("sweep_waits", reason=str(error) or repr(error))
            except Exception:
                log.exception("sweep_failed")
            await asyncio.sleep(_EVERY_S)

    async def once(self) -> None:
        """One round over everything."""
        async with self._pool().acquire() as connection:
            if time.monotonic() - self._partitions_at > _PARTITIONS_EVERY_S:
                await connection.execute("SELECT ensure_partitions()")
                await sweeps.forget_uncharged(connection)
                await retries.forget_old(connection)
                self._partitions_at = time.monotonic()
            # Whatever is older than the longest wait for an answer has lost its proxy.
            await self._holds(connection)
            await self._doubts(connection)
            self._release.add(await sweeps.overdue_receipts(connection))
            await sweeps.free_reservations(connection)
            self.doubtful(await self._dead_claims.forget(connection))
            await self._deliveries(connection)

    async def _holds(self, connection: Any) -> None:
        self.doubtful(await sweeps.lost_holds(connection, self._answer_within_s))

    def doubtful(self, counts: list[tuple[int, int]]) -> None:
        """Messages whose proxy is gone came in doubt: how many, of which accounts."""
        for account_id, count in counts:
            self._record_event(
                "message_in_doubt",
                "Message in doubt: its proxy stopped before an answer",
                severity="error",
                account_id=account_id,
                count=count,
            )

    async def _doubts(self, connection: Any) -> None:
        await sweeps.close_answered_doubts(connection)
        policy = self._in_doubt.policy
        if policy != "keep":
            resolved = await sweeps.resolve_old_doubts(
                connection, self._mint, policy, self._in_doubt.after_s
            )
            for account_id, count in resolved:
                self._record_event(
                    "doubt_resolved",
                    f"Message in doubt for too long: {policy}d by policy",
                    severity="warning",
                    account_id=account_id,
                    count=count,
                )
        count, credits_micro, oldest_s = await sweeps.doubts(connection)
        metrics.IN_DOUBT_MESSAGES.set(count)
        metrics.IN_DOUBT_CREDITS.set(credits_micro / 1e6)
        metrics.IN_DOUBT_OLDEST_SECONDS.set(oldest_s)

    async def _deliveries(self, connection: Any) -> None:
        for account_id, kind, count in await sweeps.expire_deliveries(
            connection, self._delivery.max_age_s
        ):
            metrics.DELIVERIES.labels(kind, "expired").inc(count)
            self._record_event(
                "delivery_expired",
                "Delivery expired: no session took it in time",
                severity="warning",
                account_id=account_id,
                count=count,
            )
        bound_here = list(self._deliver.mailboxes)
        for account_id in await sweeps.accounts_with_due_deliveries(connection, bound_here):
            self._deliver.waiting_in_database(account_id)
        metrics.DELIVERIES_WAITING.set(await sweeps.deliveries_waiting(connection))
