"""Step 5: the upstream has answered, or has not.  One transaction for all answers, then the client.

Promise 4 stands here: a client is answered only from `committed`, or from `queued`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Protocol

import structlog

from proxy.config import StatusSettings
from proxy.flow.message import Message, Upstream
from proxy.flow.retry import Retry
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import leading_c_octets, refused_destinations
from proxy.store import ledger
from proxy.store.group_commit import Lane
from proxy.store.ids import IdMint
from proxy.store.ledger import Settlement
from proxy.telemetry import metrics
from proxy.telemetry.logs import debug_enabled

log = structlog.get_logger()

Answer = tuple[Message, int, bytes]
"""The message, the upstream's command_status, the body of its response."""


class QueueEnds(Protocol):
    """What the durable queue does with messages that it has given to an upstream."""

    def ended(self, settlements: list[Settlement]) -> None:
        """They have an outcome, or are in doubt."""

    def not_sent(self, messages: list[Message], reason: str) -> None:
        """Nothing of them was written: they wait again."""

    def enqueue(self, messages: list[Message]) -> bool:
        """Charged messages whose upstreams are gone; False: it takes none now."""

    def given_up(self, messages: list[Message], status: int) -> None:
        """Their charge was not confirmed: they get this status when they are out of the queue."""

    async def passed(self) -> None:
        """Returns when what was handed in is committed."""


class Settle:
    """Turns answers into outcomes, and outcomes into the client's responses."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        mint: IdMint,
        status: StatusSettings,
        retry: Retry,
        record_event: Callable[..., None],
    ) -> None:
        self._status = status
        self._retry = retry
        self._record_event = record_event
        self.held_micro = 0
        """Charged on this proxy and without an outcome: what is on its way."""

        def lane(name: str) -> Lane[Settlement, set[int]]:
            return Lane(
                name,
                connect=connect,
                execute=partial(_execute, mint),
                committed=self.committed,
                failed=self._failed,
                retry=True,
            )

        self.lane = lane("settle")
        # Giving credit back needs the account's lock; answers of others do not wait for that.
        self.release_lane = lane("release")
        self.queue: QueueEnds | None = None
        """Whom messages of the durable queue are handed to: they leave it as they end."""

    async def passed(self) -> None:
        """Returns when everything handed in before this call is committed."""
        await self.lane.passed()
        await self.release_lane.passed()
        if self.queue is not None:
            await self.queue.passed()

    async def answers_passed(self) -> None:
        """Returns when every message that an upstream has taken so far can be found by its id."""
        await self.lane.passed()
        if self.queue is not None:
            await self.queue.passed()

    def answered(self, upstream: Upstream, answers: Iterable[Answer], late: bool = False) -> None:
        """Responses of the upstream: charged when it took the message, released when not."""
        settlements: list[Settlement] = []
        released: list[Settlement] = []
        key_of, upstream_id = upstream.response_key, upstream.id
        for message, status, body in answers:
            if status != smpp.ESME_ROK:
                released.append(
                    Settlement(
                        message,
                        upstream_id,
                        status,
                        body=body,
                        released=True,
                        back_micro=0 if message.charge_on == "submit" else None,
                        late=late,
                        reason=f"refused by {upstream.name}: {smpp.status_name(status)}",
                    )
                )
                continue
            smsc_message_id = leading_c_octets(body)
            settlement = Settlement(
                message,
                upstream_id,
                status,
                smsc_message_id=smsc_message_id,
                receipt_key=key_of(smsc_message_id),
                body=body,
                late=late,
                cost_micro=upstream.cost_micro(message),
            )
            if message.command_id == smpp.SUBMIT_MULTI:
                _give_back_refused_destinations(settlement)
            (released if settlement.released else settlements).append(settlement)
        self._add(self.lane, settlements)
        self._add(self.release_lane, released)

    def _add(self, lane: Lane[Settlement, set[int]], settlements: list[Settlement]) -> None:
        """What is in the durable queue leaves it in the transaction in which it ends."""
        if self.queue is not None:
            of_queue = [s for s in settlements if s.message.queue is not None and not s.late]
            if of_queue:
                self.queue.ended(of_queue)
                settlements = [s for s in settlements if s.message.queue is None or s.late]
        lane.add(settlements)

    def doubtful(self, upstream: Upstream, messages: list[Message], reason: str) -> None:
        """Written, but nobody knows whether the upstream took them."""
        self._add(
            self.lane,
            [
                Settlement(m, upstream.id, self._status.in_doubt, in_doubt=True, reason=reason)
                for m in messages
            ],
        )

    def not_sent(self, messages: list[Message], reason: str) -> None:
        """Charged, but no upstream is bound any more; not one octet was written.

        It waits in the durable queue, where its route says so; else its credit is released.
        """
        if self.queue is not None:
            for_queue = [
                m for m in messages if m.queue is None and m.route and m.route.queue_when_down
            ]
            if for_queue and self.queue.enqueue(for_queue):
                taken = set(map(id, for_queue))
                messages = [m for m in messages if id(m) not in taken]
        self._release(messages, self._status.no_upstream, reason)

    def not_sent_in_time(self, messages: list[Message], reason: str) -> None:
        """Charged, but no upstream had room for too long; not one octet was written: released."""
        self._release(messages, self._status.queue_full, reason)

    def _release(self, messages: list[Message], status: int, reason: str) -> None:
        waiting = [m for m in messages if m.queue is not None]
        if waiting and self.queue is not None:
            self.queue.not_sent(waiting, reason)
            messages = [m for m in messages if m.queue is None]
        self.release_lane.add(
            [Settlement(m, None, status, released=True, reason=reason) for m in messages]
        )

    def queued(self, messages: list[Message]) -> None:
        """They are committed in the durable queue: their clients hear that they are accepted."""
        counts: Counter[int] = Counter()
        for message in messages:
            counts[message.account.id] += 1
            self.held_micro -= message.price_micro
            if message.retry_hash:
                self._retry.answered(message)
            self._respond(message, smpp.ESME_ROK, b"")
        metrics.MESSAGES.labels("queued").inc(len(messages))
        for account_id, count in counts.items():
            self._record_event("submit_queued", "Submit queued", account_id=account_id, count=count)

    def not_charged(self, messages: list[Message], status: int) -> None:
        """The charge failed: the client hears it now, and should the debit exist, it is undone.

        The connection may have broken after the commit; the database knows, when it is back.
        """
        if self.queue is not None:
            # What is committed there goes out: only the queue knows whether it can be undone.
            of_queue = [m for m in messages if m.queue is not None and hasattr(m, "id")]
            self.queue.given_up(of_queue, status)
            messages = [m for m in messages if m.queue is None or not hasattr(m, "id")]
        for message in messages:
            self._respond(message, status, b"")
        self.release_lane.add(
            [
                Settlement(
                    m, None, status, released=True, late=True, reason="the charge was not confirmed"
                )
                for m in messages
                if hasattr(m, "id")
            ]
        )

    def committed(self, batch: list[Settlement], released: set[int]) -> None:
        """They have their outcomes, or stand in doubt: answer, count, tell."""
        accepted: Counter[int] = Counter()
        doubtful: Counter[int] = Counter()
        refused: Counter[tuple[int, str]] = Counter()
        released_micro = 0
        for settlement in batch:
            message = settlement.message
            if not settlement.late and message.queue is None:
                self.held_micro -= message.price_micro
            if settlement.in_doubt:
                doubtful[message.account.id] += 1
            elif settlement.status == smpp.ESME_ROK and not settlement.withdrawn:
                accepted[message.account.id] += 1
            elif message.id in released:
                refused[message.account.id, _what_happened(settlement)] += 1
            if settlement.released and message.id in released:
                back = settlement.back_micro
                released_micro += message.price_micro if back is None else back
            if not settlement.late and message.queue is None:
                self._answer(settlement)
        if debug_enabled():
            _trace(batch)
        metrics.MESSAGES.labels("charged").inc(accepted.total())
        for account_id, count in accepted.items():
            self._record_event(
                "submit_accepted", "Submit accepted", account_id=account_id, count=count
            )
        if not doubtful and not refused:
            return
        metrics.MESSAGES.labels("in_doubt").inc(doubtful.total())
        metrics.MESSAGES.labels("released").inc(refused.total())
        metrics.CREDITS_RELEASED.inc(released_micro / 1e6)
        for account_id, count in doubtful.items():
            self._record_event(
                "message_in_doubt",
                "Message in doubt: the upstream did not answer",
                severity="error",
                account_id=account_id,
                count=count,
            )
        for (account_id, what), count in refused.items():
            self._record_event(
                "message_released", what, severity="warning", account_id=account_id, count=count
            )

    def _answer(self, settlement: Settlement) -> None:
        message = settlement.message
        if message.retry_hash and not settlement.in_doubt:
            self._retry.answered(message)
        self._respond(message, settlement.status, settlement.body)

    def _respond(self, message: Message, status: int, body: bytes) -> None:
        session = message.session
        session.open_requests -= 1
        if status == smpp.ESME_ROK:
            # What stands behind the upstream's message id (unsuccess_sme, TLVs) stays.
            end = body.find(b"\0") + 1
            rest = body[end:] if end and session.takes_tlvs else b""
            if message.command_id == smpp.SUBMIT_MULTI:
                rest = body[end:] or b"\0"
            body = b"%d\0%b" % (message.id, rest)
        else:
            body = b""
        session.respond(message.command_id | smpp.RESP, status, message.sequence_number, body)

    def _failed(self, batch: list[Settlement]) -> None:
        """The database refuses this settlement for ever: the hold stays, and the sweep lists it."""
        for settlement in batch:
            if not settlement.late:
                self._respond(settlement.message, self._status.in_doubt, b"")


def _what_happened(settlement: Settlement) -> str:
    if settlement.back_micro == 0:
        return f"Message not sent, and charged on submit: {settlement.reason}"
    return f"Message not sent, credit released: {settlement.reason}"


def _give_back_refused_destinations(settlement: Settlement) -> None:
    """A submit_multi costs per destination: what the response lists as unsuccessful is released."""
    message = settlement.message
    refused = refused_destinations(settlement.body)[: message.destinations]
    if not refused or message.charge_on == "submit":
        return
    prices: dict[str, list[int]] = {}
    for destination, price_micro in zip(
        message.all_destinations, message.prices_micro, strict=True
    ):
        prices.setdefault(destination.removeprefix("+"), []).append(price_micro)
    back_micro, unknown = 0, 0
    for address in refused:
        of_address = prices.get(address.removeprefix("+"))
        if of_address:
            back_micro += of_address.pop()
        else:
            unknown += 1
    # What the carrier writes in another way can only be the cheapest of the rest.
    rest = sorted(price for left in prices.values() for price in left)
    settlement.back_micro = back_micro + sum(rest[:unknown])
    settlement.released = True
    settlement.reason = f"{len(refused)} of {message.destinations} destinations refused"


def _trace(batch: list[Settlement]) -> None:
    for settlement in batch:
        log.debug(
            "message_settled",
            message_id=settlement.message.id,
            account=settlement.message.account.name,
            upstream_id=settlement.upstream_id,
            status=smpp.status_name(settlement.status),
            smsc_message_id=settlement.smsc_message_id,
            in_doubt=settlement.in_doubt,
        )


async def _execute(mint: IdMint, connection: Any, batch: list[Settlement]) -> set[int]:
    return await ledger.settle(connection, mint, batch)
