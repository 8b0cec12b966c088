"""Step 6b, for accounts that are charged on delivery: a receipt gives the credit back.

What is due is kept with the receipt, in release_due; here it is given back, one transaction for
all that came meanwhile, and the sweep finds what a crash left there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.store import ledger
from proxy.store.group_commit import Lane
from proxy.store.ids import IdMint
from proxy.telemetry import metrics

Due = tuple[int, int]
"""account_id, message_id."""


class Release:
    """Gives back the credit of messages that were not delivered."""

    def __init__(
        self, connect: Callable[[], Awaitable[Any]], mint: IdMint, record_event: Callable[..., None]
    ) -> None:
        self._mint = mint
        self._record_event = record_event
        # The accounts' locks are needed: receipts of others do not wait for that.
        self.lane: Lane[Due, set[int]] = Lane(
            "undelivered",
            connect=connect,
            execute=self._execute,
            committed=self._committed,
            failed=lambda _batch: None,  # it stays in release_due, for the sweep
            retry=True,
        )

    def add(self, due: list[Due]) -> None:
        """Messages that stand in release_due."""
        self.lane.add(due)

    async def _execute(self, connection: Any, due: list[Due]) -> set[int]:
        return await ledger.release(connection, self._mint, due)

    def _committed(self, due: list[Due], released: set[int]) -> None:
        metrics.MESSAGES.labels("released").inc(len(released))
        counts = Counter(account_id for account_id, message_id in due if message_id in released)
        for account_id, count in counts.items():
            self._record_event(
                "message_released",
                "Message not delivered, credit released",
                severity="warning",
                account_id=account_id,
                count=count,
            )
