"""The customers' side: an SMPP server.

A session hands its submits to the flow in one list per read, and answers whatever needs no
database at once.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from proxy.config import SmppSettings
from proxy.flow.bind import Bind
from proxy.flow.deliver import Deliver
from proxy.flow.message import Account
from proxy.flow.operate import Operate
from proxy.flow.refusals import Request
from proxy.flow.submit import Submit
from proxy.links.connection import SmppConnection
from proxy.smpp import vocabulary as smpp
from proxy.smpp.framing import Pdu, pack_pdu
from proxy.smpp.pdu import BIND, READERS, PduError
from proxy.smpp.rewrite import without_tlvs
from proxy.smpp.session import BIND_TYPE, ESME_MAY_SEND, STATE_OF_BIND, SessionState
from proxy.smpp.timers import Limits
from proxy.smpp.tlv import pack_tlv
from proxy.smpp.window import Window
from proxy.telemetry import metrics
from proxy.telemetry.tasks import Tasks, wait_until

log = structlog.get_logger()

_OPERATIONS = frozenset({smpp.QUERY_SM, smpp.CANCEL_SM, smpp.REPLACE_SM})
_DELIVERY_ANSWERS = frozenset({smpp.DELIVER_SM_RESP, smpp.DATA_SM_RESP})
_SENDERS = (SessionState.BOUND_TX, SessionState.BOUND_TRX)
_RECEIVERS = (SessionState.BOUND_RX, SessionState.BOUND_TRX)
_UNBIND_S = 3.0
_NUMBERS = itertools.count(1)
_TLVS_SINCE = 0x34
Done = Callable[[int | None], None]


class EsmeSession(SmppConnection):
    """One connection of a customer."""

    side = "esme"
    account: Account
    login_id = 0
    system_id = ""

    def __init__(self, server: EsmeServer) -> None:
        s = server.settings
        super().__init__(
            s.max_pdu_octets,
            Limits(
                s.session_init_timeout_s,
                s.enquire_link_s,
                s.inactivity_timeout_s,
                s.response_timeout_s,
            ),
            ESME_MAY_SEND,
            Window[Done](s.deliver_window_max),
        )
        self._server = server
        self._settings = s
        self._waiting: list[Pdu] | None = None
        """PDUs that came while a bind is being authenticated."""
        self.takes_tlvs = True
        self.number = next(_NUMBERS)
        """Names the session among those of this proxy."""
        self.bind_type = ""
        """Empty until it is bound."""
        self.bound_at = datetime.now(UTC)
        self.open_requests = 0
        self._unbind: tuple[int, float] | None = None
        """The client's unbind that waits for open requests: sequence_number and deadline."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse more connections than configured."""
        super().connection_made(transport)
        if not self._server.has_room(self.peer_address):
            log.warning("too_many_connections", peer=self.peer_address)
            self.close("too many connections")
            return
        self._server.connections.add(self)

    # ------------------------------------------------------------------------ requests

    def pdus_received(self, pdus: list[Pdu]) -> None:
        """Submits go to the flow as one list; the rest is handled one by one."""
        if self._unbind is not None:  # after an unbind only answers are of interest
            pdus = [pdu for pdu in pdus if pdu[0] & smpp.RESP]
        if self._waiting is not None:
            self._waiting.extend(pdus)
            return
        requests: list[Request] = []
        sends, receives = self.state in _SENDERS, self.state in _RECEIVERS
        for number, (command_id, status, sequence_number, body) in enumerate(pdus):
            if sends and command_id in READERS:
                requests.append((command_id, sequence_number, body))
                continue
            if receives and command_id in _DELIVERY_ANSWERS:
                self.count("in", command_id, status)
                self._delivered(status, sequence_number)
                continue
            self._submit(requests)  # before what came behind them
            requests = []
            if self.state == SessionState.CLOSED:
                return
            self.count("in", command_id, status)
            self._other(command_id, status, sequence_number, body)
            sends, receives = self.state in _SENDERS, self.state in _RECEIVERS
            if self._waiting is not None or self._unbind is not None:
                self.pdus_received(pdus[number + 1 :])
                return
        self._submit(requests)

    def _submit(self, requests: list[Request]) -> None:
        if not requests:
            return
        self.times.active = self.times.received
        for command_id in READERS:
            number = sum(1 for request in requests if request[0] == command_id)
            if number:
                self.count("in", command_id, 0, number)
        self._server.submit.received(self, requests, self._settings.window_max)

    def _other(self, command_id: int, status: int, sequence_number: int, body: bytes) -> None:
        if command_id == smpp.UNBIND and self.open_requests > 0:
            # Its submits are charged: it hears of them before it leaves.
            deadline = self._loop.time() + self._settings.response_timeout_s
            self._unbind = (sequence_number, deadline)
        elif self.common(command_id, status, sequence_number):
            return
        if command_id in smpp.BINDS:
            self._bind(command_id, sequence_number, body)
        elif command_id == smpp.GENERIC_NACK:
            # Never a success, whatever status it carries.
            self._delivered(status or smpp.ESME_RSYSERR, sequence_number)
        elif command_id in _OPERATIONS:
            self.times.active = self.times.received
            if self.open_requests >= self._settings.window_max:
                self.respond(command_id | smpp.RESP, smpp.ESME_RTHROTTLED, sequence_number, b"")
                return
            self.open_requests += 1
            self._server.tasks.spawn(
                self._server.operate.received(self, command_id, sequence_number, body),
                smpp.command_name(command_id),
            )

    def _delivered(self, status: int, sequence_number: int) -> None:
        self.times.active = self.times.received
        done = self.window.answer(sequence_number)
        if done is not None:
            done(status)

    def respond(self, command_id: int, status: int, sequence_number: int, body: bytes) -> None:
        """Send a response; the last one that an unbind waited for lets the client go."""
        super().respond(command_id, status, sequence_number, body)
        if self._unbind is not None and self.open_requests <= 0:
            self._let_go()

    def _let_go(self) -> None:
        if self._unbind is not None:
            sequence_number, self._unbind = self._unbind[0], None
            self.common(smpp.UNBIND, 0, sequence_number)

    # ---------------------------------------------------------------------------- bind

    def _bind(self, command_id: int, sequence_number: int, body: bytes) -> None:
        try:
            values, _ = BIND.split(body)
        except PduError as error:
            self.respond(command_id | smpp.RESP, error.status, sequence_number, b"")
            self.close("a malformed bind")
            return
        if self._server.submit.draining:
            self.respond(command_id | smpp.RESP, smpp.ESME_RBINDFAIL, sequence_number, b"")
            self.close("the proxy is shutting down")
            return
        # What follows waits; reading pauses, so that it stays within one buffer.
        self._waiting = []
        self.hold(True)
        system_id, password = values[0].decode("latin-1"), values[1].decode("latin-1")
        self._server.tasks.spawn(
            self._authenticate(command_id, sequence_number, system_id, password, values[3][0]),
            "bind",
        )

    async def _authenticate(
        self, command_id: int, sequence_number: int, system_id: str, password: str, version: int
    ) -> None:
        state = STATE_OF_BIND[command_id]
        # The timer for a session that never binds must not strike one that is being slowed down.
        self.times.opened = self._loop.time() + self._settings.response_timeout_s
        bound = await self._server.bind.authenticate(system_id, password, self.peer_address)
        if self.state == SessionState.CLOSED:
            self._server.bind.abandoned(bound)
            return
        if bound.account is None:
            self.respond(command_id | smpp.RESP, bound.status, sequence_number, b"")
            self.close("the bind was refused")
            return
        self.account, self.login_id, self.system_id = bound.account, bound.login_id, system_id
        self.takes_tlvs = version >= _TLVS_SINCE
        self.state = state
        self.times.active = self.times.received = self._loop.time()
        body = self._settings.system_id.encode("latin-1") + b"\0"
        if self.takes_tlvs:
            body += pack_tlv(smpp.TAG_SC_INTERFACE_VERSION, bytes((smpp.INTERFACE_VERSION,)))
        self.respond(command_id | smpp.RESP, smpp.ESME_ROK, sequence_number, body)
        metrics.SESSIONS.labels("esme", BIND_TYPE[state]).inc()
        self.bind_type = BIND_TYPE[state]
        self.bound_at = datetime.now(UTC)
        self._server.bind.entered(self, self.bind_type, self.peer_address)
        waiting, self._waiting = self._waiting or [], None
        self.hold(False)
        if waiting:
            self.pdus_received(waiting)
        if self.can_receive:
            self._server.deliver.receiver_bound(self.account)

    # -------------------------------------------------------------------------- deliver

    @property
    def can_receive(self) -> bool:
        """Bound as receiver or transceiver, and not closing."""
        return self.state in _RECEIVERS

    @property
    def deliver_room(self) -> int:
        """How many more deliveries the session's window takes now."""
        return self.window.free

    def deliver(self, command_id: int, body: bytes, done: Done) -> None:
        """Send a deliver_sm or data_sm; `done` gets the status of its response, or None."""
        if not self.takes_tlvs and command_id == smpp.DELIVER_SM:
            body = without_tlvs(body)
        deadline = self._loop.time() + self._settings.response_timeout_s
        sequence_number = self.window.register(done, deadline)
        self.send(pack_pdu(command_id, 0, sequence_number, body))
        self.count("out", command_id, 0)

    def notify(self, body: bytes) -> None:
        """Send an alert_notification, which has no response."""
        self.send(pack_pdu(smpp.ALERT_NOTIFICATION, 0, self.window.next_sequence(), body))
        self.count("out", smpp.ALERT_NOTIFICATION, 0)

    # -------------------------------------------------------------------------- leaving

    def check(self, now: float) -> None:
        """Deliveries that the client does not answer are tried again later."""
        for _, done in self.window.expire(now):
            done(None)
        if self._unbind is not None and now >= self._unbind[1]:
            self._let_go()

    def lost(self, reason: str) -> None:
        """Tell the flow; what was being delivered finds another session or waits."""
        self._server.connections.discard(self)
        if not self.system_id:
            log.info("connection_closed", peer=self.peer_address, reason=reason)
            return
        metrics.SESSIONS.labels("esme", self.bind_type).dec()
        self._server.bind.left(self, reason)
        for done in self.window.drain():
            done(None)
        self._server.deliver.receiver_left(self.account)


class EsmeServer:
    """The listening sockets and the sessions behind them."""

    def __init__(
        self,
        settings: SmppSettings,
        bind: Bind,
        submit: Submit,
        operate: Operate,
        deliver: Deliver,
        tasks: Tasks,
    ) -> None:
        self.settings = settings
        self.bind = bind
        self.submit = submit
        self.operate = operate
        self.deliver = deliver
        self.tasks = tasks
        self.connections: set[EsmeSession] = set()
        self.port = 0
        self.tls_port = 0
        self._listening: list[Any] = []

    async def start(self) -> None:
        """Listen; `port` is the real one where 0 was configured.  Raises OSError."""
        s = self.settings
        server = await self._listen(s.host, s.port)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.append(server)
        if s.tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            try:
                context.load_cert_chain(s.tls.certificate, s.tls.key)
            except OSError as error:
                raise OSError(f"smpp.tls: {s.tls.certificate}, {s.tls.key}: {error}") from None
            server = await self._listen(s.host, s.tls.port, context)
            self.tls_port = server.sockets[0].getsockname()[1]
            self._listening.append(server)

    async def _listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> Any:
        try:
            return await asyncio.get_running_loop().create_server(
                lambda: EsmeSession(self), host, port, ssl=tls, backlog=512
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OSError(f"{host}:{port} is in use; does another proxy run?") from None
            raise

    def has_room(self, peer_address: str) -> bool:
        """Whether a connection may stay.

        Those that have not bound may take only half of the places from one address: who never
        binds does not lock the others out.
        """
        if len(self.connections) >= self.settings.max_sessions:
            return False
        unbound = sum(
            1 for c in self.connections if not c.system_id and c.peer_address == peer_address
        )
        return unbound < max(1, self.settings.max_sessions // 2)

    def stop_listening(self) -> None:
        """No new connections; the sessions stay."""
        for server in self._listening:
            server.close()

    async def stop(self) -> None:
        """Ask every client to leave and wait a moment for them to."""
        self.stop_listening()
        for connection in list(self.connections):
            connection.unbind("the proxy is shutting down")
        await wait_until(lambda: not self.connections, _UNBIND_S)
        for connection in list(self.connections):
            connection.close("the proxy is shutting down")
