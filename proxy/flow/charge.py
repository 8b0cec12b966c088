"""Step 3: take the credit.  One transaction for everything that arrived meanwhile.

Promise 1 stands here: a message reaches `forward` only from `_committed`, that is after the
transaction with its debit was committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog

from proxy.config import StatusSettings
from proxy.flow.forward import Forward
from proxy.flow.message import Message
from proxy.flow.settle import Settle
from proxy.smpp import vocabulary as smpp
from proxy.store import ledger
from proxy.store.group_commit import Lane
from proxy.store.ids import IdMint
from proxy.telemetry import metrics
from proxy.telemetry.logs import debug_enabled, masked

log = structlog.get_logger()

ChargeResult = tuple[list[Message], list[int | None], set[int]]


class Charge:
    """Admits messages in order of arrival; what does not fit does not block what is behind it."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        mint: IdMint,
        forward: Forward,
        settle: Settle,
        status: StatusSettings,
        record_event: Callable[..., None],
    ) -> None:
        self._forward = forward
        self._settle = settle
        self._status = status
        self._record_event = record_event
        self.lane: Lane[Message, ChargeResult] = Lane(
            "charge",
            connect=connect,
            execute=partial(_execute, mint),
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

    def _committed(self, _: list[Message], result: ChargeResult) -> None:
        ordered, balances, unusable = result
        admitted = [m for m, balance in zip(ordered, balances, strict=True) if balance is not None]
        if len(admitted) != len(ordered):
            refused = [m for m, b in zip(ordered, balances, strict=True) if b is None]
            self._refuse(refused, unusable)
        if debug_enabled():
            _trace(ordered, balances)
        if admitted:
            used = sum(m.price_micro for m in admitted)
            metrics.CREDITS_USED.inc(used / 1e6)
            self._settle.held_micro += used
            self._forward.send(admitted)

    def _refuse(self, refused: list[Message], unusable: set[int]) -> None:
        by_account: dict[Any, int] = {}
        metrics.CREDITS_REFUSED.inc(sum(m.price_micro for m in refused) / 1e6)
        for message in refused:
            account = message.account
            by_account[account] = by_account.get(account, 0) + 1
            if account.id in unusable:
                status = self._status.account_disabled
            else:
                status = account.insufficient_status or self._status.insufficient_credits
            message.session.open_requests -= 1
            message.session.respond(
                message.command_id | smpp.RESP, status, message.sequence_number, b""
            )
        for account, count in by_account.items():
            if account.id in unusable:
                reason, text = "account_disabled", "Could not send message. The account is disabled"
            else:
                reason = "insufficient_credits"
                text = "Could not send message. Insufficient credits"
            metrics.REFUSALS.labels(reason).inc(count)
            self._record_event(reason, text, severity="warning", account_id=account.id, count=count)

    def _failed(self, messages: list[Message]) -> None:
        """The transaction failed, or nobody knows: nothing was forwarded, so nothing is owed."""
        metrics.REFUSALS.labels("ledger_unreachable").inc(len(messages))
        self._record_event(
            "message_refused",
            "Could not send message. The ledger is unreachable",
            severity="error",
            count=len(messages),
        )
        self._settle.not_charged(messages, self._status.ledger_unreachable)


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


async def _execute(mint: IdMint, connection: Any, messages: list[Message]) -> ChargeResult:
    return await ledger.charge(connection, mint, messages)
