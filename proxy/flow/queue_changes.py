"""What people do about the queue: let messages go now, or take them out.

Used by commands, the API and the console; the proxies find out by looking at the database.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from proxy.flow.waiting import withdraw
from proxy.smpp.vocabulary import MessageState
from proxy.store import queue_pages
from proxy.store.events import Counted, Key, write_events
from proxy.store.ids import IdMint, id_at_time
from proxy.store.queue_pages import Selection, Wanted

REASON_MAX: Final = 200
AT_ONCE_MAX_S: Final = 10.0
"""For how long one request over HTTP takes messages out."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What became of a selection."""

    cancelled: int
    """Messages that left the queue; their credit went back as their accounts' rules say."""
    left: int
    """That were on their way by then, or gone."""
    more: bool
    """The time was over before the selection was: call again for the rest."""


async def retry(conn: Any, chosen: Selection, *, by: str) -> int:
    """Let the lines of a selection go now that wait for another try; returns how many.

    A line has the messages of one account to one destination by one route.
    """
    text = f"Queued messages are tried again now, by {by}"
    total = 0
    async for lines in queue_pages.lines(conn, chosen):
        # Each batch by itself: the proxies must not wait for a million locks.
        async with conn.transaction():
            retried = await queue_pages.retry(conn, lines)
            await _tell(conn, "queue_retried", text, retried)
        total += retried.total()
    return total


async def cancel(
    conn: Any, mint: IdMint, chosen: Selection, *, by: str, within_s: float | None = None
) -> Cancelled:
    """Take the messages of a selection out of the queue that are not on their way.

    State DELETED, and a receipt for who asked for one.  Each batch is committed by itself, so an
    end in between leaves only whole messages.  What comes into the queue meanwhile stays there.
    """
    reason = f"cancelled by {by}"[:REASON_MAX]
    began = time.monotonic()
    cancelled = left = 0
    async for batch in queue_pages.batches(conn, chosen, id_at_time(time.time())):
        if within_s is not None and time.monotonic() - began > within_s:
            return Cancelled(cancelled, left, True)
        ended = await _withdraw(conn, mint, [one for one in batch if not one.sending], reason)
        cancelled += ended.total()
        left += len(batch) - ended.total()
    return Cancelled(cancelled, left, False)


async def _withdraw(conn: Any, mint: IdMint, batch: list[Wanted], reason: str) -> Counter[int]:
    """Returns how many were taken out, by account."""
    if not batch:
        return Counter()
    async with conn.transaction():
        settlements, _ = await withdraw(
            _Pool(conn),
            mint,
            [(one.account_id, one.id) for one in batch],
            MessageState.DELETED,
            reason,
            time.time(),
        )
        ended = Counter(settlement.message.account.id for settlement in settlements)
        await _tell(conn, "queue_cancelled", f"Queued messages {reason}", ended)
    return ended


class _Pool:
    """One connection in the place of a pool."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        """The connection, which stays with whoever has it."""
        return nullcontext(self._conn)


async def _tell(conn: Any, kind: str, text: str, counts: Mapping[int, int]) -> None:
    """An event for each account, all in one statement."""
    if not counts:
        return
    now_s = time.time()
    await write_events(
        conn,
        {
            Key(int(now_s // 60), account_id, kind, text): Counted(
                "info", None, count, now_s, now_s
            )
            for account_id, count in counts.items()
        },
    )
