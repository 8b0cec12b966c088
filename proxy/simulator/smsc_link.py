"""One connection of an ESME to the simulated carrier: framing, binding, and its deliver_sm."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Final, Protocol, cast

from proxy.simulator import smsc_octets as octets
from proxy.smpp import vocabulary as smpp

OUTSTANDING_MAX: Final = 10
"""deliver_sm sent on one link and not answered yet."""

_BIND_NAMES: Final = {
    smpp.BIND_RECEIVER: "receiver",
    smpp.BIND_TRANSMITTER: "transmitter",
    smpp.BIND_TRANSCEIVER: "transceiver",
}


@dataclass(slots=True, eq=False)
class Delivery:
    """A deliver_sm on its way to an ESME."""

    system_id: str | None
    """Whose link it may take; None: any."""
    body: bytes
    answer: asyncio.Future[int] | None = None
    """Gets the status of the deliver_sm_resp, for whoever waits for it."""

    @property
    def abandoned(self) -> bool:
        """Nobody waits for it any longer."""
        return self.answer is not None and self.answer.done()


class Carrier(Protocol):
    """What a link asks of the carrier that it belongs to."""

    @property
    def system_id(self) -> str: ...
    def link_opened(self, link: Link) -> None: ...
    def link_bound(self, link: Link) -> None: ...
    def link_closed(self, link: Link) -> None: ...
    def bind_status(self, system_id: str, password: str) -> int: ...
    def pdu_received(self, command_id: int) -> None: ...
    def pdu_handled(self) -> None: ...
    def request(self, link: Link, command_id: int, sequence_number: int, body: bytes) -> bool: ...
    def delivered(self, link: Link, delivery: Delivery, status: int) -> None: ...


class Link(asyncio.Protocol):
    """Answers what concerns the link itself; hands messages to the carrier."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._out: list[bytes] = []
        self._sequence_number = 0
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self.system_id = ""
        self.bound_as = ""
        """"receiver", "transmitter", "transceiver", or "" when not bound."""
        self.outstanding: dict[int, Delivery] = {}
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # The connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; small PDUs must not wait for Nagle's algorithm."""
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._carrier.link_opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the carrier, which finds another link for what was not answered."""
        self._closing = True
        self.bound_as = ""
        self._carrier.link_closed(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self, *, abort: bool = False) -> None:
        """Close after everything is sent, or at once and with a reset."""
        if self._transport is None:
            return
        if abort:
            self._closing = True
            self._transport.abort()
        elif not self._closing:
            self._flush()
            self._closing = True
            self._transport.close()
        self.bound_as = ""

    def abandon(self) -> None:
        """Close, and do not wait for a peer that does not read."""
        assert self._transport is not None
        self.close(abort=self._transport.get_write_buffer_size() > 0)

    def send(self, pdu: bytes) -> None:
        """Write at the end of this turn of the loop, with all else that this turn writes."""
        if self._closing:
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(pdu)

    def _flush(self) -> None:
        if self._out and not self._closing and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    # Requests of the carrier.

    @property
    def receives(self) -> bool:
        """Whether deliver_sm may be sent here (section 2.3)."""
        return self.bound_as in ("receiver", "transceiver") and not self._closing

    @property
    def transmits(self) -> bool:
        """Whether messages may be submitted here (section 2.3)."""
        return self.bound_as in ("transmitter", "transceiver")

    def deliver(self, delivery: Delivery) -> None:
        """Send a deliver_sm; the carrier hears of its answer, or of the link's end."""
        self._sequence_number = self._sequence_number % smpp.SEQUENCE_MAX + 1
        self.outstanding[self._sequence_number] = delivery
        self.send(octets.build(smpp.DELIVER_SM, 0, self._sequence_number, delivery.body))

    # What the ESME sent.

    def data_received(self, data: bytes) -> None:
        """Cut the stream into PDUs and handle each."""
        self._received += data
        start, end = 0, len(self._received)
        while end - start >= octets.HEADER.size and not self._closing:
            length, command_id, status, sequence = octets.HEADER.unpack_from(self._received, start)
            if not octets.HEADER.size <= length <= octets.PDU_OCTETS_MAX:
                self._nack_and_close(sequence)
                break
            if end - start < length:
                break
            body = bytes(self._received[start + octets.HEADER.size : start + length])
            start += length
            self._handle(command_id, status, sequence, body)
        del self._received[:start]

    def _handle(self, command_id: int, status: int, sequence: int, body: bytes) -> None:
        self._carrier.pdu_received(command_id)
        try:
            if command_id in smpp.BINDS:
                self._bind(command_id, sequence, body)
            elif command_id == smpp.ENQUIRE_LINK:
                self.send(octets.build(smpp.ENQUIRE_LINK_RESP, 0, sequence))
            elif command_id == smpp.UNBIND:
                self.send(octets.build(smpp.UNBIND_RESP, 0, sequence))
                self.close()
            elif command_id & smpp.RESP:
                self._answered(command_id, status, sequence)
            elif not self._carrier.request(self, command_id, sequence, body):
                self.send(octets.build(smpp.GENERIC_NACK, smpp.ESME_RINVCMDID, sequence))
        except octets.MalformedPduError:
            self._nack_and_close(sequence)
        self._carrier.pdu_handled()

    def _bind(self, command_id: int, sequence: int, body: bytes) -> None:
        system_id, password = octets.read_bind(body)
        status = self._carrier.bind_status(system_id, password)
        if self.bound_as:
            status = smpp.ESME_RALYBND
        response = command_id | smpp.RESP
        if status:  # a refusal has no body (section 4.1.2)
            self.send(octets.build(response, status, sequence))
            return
        self.system_id = system_id
        self.bound_as = _BIND_NAMES[command_id]
        name = octets.c_octets(self._carrier.system_id)
        version = octets.tlv(smpp.TAG_SC_INTERFACE_VERSION, bytes((smpp.INTERFACE_VERSION,)))
        self.send(octets.build(response, 0, sequence, name + version))
        self._carrier.link_bound(self)

    def _answered(self, command_id: int, status: int, sequence: int) -> None:
        """Match an answer with its deliver_sm; the other answers need nothing done."""
        if command_id not in (smpp.DELIVER_SM_RESP, smpp.GENERIC_NACK):
            return
        delivery = self.outstanding.pop(sequence, None)
        if delivery is not None:
            self._carrier.delivered(self, delivery, status)

    def _nack_and_close(self, sequence: int) -> None:
        """Nothing that follows a wrong length can be trusted (section 4.3)."""
        self.send(octets.build(smpp.GENERIC_NACK, smpp.ESME_RINVCMDLEN, sequence))
        self.close()
