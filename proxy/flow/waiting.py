"""Messages of the durable queue as the rest of the flow knows them, and how they leave it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import structlog

from proxy.credit.rules import Rules
from proxy.credit.tariff import Tariff
from proxy.flow.message import Account, Message
from proxy.smpp import vocabulary as smpp
from proxy.smpp.own_deliveries import receipt_of
from proxy.smpp.pdu import READERS, PduError, refused_destinations
from proxy.smpp.rewrite import out_of_queue
from proxy.smpp.vocabulary import MessageState
from proxy.store import queue as store
from proxy.store.ids import IdMint, time_of_id
from proxy.store.ledger import Settlement
from proxy.store.queue import Claimed, Ended, Place, Receipt

log = structlog.get_logger()

_ANY_RECEIPT = 1
_FAILURES_ONLY = 2
_NO_TARIFF = Tariff(0, "", 0, ())


class AnsweredClient:
    """In the place of the session of a message whose client has been answered already."""

    login_id = 0
    system_id = ""
    takes_tlvs = True
    closing = True
    can_receive = False
    deliver_room = 0

    def __init__(self, account: Account) -> None:
        self.account = account
        self.open_requests = 0

    def respond(self, command_id: int, status: int, sequence_number: int, body: bytes) -> None:
        """It was answered when its message was committed."""

    def deliver(self, command_id: int, body: bytes, done: Callable[[int | None], None]) -> None:
        """Never: it can't receive."""

    def notify(self, body: bytes) -> None:
        """Never: it can't receive."""

    def unbind(self, reason: str) -> None:
        """It has no connection."""


class GivenUp(NamedTuple):
    """A message that perhaps was charged and came into the queue: nobody heard of the commit."""

    message: Message
    status: int
    """What its client gets when it is out of the queue, or never was in it."""

    @property
    def settlement(self) -> Settlement:
        """How it ends then."""
        reason = "the charge was not confirmed"
        return Settlement(self.message, None, self.status, released=True, reason=reason)

    def refuse(self) -> None:
        """It has ended: its client hears that."""
        session, command_id = self.message.session, self.message.command_id | smpp.RESP
        session.open_requests -= 1
        session.respond(command_id, self.status, self.message.sequence_number, b"")


def message_of(claimed: Claimed, now_s: float) -> Message:
    """A message of the queue as it goes upstream now.  Raises PduError."""
    rules = Rules(tariff_id=0, max_binds=0, charge_on=claimed.charge_on)
    account = Account(claimed.account_id, claimed.account, rules, _NO_TARIFF)
    body = out_of_queue(claimed.command_id, claimed.body, claimed.expires_s - now_s)
    (
        source,
        destination,
        esm_class,
        data_coding,
        registered_delivery,
        segments,
        destinations,
        _,
        part,
    ) = READERS[claimed.command_id](body)
    message = Message(
        AnsweredClient(account),
        claimed.command_id,
        0,
        body,
        source,
        destination,
        esm_class,
        data_coding,
        registered_delivery,
        segments * destinations,
        destinations,
        part,
        claimed.service,
        0,
        claimed.price_micro,
    )
    message.id = claimed.id
    message.asked = claimed.asked
    message.queue = Place(
        claimed.route, claimed.line, claimed.due_s, claimed.expires_s, claimed.attempts
    )
    if claimed.prices:
        message.prices_micro = tuple(map(int, claimed.prices.split(",")))
    return message


def receipts_of(
    settlement: Settlement, now_s: float, state: MessageState | None = None
) -> list[Receipt]:
    """What the client hears of a message that the queue had, and that was not sent.

    `state`: why; without one the upstream refused it.
    """
    message = settlement.message
    asked = message.asked if message.asked >= 0 else message.registered_delivery
    if asked & smpp.REGISTERED_RECEIPT_MASK not in (_ANY_RECEIPT, _FAILURES_ONLY):
        return []
    # A charge on submit gives nothing back, and its client hears of destinations all the same.
    some = settlement.status == smpp.ESME_ROK and message.command_id == smpp.SUBMIT_MULTI
    if settlement.in_doubt or not (settlement.released or some):
        return []
    which: Iterable[int] = range(message.destinations)
    if state is None and settlement.status == smpp.ESME_ROK:
        # Only some destinations of a submit_multi.
        state = MessageState.UNDELIVERABLE
        refused = {a.removeprefix("+") for a in refused_destinations(settlement.body)}
        which = [
            n for n, a in enumerate(message.all_destinations) if a.removeprefix("+") in refused
        ]
    elif state is None:
        state = state_of(settlement.status)
    error = f"{settlement.status:03d}"
    return [
        Receipt(
            int(state),
            error,
            receipt_of(
                message.command_id,
                message.body,
                message.id,
                state,
                error=error,
                submitted_at_s=time_of_id(message.id),
                done_at_s=now_s,
                destination=number,
            ),
        )
        for number in which
    ]


def state_of(status: int) -> MessageState:
    """The final state of a message that an upstream refused with this command_status."""
    if status == smpp.ESME_RINVDSTADR:
        return MessageState.UNDELIVERABLE
    return MessageState.REJECTED


async def withdraw(
    pool: Any,
    mint: IdMint,
    wanted: list[tuple[int, int]],
    state: MessageState,
    reason: str,
    now_s: float,
) -> tuple[list[Settlement], set[int]]:
    """Take messages out of the queue that are not on their way: (account_id, message_id).

    Their credit is given back by their accounts' rule, and who asked for it gets a receipt.
    Returns how those that were there ended, and the ids of those with credit given back.
    """
    async with pool.acquire() as connection, connection.transaction():
        ended: list[Ended] = []
        for row in await store.lock(connection, wanted):
            try:
                message = message_of(row, now_s)
            except PduError:  # it could be read when it came; an operator has to see it
                log.exception("queued_message_unreadable", message_id=row.id)
                continue
            # Charged on submit means charged when an upstream had it; this may never have been.
            tried = row.last_status is not None
            back_micro = 0 if message.charge_on == "submit" and tried else None
            settlement = Settlement(
                message, None, 0, released=True, back_micro=back_micro, reason=reason
            )
            ended.append(Ended(settlement, receipts_of(settlement, now_s, state)))
        if not ended:
            return [], set()
        released = await store.work(connection, mint, ended, [], retry_min_s=1, retry_max_s=1)
    return [one.settlement for one in ended], released
