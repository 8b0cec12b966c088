"""What the simulated carrier is told to do, and the messages that it took."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final, Literal

from proxy.simulator import smsc_octets as octets
from proxy.smpp import vocabulary as smpp
from proxy.smpp.vocabulary import MessageState

KEPT_MAX: Final = 100_000
"""Submits and messages remembered; the oldest are forgotten."""

REFUSED_PREFIX: Final = "999"
"""Destinations that start so are refused with ESME_RINVDSTADR."""

_RECEIPT_ALWAYS: Final = 1
_RECEIPT_ON_FAILURE: Final = 2

IdForm = Literal["hex", "decimal"]


@dataclass(slots=True)
class SmscOptions:
    """How the carrier behaves. Rates are shares from 0 to 1, of the submits that arrive."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port."""
    system_id: str = "SIMULATOR"
    """The carrier's own, in its bind responses. Any system_id may bind."""
    password: str = ""
    """What a bind must bring; empty: any."""
    response_delay_s: float = 0.0
    receipt_delay_s: float = 0.1
    """From the response to the receipt, which is when the message reaches its final state."""
    receipts: bool = True
    """Send receipts when registered_delivery asks (1: always, 2: on failure; section 5.2.17)."""
    refuse_rate: float = 0.0
    refuse_status: int = smpp.ESME_RTHROTTLED
    silence_rate: float = 0.0
    """Share never answered; the carrier does not take these messages."""
    fail_rate: float = 0.0
    """Share of the accepted messages whose final state is UNDELIVERABLE."""
    response_ids: IdForm = "decimal"
    receipt_ids: IdForm = "decimal"
    id_width: int = 0
    """Digits of a message id, filled with zeros from the left; 0: as many as it takes."""
    seed: int = 0
    """The n-th submit meets the same luck whenever the seed and the rates are the same."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submit_sm, submit_multi or data_sm that arrived."""

    command_id: int
    body: bytes
    sequence_number: int
    system_id: str
    source_addr: str
    destination_addrs: list[str]
    smsc_message_id: str
    """As in the response; empty when it was not accepted."""
    status: int | None
    """The command_status of the response, also when that is held or delayed; None: silence."""
    short_message: bytes
    """Or the message_payload, when the message is there; with its UDH."""


@dataclass(slots=True, eq=False)
class Message:
    """An accepted message."""

    response_id: str
    receipt_id: str
    """The same id as the receipt writes it."""
    submit: octets.Submit
    system_id: str
    submitted_at: datetime
    final_state: MessageState
    final_at: datetime | None = None
    """None until it is answered; then the moment of its final state, perhaps yet to come."""

    @property
    def receipt_asked(self) -> bool:
        """Whether registered_delivery asks for a receipt in any case (section 5.2.17)."""
        return self.submit.registered_delivery & 3 in (_RECEIPT_ALWAYS, _RECEIPT_ON_FAILURE)

    def answered(self, receipt_delay_s: float) -> None:
        """The response goes out: the final state comes this much later."""
        self.final_at = datetime.now(UTC) + timedelta(seconds=receipt_delay_s)

    def state(self, now: datetime) -> MessageState:
        """What query_sm says of it."""
        on_the_way = self.final_at is None or now < self.final_at
        if on_the_way and self.final_state is not MessageState.DELETED:
            return MessageState.ENROUTE
        return self.final_state

    def receipts(self) -> list[bytes]:
        """Bodies of deliver_sm, one for each destination that got it (or should have)."""
        state = self.final_state
        delivered = state is MessageState.DELIVERED
        if delivered and self.submit.registered_delivery & 3 == _RECEIPT_ON_FAILURE:
            return []
        text = octets.receipt_text(
            self.receipt_id,
            smpp.STAT_OF_STATE[state],
            self.submitted_at,
            self.final_at or self.submitted_at,
            text=self.submit.text,
            err="000" if delivered else "001",
        )
        tlvs = octets.receipt_tlvs(self.receipt_id, state)
        return [
            octets.deliver_body(
                address, self.submit.source, text, esm_class=smpp.ESM_RECEIPT, tlvs=tlvs
            )
            for address in self.submit.destinations
            if address.ton >= 0 and not is_refused(address)
        ]


class Messages:
    """The accepted messages, by the id that the response gave them."""

    OPERATIONS: ClassVar = {
        smpp.QUERY_SM: smpp.ESME_RQUERYFAIL,
        smpp.CANCEL_SM: smpp.ESME_RCANCELFAIL,
        smpp.REPLACE_SM: smpp.ESME_RREPLACEFAIL,
    }
    """The commands of operate(), and the status of each for an unknown id."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, Message] = OrderedDict()
        # 64 bits, and above whatever an earlier run gave out.
        self._last_number = time.time_ns() // 1000

    def accept(
        self, options: SmscOptions, system_id: str, submit: octets.Submit, *, failed: bool
    ) -> Message:
        """Take a message and give it an id."""
        self._last_number += 1
        number, width = self._last_number, options.id_width
        message = Message(
            response_id=_id_text(number, options.response_ids, width),
            receipt_id=_id_text(number, options.receipt_ids, width),
            submit=submit,
            system_id=system_id,
            submitted_at=datetime.now(UTC),
            final_state=MessageState.UNDELIVERABLE if failed else MessageState.DELIVERED,
        )
        self._by_id[message.response_id] = message
        if len(self._by_id) > KEPT_MAX:
            self._by_id.popitem(last=False)
        return message

    def operate(self, command_id: int, body: bytes) -> tuple[int, bytes]:
        """Answer a query_sm, cancel_sm or replace_sm: the status and the response's body.

        A cancelled message that is still on its way ends as DELETED; a replaced one goes as it was.
        """
        message_id = octets.read_message_id(command_id, body)
        message = self._by_id.get(message_id)
        if message is None:
            return self.OPERATIONS[command_id], b""
        now = datetime.now(UTC)
        state = message.state(now)
        if command_id == smpp.CANCEL_SM and state is MessageState.ENROUTE:
            message.final_state = MessageState.DELETED
        if command_id != smpp.QUERY_SM:
            return smpp.ESME_ROK, b""
        final = state is not MessageState.ENROUTE
        # An absolute time in UTC, section 7.1.1; empty until the state is final (4.8.2).
        final_date = f"{message.final_at or now:%y%m%d%H%M%S}000+" if final else ""
        error_code = int(final and state is not MessageState.DELIVERED)
        answer = octets.c_octets(message_id) + octets.c_octets(final_date)
        return smpp.ESME_ROK, answer + bytes((state, error_code))


def _id_text(number: int, form: IdForm, width: int) -> str:
    return f"{number:0{width}{'X' if form == 'hex' else 'd'}}"


def is_refused(address: octets.Address) -> bool:
    """Whether the carrier knows no such destination."""
    return address.ton >= 0 and address.addr.startswith(REFUSED_PREFIX)


def unsuccess(submit: octets.Submit) -> bytes:
    """no_unsuccess and unsuccess_sme of a submit_multi_resp (section 4.5.2)."""
    refused = [address for address in submit.destinations if is_refused(address)]
    status = smpp.ESME_RINVDSTADR.to_bytes(4, "big")
    return bytes((len(refused),)) + b"".join(address.octets() + status for address in refused)
