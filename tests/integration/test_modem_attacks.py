"""Modems that contradict themselves, flood, and fill what holds their messages."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from typing import Any
from unittest.mock import patch

from support.modem_flow import message, rig
from support.waiting import eventually

from proxy.gsm import at
from proxy.gsm.reassembly import Reassembly
from proxy.gsm.tpdu import Deliver, Number
from proxy.links import modem_handover, modem_inbox
from proxy.links.modem_handover import Handover
from proxy.simulator.modem import ModemOptions

TIOCGEXCL = 0x80045440
"""Whether a terminal is exclusive (Linux)."""


def part(number: int, total: int, text: bytes = b"text", reference: int = 23) -> Deliver:
    header = bytes((5, 0, 3, reference, total, number))
    return Deliver(
        Number(1, 1, "447700900999"), 0, 0, 0.0, True, False, False, False, header + text
    )


class Other(asyncio.Protocol):
    """The line of a modem between the proxy and the simulated one: octets may be exchanged."""

    def __init__(self, tcp_port: int, change: Any) -> None:
        self.tcp_port, self.change = tcp_port, change
        self.waiting: list[bytes] = []
        self.modem: asyncio.WriteTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.task = asyncio.ensure_future(self.connect())

    async def connect(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.tcp_port)
        self.modem = writer.transport
        for data in self.waiting:
            writer.write(data)
        while data := await reader.read(4096):
            self.transport.write(self.change(data))
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.modem is None:
            self.waiting.append(data)
        else:
            self.modem.write(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.task.cancel()
        if self.modem is not None:
            self.modem.close()


async def test_a_reference_and_then_an_error_is_a_doubt_and_nothing_is_sent_again() -> None:
    def change(data: bytes) -> bytes:
        if b"+CMGS:" in data and not changed:
            changed.append(data)
            return data.replace(b"OK", b"+CMS ERROR: 500")
        return data

    changed: list[bytes] = []
    async with rig(tcp_port=0) as r:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Other(r.modem.tcp_port, change), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        upstream = await r.started(device=f"tcp://127.0.0.1:{port}")
        upstream.send([message(b"one"), message(b"two")])
        await eventually(lambda: r.flow.statuses == [0])
        assert len(r.flow.doubts) == 1
        assert [bytes(one.submit.user_data) for one in r.modem.sent] == [b"one", b"two"]
        server.close()
        await upstream.stop(0)


async def test_an_ok_too_many_is_not_the_answer_to_a_message() -> None:
    """It moves every answer by one: the modem's prompt comes behind an OK that is old."""
    async with rig() as r:
        upstream = await r.started()
        for text in (b"one", b"two"):
            r.modem.say(b"\r\nOK\r\n")
            upstream.send([message(text)])
        await eventually(lambda: r.flow.statuses == [0, 0])
        assert [bytes(one.submit.user_data) for one in r.modem.sent] == [b"one", b"two"]


async def test_a_flood_ends_the_link() -> None:
    async with rig(tcp_port=0) as r:
        upstream = await r.started(device=f"tcp://127.0.0.1:{r.modem.tcp_port}")
        for _ in range(30):
            r.modem.say(b"\r\nRING" * 10_000)
            await asyncio.sleep(0.005)
        await eventually(lambda: "a flood on the line" in str(r.flow.events))
        await eventually(lambda: upstream.bound)
        upstream.send([message()])
        await eventually(lambda: r.flow.statuses == [0])


async def test_a_storage_full_of_parts_takes_messages_again() -> None:
    async with rig(ModemOptions(storage_slots=4)) as r:
        upstream = await r.started(account="acme")
        for number in range(1, 5):
            r.modem.receive(part(number, 6, b"part %d" % number))
        await eventually(lambda: len(upstream._inbox._held) == 4)
        assert not r.flow.arrivals
        upstream._inbox.look_again(0)
        await eventually(lambda: len(r.flow.arrivals) == 4)
        await eventually(lambda: not upstream._inbox._held)


async def test_parts_with_room_beside_them_wait_for_the_others() -> None:
    async with rig(ModemOptions(storage_slots=5)) as r:
        upstream = await r.started(account="acme")
        for number in range(1, 5):
            r.modem.receive(part(number, 6))
        await eventually(lambda: len(upstream._inbox._held) == 4)
        looks = sum(c.name == "+CMGL" for c in r.modem.commands)
        upstream._inbox.look_again(0)
        await eventually(lambda: sum(c.name == "+CMGL" for c in r.modem.commands) > looks)
        await eventually(lambda: not upstream._inbox._todo)
        assert not r.flow.arrivals


def test_the_oldest_message_is_given_up_first() -> None:
    parts = Reassembly()
    assert parts.oldest() == []
    parts.add(part(1, 3, reference=1), "a", 0.0)
    parts.add(part(1, 3, reference=2), "b", 1.0)
    assert [keys for _, keys in parts.oldest()] == [["a"]]
    assert [keys for _, keys in parts.oldest()] == [["b"]]
    assert len(parts) == 0


async def test_what_waits_for_another_attempt_has_a_limit() -> None:
    attempts: list[int] = []
    nobody: Any = None
    handover = Handover(nobody, 1)
    with patch.object(modem_handover, "_AGAIN_MAX", 3):
        for number in range(5):
            handover.again(0.0, lambda n=number: attempts.append(n))  # type: ignore[misc]
        await eventually(lambda: attempts == [0, 1, 2])
        handover.again(0.0, lambda: attempts.append(9))
        await eventually(lambda: attempts == [0, 1, 2, 9])


async def test_slots_that_a_modem_invents_are_not_all_remembered() -> None:
    async with rig() as r:
        upstream = await r.started(account="acme")
        slot = modem_inbox._Slot("ME", 1, "00")
        with patch.object(modem_inbox, "_HELD_MAX", 2):
            upstream._inbox._held = {("ME", number): slot for number in range(50, 53)}
            reads = sum(c.name == "+CMGR" for c in r.modem.commands)
            upstream._inbox.heard("+CMTI", '+CMTI: "ME",3', None)
            soon = asyncio.get_running_loop().time() + 60
            await eventually(lambda: upstream._inbox._look_at < soon)
            assert sum(c.name == "+CMGR" for c in r.modem.commands) == reads


async def test_a_device_that_is_in_use_is_said_to_be() -> None:
    async with rig() as r:
        await r.started()
        r.upstream(name="second").start()
        await eventually(lambda: "is in use by another program" in str(r.flow.events))


async def test_a_line_is_locked_for_programs_that_look_at_no_lock_file() -> None:
    async with rig() as r:
        await r.started()
        try:
            fd = os.open(r.modem.path, os.O_RDWR | os.O_NOCTTY)
        except OSError as error:
            assert error.errno == errno.EBUSY
            return
        try:  # for root it opens
            assert fcntl.ioctl(fd, TIOCGEXCL, bytes(4)) != bytes(4)
        finally:
            os.close(fd)


def test_no_control_character_comes_out_of_a_line() -> None:
    lines = at.LineReader().feed(
        b"\r\nSIM\x00COM\x1b[2J\x9b\xe4\r\n+CMS ERROR: 332 \x00\r\n0A\x1a\r\n"
    )
    assert lines == ["SIM?COM?[2J?\xe4", "+CMS ERROR: 332", "0A\x1a"]
    result = at.final_result(str(at.LineReader().feed(b"+CME ERROR: 3 \x00!\r\n")[0]))
    assert result is not None and result.text == "+CME ERROR: 3 ?!"
