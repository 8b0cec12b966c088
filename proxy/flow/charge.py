"""Step 3: take the credit.  One transaction for everything that arrived meanwhile.

Promise 1 stands here: a message reaches `forward` only from `_committed`, that is after the
transaction with its debit was committed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import structlog

from proxy.config import StatusSettings
from proxy.flow.bind import Registry
from proxy.flow.forward import Forward
from proxy.flow.message import Account, Message
from proxy.flow.queue import Queue
from proxy.flow.refusals import REFUSALS, Refuser
from proxy.flow.retry import Retry
from proxy.flow.settle import Settle
from proxy.smpp import vocabulary as smpp
from proxy.store import ledger
from proxy.store.group_commit import Lane
from proxy.store.ids import IdMint
from proxy.store.ledger import REASONS, Charged
from proxy.telemetry import metrics
from proxy.telemetry.logs import debug_enabled, masked

log = structlog.get_logger()


class _Result(NamedTuple):
    charged: Charged
    wakes: int
    """Of the registry, before the transaction began."""


class Charge:
    """Admits messages in order of arrival; what does not fit does not block what is behind it."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        mint: IdMint,
        registry: Registry,
        forward: Forward,
        settle: Settle,
        queue: Queue,
        retry: Retry,
        refuser: Refuser,
        status: StatusSettings,
        record_event: Callable[..., None],
    ) -> None:
        self._mint = mint
        self._registry = registry
        self._forward = forward
        self._settle = settle
        self._queue = queue
        self._retry = retry
        self._refuser = refuser
        self._status = status
        self._record_event = record_event
        self.lane: Lane[Message, _Result] = Lane(
            "charge",
            connect=connect,
            execute=self._execute,
            committed=self._committed,
            failed=self._failed,
            retry=False,
        )

    @property
    def up(self) -> bool:
        """Whether the ledger can be reached."""
        return self.lane.up

    @property
    def depth(self) -> int:
        """Messages that wait for their charge."""
        return self.lane.depth

    def add(self, messages: list[Message]) -> None:
        """Charge them with the next transaction."""
        self.lane.add(messages)

    async def _execute(self, connection: Any, messages: list[Message]) -> _Result:
        wakes = self._registry.wakes
        return _Result(await ledger.charge(connection, self._mint, messages), wakes)

    def _committed(self, _: list[Message], result: _Result) -> None:
        charged = result.charged
        ordered, balances = charged.messages, charged.balances
        if charged.refusals is None and charged.repeats is None:
            admitted = ordered
        else:
            admitted = [m for m, b in zip(ordered, balances, strict=True) if b is not None]
            if charged.refusals is not None:
                self._refuse(charged, charged.refusals, result.wakes)
            for message, first_id in zip(ordered, charged.repeats or (), strict=False):
                if first_id is not None:
                    self._retry.repeated(message, first_id)
        if charged.upstreams is not None:
            _fix_upstreams(ordered, charged.upstreams)
        if debug_enabled():
            _trace(ordered, balances)
        if admitted:
            used = sum(m.price_micro for m in admitted)
            metrics.CREDITS_USED.inc(used / 1e6)
            self._settle.held_micro += used
            direct = [m for m in admitted if m.queue is None]
            if len(direct) < len(admitted):
                queued = [m for m in admitted if m.queue is not None]
                self._settle.queued(queued)
                self._queue.arrived(queued)
            self._forward.send(direct)

    def _refuse(self, charged: Charged, refusals: list[int | None], wakes: int) -> None:
        counts: Counter[tuple[Account, str]] = Counter()
        for message, number in zip(charged.messages, refusals, strict=True):
            if number is None:
                continue
            account, reason = message.account, REASONS[number]
            counts[account, reason] += 1
            if reason == "insufficient_credits":
                metrics.CREDITS_REFUSED.inc(message.price_micro / 1e6)
                # Credit that came meanwhile was perhaps told before this answer was.
                if wakes == self._registry.wakes:
                    account.dry_micro = charged.available[account.id]
            status = self._refuser.status(reason, account)
            message.session.open_requests -= 1
            message.session.respond(
                message.command_id | smpp.RESP, status, message.sequence_number, b""
            )
        for (account, reason), count in counts.items():
            self._refuser.tell(reason, account, count)

    def _failed(self, messages: list[Message]) -> None:
        """The transaction failed, or nobody knows: nothing was forwarded, so nothing is owed."""
        metrics.REFUSALS.labels("ledger_unreachable").inc(len(messages))
        self._record_event(
            "message_refused",
            f"Could not send message. {REFUSALS['ledger_unreachable'].text}",
            severity="error",
            count=len(messages),
        )
        self._settle.not_charged(messages, self._status.ledger_unreachable)


def _fix_upstreams(messages: list[Message], upstream_ids: list[int | None]) -> None:
    """All parts of a message take the upstream of its first part."""
    for message, upstream_id in zip(messages, upstream_ids, strict=True):
        if upstream_id is not None:
            message.upstreams = tuple(u for u in message.upstreams if u.id == upstream_id)


def _trace(messages: list[Message], balances: list[int | None]) -> None:
    for message, balance in zip(messages, balances, strict=True):
        log.debug(
            "message_refused" if balance is None else "message_charged",
            message_id=message.id,
            account=message.account.name,
            source=masked(message.source_addr),
            destination=masked(message.destination_addr),
            segments=message.segments,
        )
