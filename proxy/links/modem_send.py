"""One message through a modem: its TPDUs, one after the other, and what becomes of it.

What is promised here: a part that was written and not answered is never written again.  What is
certain not to have been sent is an answer with a command_status; what nobody knows is in doubt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from proxy.config import ModemSettings
from proxy.flow.message import Message
from proxy.gsm import at
from proxy.gsm.status import DOUBTFUL_CMS_ERRORS, status_of_cme_error, status_of_cms_error
from proxy.gsm.submit import submits_of
from proxy.gsm.tpdu import Submit, TpduError, encode_submit, with_smsc
from proxy.links.modem_link import ModemLink, Reply, Unanswered
from proxy.links.modem_reports import ASKED_MASK, Reports, Sent, addresses_of, report_key
from proxy.smpp import vocabulary as smpp
from proxy.smpp.address_rules import AddressRules
from proxy.smpp.multi import Address, multi_destinations
from proxy.smpp.pdu import DATA, MULTI_HEAD, READERS, SUBMIT, PduError
from proxy.smpp.times import timing

_NETWORK_WAITS_S: Final = 25.0
"""A refusal of unknown cause that took longer may be the modem's own, after waiting in vain."""
PAUSES_S: Final = [1.0, 2.0, 4.0]
"""Before a part is tried again whose message has begun to be sent."""
LATE_S: Final = 30.0
"""How much longer an answer is awaited when its message is in doubt already."""

_PASSING: Final = frozenset({smpp.ESME_RSYSERR, smpp.ESME_RMSGQFUL, smpp.ESME_RTHROTTLED})
_NO_NETWORK: Final = 331
_SIM_TROUBLE: Final = range(310, 319)
"""+CMS ERROR: no SIM, PIN or PUK wanted, SIM busy or wrong: a start shows which (27.005 3.2.5)."""


class Answer(NamedTuple):
    """What the flow hears, as from a carrier."""

    status: int
    body: bytes = b""


class Doubt(NamedTuple):
    """Written, and nobody knows."""

    reason: str


class Leg:
    """A message's way to one of its destinations."""

    __slots__ = ("address", "digits", "next", "reference", "sent", "status", "submits")

    def __init__(self, address: Address, submits: list[Submit], status: int, sent: Sent) -> None:
        self.address = address
        """As the client wrote it."""
        self.submits = submits
        self.status = status
        """ESME_ROK, or why it is refused."""
        self.sent = sent
        self.next = 0
        """The part that is to be sent."""
        self.reference: int | None = None
        """The last part's, by the modem."""
        self.digits = submits[0].destination.digits if submits else ""

    @property
    def over(self) -> bool:
        """All parts sent, or refused."""
        return self.status != smpp.ESME_ROK or self.next >= len(self.submits)


@dataclass(slots=True, eq=False)
class Job:
    """A message on its way through a modem, with how far it has come."""

    message: Message
    legs: list[Leg] | None = None
    """None: it has not begun."""
    until: float = 0.0
    """When it has to be over, by the loop's clock; parts that are not sent by then are refused."""
    in_flight: bool = False
    """A part is written and not answered."""
    written_at: float = 0.0
    """When that was, by the monotonic clock."""
    in_doubt: bool = False
    """The flow has been told so; an answer that still comes is a late one."""

    @property
    def touched(self) -> bool:
        """At least one part was sent."""
        return any(leg.next for leg in self.legs or ())

    def prepare(
        self, settings: ModemSettings, rules: AddressRules, new_reference: Callable[[], int]
    ) -> None:
        """Make the TPDUs.  Raises PduError when it can't be sent by a modem, or not any more."""
        message = self.message
        now_s = time.time()
        body = rules.outward(message.command_id, message.body)
        due_at_s, expires_at_s = timing(message.command_id, body, now_s)
        if due_at_s is not None:
            raise PduError(smpp.ESME_RINVSCHED, "schedule_delivery_time")
        validity_s = None if expires_at_s is None else max(1, int(expires_at_s - now_s))
        asked = READERS[message.command_id](body).registered_delivery & ASKED_MASK
        sender, destinations = _addresses(message)
        legs = []
        for index, address in enumerate(destinations):
            submits: list[Submit] = []
            status = smpp.ESME_ROK
            try:
                submits = submits_of(
                    message.command_id,
                    body,
                    index,
                    new_reference=new_reference,
                    validity_s=validity_s,
                )
                for submit in submits:
                    encode_submit(submit)
            except PduError as error:
                if len(destinations) == 1:
                    raise
                status = error.status
            except TpduError:
                status = smpp.ESME_RINVDSTADR
            sent = Sent(address, sender, len(submits), asked, now_s)
            legs.append(Leg(address, submits, status, sent))
        self.legs = legs

    def parts_left(self) -> int:
        """Short messages that are still to be sent."""
        return sum(len(leg.submits) - leg.next for leg in self.legs or () if not leg.over)

    def answer(self) -> Answer:
        """What the legs came to; those that are not over are refused."""
        legs = self.legs or []
        for leg in legs:
            if not leg.over:
                leg.status = smpp.ESME_RSUBMITFAIL
        taken = [leg for leg in legs if leg.status == smpp.ESME_ROK]
        if not taken:
            status = legs[0].status if legs else smpp.ESME_RSUBMITFAIL
            return Answer(status)
        last = taken[-1]
        message_id = "" if last.reference is None else f"{last.reference}-{last.digits}"
        body = message_id.encode("ascii") + b"\0"
        if self.message.command_id == smpp.SUBMIT_MULTI:  # section 4.5.2
            refused = [leg for leg in legs if leg.status != smpp.ESME_ROK]
            body += bytes((len(refused),)) + b"".join(map(_unsuccess_sme, refused))
        return Answer(smpp.ESME_ROK, body)

    def receipts(self, reports: Reports) -> list[bytes]:
        """Receipts that were due before the message was answered."""
        taken = [leg for leg in self.legs or () if leg.status == smpp.ESME_ROK]
        if not taken or taken[-1].reference is None:
            return []
        key = report_key(taken[-1].reference, taken[-1].digits)
        now_s = time.time()
        due = [reports.ended(leg.sent, key, now_s) for leg in taken]
        return [body for body in due if body is not None]


def _addresses(message: Message) -> tuple[Address, list[Address]]:
    """Source and destinations as the client wrote them.  Raises PduError."""
    if message.command_id == smpp.SUBMIT_MULTI:
        values, _ = MULTI_HEAD.split(message.body)
        source = Address(values[1][0], values[2][0], values[3])
        return source, multi_destinations(message.body)[0]
    layout = DATA if message.command_id == smpp.DATA_SM else SUBMIT
    source, destination = addresses_of(layout.split(message.body)[0])
    return source, [destination]


def _unsuccess_sme(leg: Leg) -> bytes:
    address = leg.address
    return b"%c%c%b\0%b" % (address.ton, address.npi, address.addr, leg.status.to_bytes(4))


class Sender:
    """Sends one message at a time."""

    def __init__(
        self,
        settings: ModemSettings,
        reports: Reports,
        pace: Callable[[ModemLink], Awaitable[None]],
        written: Callable[[], None],
        doubtful: Callable[[Job, str], None],
    ) -> None:
        """`pace` waits until the rate allows another part, `written` counts it; `doubtful`
        is called while a late answer may still come."""
        self._settings = settings
        self._reports = reports
        self._pace = pace
        self._written = written
        self._doubtful = doubtful
        self._loop = asyncio.get_running_loop()
        self.refusals = 0
        """In a row, that speak about the modem or its network."""

    async def send(self, link: ModemLink, job: Job) -> Answer | Doubt:
        """Send what is left of it.  Raises ModemLost: what was to be sent next was not written."""
        for leg in job.legs or ():
            while not leg.over:
                if job.touched and self._loop.time() > job.until:
                    return job.answer()
                try:
                    doubt = await self._part(link, job, leg)
                except Unanswered:
                    self._in_doubt(leg)
                    raise
                if doubt is not None:
                    self._in_doubt(leg)
                    return doubt
        return job.answer()

    def _in_doubt(self, leg: Leg) -> None:
        """A report may yet say that it was sent, if this was all of it."""
        if leg.next == len(leg.submits) - 1 and leg.submits[0].report:
            self._reports.doubtful(leg.sent, leg.digits)

    async def _part(self, link: ModemLink, job: Job, leg: Leg) -> Doubt | None:
        """One part until it is taken, refused or in doubt."""
        # The first of all is tried once: whether and where again, the flow decides.
        pauses = [*PAUSES_S, None] if job.touched else [None]
        for pause_s in pauses:
            await self._pace(link)
            reply = await self._submit(link, job, leg.submits[leg.next])
            was_written, job.in_flight = job.in_flight, False
            if reply.ok:
                self._taken(leg, reply)
                return None
            if was_written and _is_doubtful(reply, time.monotonic() - job.written_at):
                return Doubt(f"the service centre did not answer: {reply.result.text}")
            status = self._status(link, reply)
            if status not in _PASSING or job.in_doubt:
                break
            if pause_s is not None:
                await asyncio.wait((link.gone,), timeout=pause_s)
        # With a part on its way, another attempt as a whole would send that part twice.
        leg.status = smpp.ESME_RSUBMITFAIL if leg.next and status in _PASSING else status
        return None

    async def _submit(self, link: ModemLink, job: Job, submit: Submit) -> Reply:
        """Raises ModemLost; Unanswered when it was written."""
        tpdu = encode_submit(submit)
        job.in_flight = False  # a line that closed under the last attempt took nothing

        def written() -> None:
            job.in_flight = True
            job.written_at = time.monotonic()
            self._written()

        def overdue() -> None:
            self._doubtful(job, "the modem did not answer")

        return await link.submit(
            with_smsc(tpdu, None).hex().upper(),
            len(tpdu),
            self._settings.answer_timeout_s,
            min(LATE_S, self._settings.answer_timeout_s),
            written,
            overdue,
        )

    def _taken(self, leg: Leg, reply: Reply) -> None:
        self.refusals = 0
        values = at.named(reply.lines, "+CMGS")
        leg.reference = at.number_of(values[0]) if values else None
        leg.next += 1
        if leg.reference is not None and leg.submits[0].report:
            self._reports.part_sent(leg.sent, leg.reference, leg.digits)

    def _status(self, link: ModemLink, reply: Reply) -> int:
        """The command_status of a refusal; and what it says about the modem."""
        kind, code = reply.result.kind, reply.result.code
        status = status_of_cme_error(code) if kind == "cme" else status_of_cms_error(code)
        self.refusals = self.refusals + 1 if status == smpp.ESME_RSYSERR else 0
        if kind == "cms" and code in _SIM_TROUBLE:
            link.lose(f"the SIM has a problem: {reply.result.text}")
        return status


def _is_doubtful(reply: Reply, seconds: float) -> bool:
    """Whether a refusal, so long after the PDU, leaves open that the service centre took it.

    27.005 section 3.2.5: 332 is a network timeout.  500, and ERROR alone, name no cause.
    """
    kind, code = reply.result.kind, reply.result.code
    if kind == "cms" and code in DOUBTFUL_CMS_ERRORS:
        return True
    unknown = not kind or (kind == "cms" and code in (None, 500))
    return unknown and seconds > _NETWORK_WAITS_S
