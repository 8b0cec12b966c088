"""An account asks for its balance over SMPP: a submit_sm to the configured address.

It is answered with a deliver_sm, and neither charged nor forwarded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

from proxy.credit.money import text_from_micro
from proxy.flow.deliver import Deliver
from proxy.flow.message import Account, Message
from proxy.smpp import vocabulary as smpp
from proxy.smpp.own_deliveries import Address, message_body
from proxy.store import accounts
from proxy.store.ids import IdMint
from proxy.telemetry.tasks import Tasks

log = structlog.get_logger()

_ONCE_IN_S = 1.0
"""A question costs nothing, and its answer is kept until the client takes it."""


class Balance:
    """Answers with the balance; `address` is empty when nobody may ask."""

    def __init__(
        self, address: str, pool: Callable[[], Any], mint: IdMint, deliver: Deliver, tasks: Tasks
    ) -> None:
        self.address = address
        self._pool = pool
        self._mint = mint
        self._deliver = deliver
        self._tasks = tasks

    def may_ask(self, account: Account) -> bool:
        """Whether its last question was long enough ago."""
        return time.monotonic() - account.asked_at_s >= _ONCE_IN_S

    def asked(self, message: Message) -> None:
        """A message to the address came; its client gets ESME_ROK once the answer is kept."""
        message.account.asked_at_s = time.monotonic()
        message.session.open_requests += 1
        self._tasks.spawn(self._answer(message), "balance")

    async def _answer(self, message: Message) -> None:
        asked = _Asked(message, self._mint.mint(1)[0])
        try:
            balance_micro, limit_micro = await accounts.balance(self._pool(), message.account.id)
        except Exception as error:  # whatever it was: somebody waits for an answer
            log.warning("balance_not_read", reason=str(error) or repr(error))
            asked.respond(smpp.DELIVER_SM_RESP, smpp.ESME_RSYSERR, 0, b"")
            return
        text = f"Balance: {text_from_micro(balance_micro)} credits"
        if limit_micro:
            text += f", credit limit: {text_from_micro(limit_micro)}"
        body = message_body(
            Address(0, 0, self.address.encode("latin-1")),
            Address(0, 0, message.source_addr.encode("latin-1")),
            text=text.encode("ascii"),
        )
        self._deliver.tell(asked, message.account.id, body)


class _Asked:
    """The question in the place of an upstream's link: the answer is acknowledged to it."""

    def __init__(self, message: Message, message_id: int) -> None:
        self._message = message
        self._message_id = message_id

    def respond(self, command_id: int, status: int, sequence_number: int, body: bytes) -> None:
        """The answer is kept (ESME_ROK), or could not be."""
        del command_id, sequence_number, body  # of the deliver_sm that nobody sent
        message = self._message
        message.session.open_requests -= 1
        body = b""
        if status == smpp.ESME_ROK:
            body = b"%d\0" % self._message_id
            if message.command_id == smpp.SUBMIT_MULTI:
                body += b"\0"  # no_unsuccess (section 4.5.2)
        message.session.respond(
            message.command_id | smpp.RESP,
            smpp.ESME_ROK if status == smpp.ESME_ROK else smpp.ESME_RSYSERR,
            message.sequence_number,
            body,
        )
