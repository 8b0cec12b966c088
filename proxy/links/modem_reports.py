"""Which message a status report is about, and what the client hears of it.

A modem numbers what it sends from 0 to 255, over and over (TP-MR, 3GPP TS 23.040 section
9.2.3.2), so that a report is found by that number and its recipient.  Parts have a report each;
the client gets one receipt for all of them.  This is in memory: after a restart a report is
handed on as it is, and the database finds the youngest message that it fits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.gsm.status import error_text, state_of_report
from proxy.gsm.tpdu import Number, StatusReport
from proxy.smpp import vocabulary as smpp
from proxy.smpp.multi import Address
from proxy.smpp.own_deliveries import receipt_body
from proxy.smpp.vocabulary import MessageState

_WAITING_MAX: Final = 10_000
_DOUBTFUL_MAX: Final = 1_000
_TAIL: Final = 7
"""Digits by which two ways to write a number are taken for one: +44 7700 900123, 07700 900123."""
_DATE_OFF_S: Final = 40 * 86400
_FAILURES_ONLY: Final = 2
_SUCCESS_ONLY: Final = 3


def report_key(reference: int, digits: str) -> str:
    """What a response and the report that follows it have in common."""
    return f"{reference}-{digits[-_TAIL:]}"


class Sent:
    """A message to one destination whose parts are being sent, or were."""

    __slots__ = ("asked", "delivered", "failure", "key", "parts", "recipient", "sender", "since_s")

    def __init__(
        self, recipient: Address, sender: Address, parts: int, asked: int, since_s: float
    ) -> None:
        """Addresses as the client wrote them; `asked`: bits 0 and 1 of registered_delivery."""
        self.recipient = recipient
        self.sender = sender
        self.parts = parts
        self.asked = asked
        self.since_s = since_s
        self.key: str | None = None
        """What its receipts carry for an id; None: it is still being sent."""
        self.delivered = 0
        self.failure: tuple[MessageState, str] | None = None


class _Told(NamedTuple):
    """What a receipt says."""

    state: MessageState
    error: str


class Reports:
    """Of one modem."""

    def __init__(self, own_number: str, inward: Callable[[bytes], bytes]) -> None:
        """`inward`: a body with the numbers as clients write them, by the upstream's rules."""
        self._inward = inward
        self._own = _address(Number(0, 1, own_number.removeprefix("+")))
        self._waiting: OrderedDict[str, Sent] = OrderedDict()
        self._doubtful: OrderedDict[str, list[Sent]] = OrderedDict()

    def part_sent(self, sent: Sent, reference: int, digits: str) -> None:
        """The modem gave a part this number."""
        key = report_key(reference, digits)
        self._waiting.pop(key, None)  # of 256 messages ago: its report never came
        self._waiting[key] = sent
        if len(self._waiting) > _WAITING_MAX:
            self._waiting.popitem(last=False)

    def ended(self, sent: Sent, key: str, now_s: float) -> bytes | None:
        """All is sent, and its receipts are found by this; the receipt that is due already."""
        sent.key = key
        told = self._due(sent)
        return None if told is None else self._receipt(sent, told, now_s, now_s)

    def doubtful(self, sent: Sent, digits: str) -> None:
        """A part was written, and its number is not known: a report may show that it was sent."""
        doubtful = self._doubtful.setdefault(digits[-_TAIL:], [])
        doubtful.append(sent)
        del doubtful[:-2]  # of two nobody can tell whose a report is: more say nothing else
        if len(self._doubtful) > _DOUBTFUL_MAX:
            self._doubtful.popitem(last=False)

    def reported(self, report: StatusReport, now_s: float) -> bytes | None:
        """The body of the deliver_sm that a report makes; None: nobody has to hear of it (yet)."""
        state = state_of_report(report.status)
        if state is None:
            return None  # the service centre still tries
        error = error_text(report.status)[:3]
        done_at_s = report.discharged_at_s
        if done_at_s is None or abs(done_at_s - now_s) > _DATE_OFF_S:
            done_at_s = now_s
        key = report_key(report.reference, report.recipient.digits)
        sent = self._waiting.pop(key, None)
        if sent is None:
            return self._unknown(report, _Told(state, error), key, done_at_s)
        if state == MessageState.DELIVERED:
            sent.delivered += 1
        elif sent.failure is None:
            sent.failure = (state, error)
        told = self._due(sent)
        return None if told is None else self._receipt(sent, told, done_at_s, now_s)

    def _due(self, sent: Sent) -> _Told | None:
        """Once: a failure as soon as the message has its id, else when all parts arrived."""
        if sent.key is None:
            return None
        told = None
        if sent.failure is not None:
            told = _Told(*sent.failure)
        elif sent.delivered >= sent.parts:
            told = _Told(MessageState.DELIVERED, "000")
        if told is None or sent.parts == 0:
            return None
        sent.parts = 0
        delivered = told.state == MessageState.DELIVERED
        if sent.asked == (_FAILURES_ONLY if delivered else _SUCCESS_ONLY):
            return None
        return told

    def _receipt(self, sent: Sent, told: _Told, done_at_s: float, now_s: float) -> bytes:
        return receipt_body(
            sent.recipient,
            sent.sender,
            sent.key or "",
            told.state,
            error=told.error,
            submitted_at_s=min(sent.since_s, now_s),
            done_at_s=done_at_s,
        )

    def _unknown(self, report: StatusReport, told: _Told, key: str, done_at_s: float) -> bytes:
        """From before a restart, or of a message in doubt, whose number nobody has heard."""
        recipient, sender = _address(report.recipient), self._own
        doubtful = self._doubtful.get(report.recipient.digits[-_TAIL:], [])
        if len(doubtful) == 1:
            # With the client's addresses the database can find the one message in doubt.
            recipient, sender = doubtful[0].recipient, doubtful[0].sender
        body = receipt_body(
            recipient,
            sender,
            key,
            told.state,
            error=told.error,
            submitted_at_s=done_at_s,
            done_at_s=done_at_s,
        )
        return body if len(doubtful) == 1 else self._inward(body)


def _address(number: Number) -> Address:
    return Address(number.ton, number.npi, number.digits.encode("latin-1", "replace"))


def addresses_of(values: tuple[bytes, ...]) -> tuple[Address, Address]:
    """Source and destination of the mandatory fields that submit_sm and data_sm begin with."""
    _, source_ton, source_npi, source, ton, npi, destination = values[:7]
    return (Address(source_ton[0], source_npi[0], source), Address(ton[0], npi[0], destination))


ASKED_MASK: Final = smpp.REGISTERED_RECEIPT_MASK
