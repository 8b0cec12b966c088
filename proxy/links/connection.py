"""What both sides of the proxy have in common: a socket that speaks SMPP.

One write per peer per batch: octets to send are collected and written when the event loop comes
round.  A peer that does not read gets nothing more read from it (back-pressure), so its buffer
stays bounded by what its windows allow.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any, cast

import structlog

from proxy.smpp import vocabulary as smpp
from proxy.smpp.framing import Framer, Pdu, pack_pdu
from proxy.smpp.session import SessionState, refusal
from proxy.smpp.timers import Action, Limits, LinkTimes, next_action
from proxy.smpp.window import Window
from proxy.telemetry import metrics

log = structlog.get_logger()

_TICK_S = 1.0
_CLOSE_AFTER_S = 5.0
_WRITE_HIGH_OCTETS = 1 << 20
_COUNTS_MAX = 1000


class SmppConnection(asyncio.Protocol, ABC):
    """One connection in one state; subclasses say what its PDUs mean."""

    side = ""
    """For the metrics: who is at the other end."""

    def __init__(
        self,
        max_pdu_octets: int,
        limits: Limits,
        may_send: dict[SessionState, frozenset[int]],
        window: Window[Any],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._framer = Framer(max_pdu_octets)
        self._limits = limits
        self._may_send = may_send
        self.window = window
        self._outbox: list[bytes] = []
        self._counts: dict[tuple[str, int, int], int] = {}
        self._peer_reads = True
        self._held = False
        self._asked_to_leave = False
        self._refused_before = False
        self._ticking: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None
        self.peer_address = ""
        self.closing_reason = "the peer closed the connection"
        self.state = SessionState.OPEN
        now = self._loop.time()
        self.times = LinkTimes(now, now, now)

    # ------------------------------------------------------------------ asyncio.Protocol

    @property
    def closing(self) -> bool:
        """The connection is gone, or goes: nothing written reaches the peer."""
        return self.transport is None or self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP_NODELAY is asyncio's and uvloop's default."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_WRITE_HIGH_OCTETS)
        peer = transport.get_extra_info("peername")
        self.peer_address = str(peer[0]) if peer else ""
        self._ticking = self._loop.call_later(_TICK_S, self._tick)

    def data_received(self, data: bytes) -> None:
        """Cut into PDUs and hand on what the state allows, as one list."""
        self.times.received = self._loop.time()
        self.pdus_received(self._framer.feed(data))
        if self._framer.error is not None and self.state != SessionState.CLOSED:
            log.warning("framing_error", side=self.side, peer=self.peer_address)
            self.send(self._framer.error)
            self.close("a PDU with an impossible length")

    def pause_writing(self) -> None:
        """The peer does not read: neither do we."""
        self._peer_reads = False
        self._read_or_not()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._peer_reads = True
        self._read_or_not()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever the reason: `lost` is called once."""
        self.state = SessionState.CLOSED
        if self._ticking is not None:
            self._ticking.cancel()
        self._outbox.clear()
        self._publish_counts()
        if exc is not None:
            self.closing_reason = f"the connection broke: {exc}"
        self.lost(self.closing_reason)

    # --------------------------------------------------------------------- for subclasses

    @abstractmethod
    def pdus_received(self, pdus: list[Pdu]) -> None:
        """All PDUs of one read."""

    @abstractmethod
    def lost(self, reason: str) -> None:
        """The connection is gone."""

    def check(self, now: float) -> None:
        """Called about once a second while the connection lives."""

    def common(self, command_id: int, status: int, sequence_number: int) -> bool:
        """Handle what is the same on both sides; False when the subclass has to."""
        if self.state == SessionState.CLOSED:
            return True
        if command_id not in self._may_send[self.state]:
            answer = refusal(command_id, self.state)
            if answer is not None:
                self.respond(answer[0], answer[1], sequence_number, b"")
            if not self._refused_before:  # the others are in smpp_proxy_pdus_total
                self._refused_before = True
                log.info(
                    "command_refused",
                    side=self.side,
                    peer=self.peer_address,
                    command=smpp.command_name(command_id),
                    state=self.state.name,
                )
        elif command_id == smpp.ENQUIRE_LINK:
            self.send(pack_pdu(smpp.ENQUIRE_LINK_RESP, 0, sequence_number))
        elif command_id == smpp.ENQUIRE_LINK_RESP:
            self.times.enquired = None
        elif command_id == smpp.UNBIND:
            self.send(pack_pdu(smpp.UNBIND_RESP, 0, sequence_number))
            self.close("the peer unbound")
        elif command_id == smpp.UNBIND_RESP:
            self.close(self.closing_reason)
        else:
            return False
        return True

    def hold(self, held: bool) -> None:
        """Read nothing while it is held, whether the peer reads or not."""
        self._held = held
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self._peer_reads and not self._held:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def count(self, direction: str, command_id: int, status: int, number: int = 1) -> None:
        """Towards smpp_proxy_pdus_total, which is brought up to date once a second."""
        key = (direction, command_id, status)
        self._counts[key] = self._counts.get(key, 0) + number
        if len(self._counts) > _COUNTS_MAX:  # a peer can invent statuses at will
            self._publish_counts()

    def _publish_counts(self) -> None:
        for (direction, command_id, status), number in self._counts.items():
            metrics.pdu_counter(
                self.side, direction, smpp.command_name(command_id), smpp.status_name(status)
            ).inc(number)
        self._counts.clear()

    # ------------------------------------------------------------------------ sending

    def send(self, octets: bytes) -> None:
        """Queue octets for the next write."""
        if self.state == SessionState.CLOSED:
            return
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(octets)

    def respond(self, command_id: int, status: int, sequence_number: int, body: bytes) -> None:
        """Send a response; nothing happens when the connection is gone."""
        self.send(pack_pdu(command_id, status, sequence_number, body))
        self.count("out", command_id, status)

    def _flush(self) -> None:
        transport = self.transport
        if self._outbox and transport is not None and not transport.is_closing():
            transport.write(b"".join(self._outbox))
        self._outbox.clear()

    # ------------------------------------------------------------------------ leaving

    def unbind(self, reason: str) -> None:
        """Ask the peer to leave; it is closed when it answers, or after a while."""
        if self.state in (SessionState.CLOSED, SessionState.OPEN):
            self.close(reason)
            return
        if self._asked_to_leave:
            return
        self._asked_to_leave = True
        self.closing_reason = reason
        self.send(pack_pdu(smpp.UNBIND, 0, self.window.next_sequence()))
        self._loop.call_later(_CLOSE_AFTER_S, self.close, reason)

    def close(self, reason: str) -> None:
        """Close once what is queued is written."""
        if self.state == SessionState.CLOSED:
            return
        self._flush()
        self.state = SessionState.CLOSED
        self.closing_reason = reason
        if self.transport is not None:
            self.transport.close()
            # A peer that never reads would keep the socket open.
            self._loop.call_later(_CLOSE_AFTER_S, self.transport.abort)

    def _tick(self) -> None:
        if self.state == SessionState.CLOSED:
            return
        self._ticking = self._loop.call_later(_TICK_S, self._tick)
        now = self._loop.time()
        self._publish_counts()
        self.check(now)
        bound = self.state != SessionState.OPEN
        action = next_action(self.times, self._limits, bound=bound, now=now)
        if action is Action.ENQUIRE:
            self.times.enquired = now
            self.send(pack_pdu(smpp.ENQUIRE_LINK, 0, self.window.next_sequence()))
        elif action is Action.CLOSE_INACTIVE:
            self.unbind(action.value)
        elif action is not Action.NONE:
            self.close(action.value)
