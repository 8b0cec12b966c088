"""A bare SMPP client for tests: it sends exactly the octets it is told to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from struct import pack, unpack
from types import TracebackType
from typing import NamedTuple

SUBMIT_SM, DELIVER_SM, DATA_SM, SUBMIT_MULTI = 0x04, 0x05, 0x103, 0x21
QUERY_SM, CANCEL_SM, REPLACE_SM = 0x03, 0x08, 0x07
BIND_RX, BIND_TX, BIND_TRX, UNBIND, ENQUIRE_LINK = 0x01, 0x02, 0x09, 0x06, 0x15
RESP = 0x80000000


class Received(NamedTuple):
    """One PDU."""

    command_id: int
    status: int
    sequence_number: int
    body: bytes


def pdu(command_id: int, sequence_number: int, body: bytes = b"", status: int = 0) -> bytes:
    """The octets of a PDU."""
    return pack(">IIII", 16 + len(body), command_id, status, sequence_number) + body


def bind_body(system_id: str, password: str, version: int = 0x34) -> bytes:
    """The body of any of the three binds."""
    return b"%b\0%b\0\0%c\0\0\0" % (system_id.encode(), password.encode(), version)


def submit_body(
    text: bytes = b"hello",
    *,
    source: bytes = b"12345",
    destination: bytes = b"447700900123",
    esm_class: int = 0,
    registered_delivery: int = 0,
    data_coding: int = 0,
    tlvs: bytes = b"",
    tons: bytes = b"\1\1\1\1",
) -> bytes:
    """The body of a submit_sm."""
    return (
        b"\0"
        + tons[:2]
        + source
        + b"\0"
        + tons[2:]
        + destination
        + b"\0"
        + bytes((esm_class, 0, 0))
        + b"\0\0"
        + bytes((registered_delivery, 0, data_coding, 0))
        + bytes((len(text),))
        + text
        + tlvs
    )


class Esme:
    """A client connection.  Deliveries are answered with `deliver_status` (None: not at all)."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._sequence = 0
        self.received: deque[Received] = deque()
        self.deliveries: list[Received] = []
        self.deliver_status: int | None = 0
        self.closed = False
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Esme:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reading.cancel()
        self._writer.close()

    async def _read(self) -> None:
        try:
            while True:
                header = await self._reader.readexactly(16)
                length, command_id, status, sequence_number = unpack(">IIII", header)
                body = await self._reader.readexactly(length - 16)
                one = Received(command_id, status, sequence_number, body)
                if command_id in (DELIVER_SM, DATA_SM):
                    self.deliveries.append(one)
                    if self.deliver_status is not None:
                        self.answer(one, self.deliver_status)
                elif command_id == ENQUIRE_LINK:
                    self.write(pdu(ENQUIRE_LINK | RESP, sequence_number))
                else:
                    self.received.append(one)
                self._changed.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed = True
            self._changed.set()

    def answer(self, request: Received, status: int = 0) -> None:
        """Respond to a delivery."""
        self.write(pdu(request.command_id | RESP, request.sequence_number, b"\0", status))

    def write(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._writer.write(octets)

    async def drain(self) -> None:
        """Wait until the socket has taken what was written."""
        await self._writer.drain()

    def next_sequence(self) -> int:
        """The next sequence_number."""
        self._sequence += 1
        return self._sequence

    def send(self, command_id: int, body: bytes = b"") -> int:
        """Send a request without waiting; returns its sequence_number."""
        sequence_number = self.next_sequence()
        self.write(pdu(command_id, sequence_number, body))
        return sequence_number

    async def wait(self, done: Callable[[], bool], timeout_s: float = 10) -> None:
        """Returns when `done()`; woken by each PDU and by the end of the connection."""
        async with asyncio.timeout(timeout_s):
            while not done():
                self._changed.clear()
                await self._changed.wait()

    async def response(self, sequence_number: int, timeout_s: float = 10) -> Received:
        """The response to a request."""

        def arrived() -> bool:
            return self.closed or any(r.sequence_number == sequence_number for r in self.received)

        await self.wait(arrived, timeout_s)
        for one in list(self.received):
            if one.sequence_number == sequence_number:
                self.received.remove(one)
                return one
        raise ConnectionError("closed without a response")

    async def request(self, command_id: int, body: bytes = b"", timeout_s: float = 10) -> Received:
        """Send a request and wait for its response."""
        return await self.response(self.send(command_id, body), timeout_s)

    async def bind(
        self,
        system_id: str = "demo",
        password: str = "demo",
        command_id: int = BIND_TRX,
        version: int = 0x34,
    ) -> Received:
        """Bind; returns the response, whatever its status."""
        return await self.request(command_id, bind_body(system_id, password, version))

    async def submit(self, text: bytes = b"hello", **fields: object) -> Received:
        """Send one submit_sm and wait for its response."""
        return await self.request(SUBMIT_SM, submit_body(text, **fields))  # type: ignore[arg-type]


def message_id(response: Received) -> int:
    """Our message id in a submit_sm_resp."""
    return int(response.body.split(b"\0")[0])
