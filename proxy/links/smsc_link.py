"""One bound connection to a carrier."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import structlog

from proxy.config import SmppUpstreamSettings
from proxy.flow.deliver import Arrival
from proxy.flow.message import Message, Operation
from proxy.flow.settle import Answer
from proxy.links.connection import SmppConnection
from proxy.routing.throttle import Throttle
from proxy.smpp import vocabulary as smpp
from proxy.smpp.framing import Pdu, pack_pdu
from proxy.smpp.session import BIND_TYPE, SMSC_MAY_SEND, STATE_OF_BIND, SessionState
from proxy.smpp.timers import Limits
from proxy.smpp.window import Window
from proxy.telemetry import metrics

log = structlog.get_logger()

_LATE_MAX = 10_000
"""Messages in doubt that a link still recognises the answer of."""
_MAX_PDU_OCTETS = 140_000
_ANSWERS = frozenset({smpp.SUBMIT_SM_RESP, smpp.DATA_SM_RESP, smpp.SUBMIT_MULTI_RESP})
_OPERATION_ANSWERS = frozenset(
    {smpp.QUERY_SM | smpp.RESP, smpp.CANCEL_SM | smpp.RESP, smpp.REPLACE_SM | smpp.RESP}
)
_TO_CLIENT = frozenset({smpp.DELIVER_SM, smpp.DATA_SM})
_RECEIVERS = (SessionState.BOUND_RX, SessionState.BOUND_TRX)
_SENDERS = (SessionState.BOUND_TX, SessionState.BOUND_TRX)


class SmscLink(SmppConnection):
    """One connection to a carrier, bound as one type."""

    side = "smsc"

    def __init__(self, upstream: Any, bind_command: int) -> None:
        settings: SmppUpstreamSettings = upstream.settings
        super().__init__(
            _MAX_PDU_OCTETS,
            Limits(
                settings.connect_timeout_s, settings.enquire_link_s, 0, settings.response_timeout_s
            ),
            SMSC_MAY_SEND,
            Window[Message | Operation](settings.window),
        )
        self._upstream = upstream
        self._settings = settings
        self.bind_command = bind_command
        rules = upstream.address_rules
        self._outward: Callable[[int, bytes], bytes] | None = (
            rules.outward if rules.changes_outward else None
        )
        self._throttle = (
            Throttle(settings.bind_rate, self._loop.time())
            if settings.bind_rate is not None
            else None
        )
        self._seconds = 0.0
        """How long the first answer of the read at hand has taken."""
        self._late: OrderedDict[int, Message] = OrderedDict()
        self._response_seconds = metrics.UPSTREAM_RESPONSE_SECONDS.labels(settings.name)
        self.gone: asyncio.Future[str] = self._loop.create_future()

    @property
    def can_send(self) -> bool:
        """Bound for messages towards the carrier."""
        return self.state in _SENDERS

    @property
    def room(self) -> int:
        """How many messages may be written now: by the window, and by the rate of this link."""
        if self._throttle is None:
            return self.window.free
        return min(self.window.free, self._throttle.available(self._loop.time()))

    @property
    def wait_s(self) -> float | None:
        """Seconds until the rate lets the next one go; None: an answer is needed for that.

        To be asked after `room`.
        """
        if self._throttle is None or self.window.free <= 0:
            return None
        return self._throttle.wait_s()

    # ------------------------------------------------------------------------- sending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bind at once."""
        super().connection_made(transport)
        s = self._settings
        body = b"%b\0%b\0%b\0%c\0\0\0" % (
            s.system_id.encode("latin-1"),
            s.password.get_secret_value().encode("latin-1"),
            s.system_type.encode("latin-1"),
            smpp.INTERFACE_VERSION,
        )
        self.send(pack_pdu(self.bind_command, 0, self.window.next_sequence(), body))
        self.count("out", self.bind_command, 0)

    def write(self, messages: list[Message]) -> None:
        """Register, then write; the caller has looked at `room`."""
        now = self._loop.time()
        deadline = now + self._settings.response_timeout_s
        register, outward = self.window.register, self._outward
        self.times.active = now
        if self._throttle is not None:
            self._throttle.take(len(messages))
        if outward is None:
            pdus = [pack_pdu(m.command_id, 0, register(m, deadline), m.body) for m in messages]
        else:  # the message keeps its own body: another carrier has other rules
            pdus = [
                pack_pdu(m.command_id, 0, register(m, deadline), outward(m.command_id, m.body))
                for m in messages
            ]
        self.send(b"".join(pdus))
        self.count("out", messages[0].command_id, 0, len(messages))

    def operate(self, operation: Operation) -> None:
        """Relay a query_sm, cancel_sm or replace_sm; the caller has looked at the window."""
        deadline = self._loop.time() + self._settings.response_timeout_s
        sequence_number = self.window.register(operation, deadline)
        body = operation.body
        if self._outward is not None:
            body = self._outward(operation.command_id, body)
        self.send(pack_pdu(operation.command_id, 0, sequence_number, body))
        self.count("out", operation.command_id, 0)

    # ----------------------------------------------------------------------- receiving

    def pdus_received(self, pdus: list[Pdu]) -> None:
        """Answers and deliveries go to the flow as lists; the rest is handled one by one."""
        answers: list[Answer] = []
        late: list[Answer] = []
        arrivals: list[Arrival] = []
        receives = self.state in _RECEIVERS
        for command_id, status, sequence_number, body in pdus:
            if command_id in _ANSWERS:
                self._answer(status, sequence_number, body, answers, late)
            elif command_id == smpp.GENERIC_NACK:
                # Never a success, whatever status it carries.
                self._answer(status or smpp.ESME_RUNKNOWNERR, sequence_number, body, answers, late)
            elif command_id in _TO_CLIENT and receives:
                arrivals.append((command_id, sequence_number, body))
            else:
                self.count("in", command_id, status)
                self._other(command_id, status, sequence_number, body)
                receives = self.state in _RECEIVERS  # a bind_resp may have changed it
        if answers or late:
            self.times.active = self.times.received
            statuses = self._count_answers(answers)
            self._count_answers(late)
            self._upstream.answered(answers, late, statuses, self._seconds)
        if arrivals:
            self.times.active = self.times.received
            self.count("in", arrivals[0][0], 0, len(arrivals))
            self._upstream.arrived(self, arrivals)

    def _answer(
        self,
        status: int,
        sequence_number: int,
        body: bytes,
        answers: list[Answer],
        late: list[Answer],
    ) -> None:
        """Find the request that an answer is for; one that nobody waits for is dropped."""
        entry = self.window.open.pop(sequence_number, None)
        if entry is None:
            message = self._late.pop(sequence_number, None)
            if message is not None:
                late.append((message, status, body))
            return
        deadline, request = entry
        if isinstance(request, Operation):
            request.done(status, body)
            return
        if not answers:  # the first of a read speaks for all
            sent = deadline - self._settings.response_timeout_s
            self._seconds = self.times.received - sent
            self._response_seconds.observe(self._seconds)
        answers.append((request, status, body))

    def _count_answers(self, answers: list[Answer]) -> dict[int, int]:
        """Returns how many had each status."""
        by_kind: dict[tuple[int, int], int] = {}
        for message, status, _ in answers:
            kind = (message.command_id, status)
            by_kind[kind] = by_kind.get(kind, 0) + 1
        by_status: dict[int, int] = {}
        for (command_id, status), number in by_kind.items():
            self.count("in", command_id | smpp.RESP, status, number)
            by_status[status] = by_status.get(status, 0) + number
        return by_status

    def _other(self, command_id: int, status: int, sequence_number: int, body: bytes) -> None:
        if command_id in _OPERATION_ANSWERS:
            _, request = self.window.open.get(sequence_number, (0, None))
            if isinstance(request, Operation):
                self.window.answer(sequence_number)
                request.done(status, body)
        elif command_id == self.bind_command | smpp.RESP and self.state == SessionState.OPEN:
            self._bound(status)
        elif command_id == smpp.OUTBIND:
            # Section 4.1.7: an invitation to bind, which is under way already.
            log.info("outbind_ignored", upstream=self._settings.name)
        elif not self.common(command_id, status, sequence_number) and (
            command_id == smpp.ALERT_NOTIFICATION
        ):
            self._upstream.alerted(body)

    def _bound(self, status: int) -> None:
        if status != smpp.ESME_ROK:
            self.close(f"the bind was refused: {smpp.status_name(status)}")
            return
        self.state = STATE_OF_BIND[self.bind_command]
        metrics.SESSIONS.labels("smsc", BIND_TYPE[self.state]).inc()
        self._upstream.link_bound(self)

    # ------------------------------------------------------------------------- leaving

    def check(self, now: float) -> None:
        """Answers that do not come: the message is in doubt, and its late answer is awaited."""
        silent: list[Message] = []
        for sequence_number, request in self.window.expire(now):
            if isinstance(request, Message):
                silent.append(request)
                self._late[sequence_number] = request
                if len(self._late) > _LATE_MAX:
                    self._late.popitem(last=False)
            else:
                request.done(None, b"")
        if silent:
            self._upstream.silent(silent)

    def close(self, reason: str) -> None:
        """From now on nothing is written, so nothing may be handed to this link."""
        super().close(reason)
        self._upstream.link_closing(self)

    def lost(self, reason: str) -> None:
        """What was written and not answered is in doubt."""
        if not self.gone.done():
            self.gone.set_result(reason)
        unanswered = self.window.drain()
        self._upstream.link_lost(
            self, [request for request in unanswered if isinstance(request, Message)], reason
        )
        for request in unanswered:
            if isinstance(request, Operation):
                request.done(None, b"")
