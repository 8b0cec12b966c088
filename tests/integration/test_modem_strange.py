"""Modems that are stranger than the simulated one: a script on a TCP port plays them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import pytest
from support.modem_flow import Rig, message, rig
from support.waiting import eventually

from proxy.links import modem_port
from proxy.links.modem_upstream import ModemUpstream

ANSWERS = {
    "AT+CPIN?": "+CPIN: READY",
    "AT+CREG?": "+CREG: 0,1",
    "AT+CIMI": "123456789012345",
    "AT+CSQ": "+CSQ: 20,99",
}
Say = Callable[[str], None]


class Script(asyncio.Protocol):
    """Answers OK to all; `special` gets each line first, and says whether it has dealt with it."""

    def __init__(self, special: Callable[[str, Say], bool], made: list[Script]) -> None:
        self.special = special
        self.made = made
        self.lines: list[str] = []
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.made.append(self)

    def say(self, text: str) -> None:
        if not self.transport.is_closing():
            self.transport.write(text.encode("latin-1"))

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).replace(b"\x1a", b"\x1a\r").split(b"\r")
        for octets in lines:
            line = octets.decode().strip("\x1b")
            self.lines.append(line)
            if not line or self.special(line, self.say):
                continue
            if line.startswith("AT+CMGS="):
                self.say("\r\n> ")
            elif line.endswith("\x1a"):
                self.say("\r\n+CMGS: 9\r\n\r\nOK\r\n")
            else:
                answer = ANSWERS.get(line)
                self.say(f"\r\n{answer}\r\n\r\nOK\r\n" if answer else "\r\nOK\r\n")


@asynccontextmanager
async def script(
    r: Rig, special: Callable[[str, Say], bool], **values: Any
) -> AsyncIterator[tuple[ModemUpstream, list[Script]]]:
    made: list[Script] = []

    server = await asyncio.get_running_loop().create_server(
        lambda: Script(special, made), "127.0.0.1", 0
    )
    try:
        port = server.sockets[0].getsockname()[1]
        upstream = r.upstream(device=f"tcp://127.0.0.1:{port}", **values)
        upstream.start()
        yield upstream, made
    finally:
        server.close()
        for one in made:
            one.transport.abort()


def pdus(scripts: list[Script]) -> int:
    return sum(line.endswith("\x1a") for one in scripts for line in one.lines)


async def test_a_reference_without_an_ok_is_an_answer() -> None:
    def special(line: str, say: Say) -> bool:
        if line.endswith("\x1a"):
            say("\r\n+CMGS: 77\r\n")
        return line.endswith("\x1a")

    async with rig() as r, script(r, special) as (upstream, _):
        await eventually(lambda: upstream.bound)
        upstream.send([message()])
        await eventually(lambda: r.flow.ids == ["77-447700900123"])
        assert not r.flow.doubts


async def test_an_ok_without_a_reference_is_taken_and_has_no_id() -> None:
    def special(line: str, say: Say) -> bool:
        if line.endswith("\x1a"):
            say("\r\nOK\r\n")
        return line.endswith("\x1a")

    async with rig() as r, script(r, special) as (upstream, _):
        await eventually(lambda: upstream.bound)
        upstream.send([message(registered_delivery=1)])
        await eventually(lambda: r.flow.ids == [""])
        assert upstream.response_key("") is None


async def test_a_call_that_ends_behind_a_pdu_is_no_refusal() -> None:
    def special(line: str, say: Say) -> bool:
        if line.endswith("\x1a"):
            say("\r\nRING\r\n\r\nNO CARRIER\r\n")
        return False

    async with rig() as r, script(r, special) as (upstream, _):
        await eventually(lambda: upstream.bound)
        upstream.send([message()])
        await eventually(lambda: r.flow.statuses == [0])


async def test_nonsense_behind_a_pdu_is_a_doubt() -> None:
    def special(line: str, say: Say) -> bool:
        if line.endswith("\x1a"):
            say("\r\n+CMSG 77\r\nKO\r\n> ")
        return line.endswith("\x1a")

    async with rig() as r, script(r, special) as (upstream, made):
        await eventually(lambda: upstream.bound)
        upstream.send([message()])
        await eventually(lambda: len(r.flow.doubts) == 1)
        await eventually(lambda: len(made) > 1 and upstream.bound)
        assert pdus(made) == 1


@pytest.mark.parametrize("refusal", ["ERROR", "+CMS ERROR: 302", "+CME ERROR: 3"])
async def test_a_refusal_instead_of_the_prompt_writes_no_pdu(refusal: str) -> None:
    def special(line: str, say: Say) -> bool:
        if line.startswith("AT+CMGS="):
            say(f"\r\n{refusal}\r\n")
        return line.startswith("AT+CMGS=")

    async with rig() as r, script(r, special) as (upstream, made):
        await eventually(lambda: upstream.bound)
        upstream.send([message()])
        await eventually(lambda: len(r.flow.answers) == 1)
        assert r.flow.statuses != [0]
        assert pdus(made) == 0
        assert r.usage.hours == {}


async def test_a_modem_in_text_mode_gets_no_pdu() -> None:
    """It would take "23" for a number, and the PDU for a text."""

    def special(line: str, say: Say) -> bool:
        if line == "AT+CMGF=0" and switched:
            say("\r\nERROR\r\n")
            return True
        return False

    switched: list[int] = []
    async with rig() as r, script(r, special) as (upstream, made):
        await eventually(lambda: upstream.bound)
        switched.append(1)
        upstream.send([message()])
        await eventually(lambda: "upstream_lost" in r.flow.kinds())
        assert pdus(made) == 0
        switched.clear()
        await eventually(lambda: r.flow.statuses == [0])


async def test_a_modem_that_echoes_whatever_it_is_told() -> None:
    def special(line: str, say: Say) -> bool:
        say(line + "\r")
        return False

    async with rig() as r, script(r, special) as (upstream, made):
        await eventually(lambda: upstream.bound)
        upstream.send([message(), message()])
        await eventually(lambda: r.flow.statuses == [0, 0])
        assert len(made) == 1


async def test_an_endless_answer_ends_the_link() -> None:
    def special(line: str, say: Say) -> bool:
        if line == "AT+CSQ":
            say("+CSQ: 1,1\r\n" * 6000)
        return line == "AT+CSQ"

    async with rig() as r, script(r, special) as (upstream, made):
        await eventually(lambda: len(made) >= 2)
        assert not upstream.bound
        assert "endless answer" in str(r.flow.events)


async def test_one_line_without_an_end() -> None:
    def special(line: str, say: Say) -> bool:
        if line == "AT+CSQ":
            say("0" * 100_000)
        return line == "AT+CSQ"

    async with rig() as r, script(r, special) as (upstream, made):
        await eventually(lambda: len(made) >= 2)
        assert not upstream.bound


async def test_a_storm_of_unsolicited_codes_leaves_room_for_messages() -> None:
    codes = [
        '+CMTI: "ME",5', "+CREG: 1", '+CUSD: 0,"x",15', "+CDS: 3", "0006", "+CMT: ,3", "zz",
        '+CMTI: "a;x",5', "+CMT: ,3", "00FF", "+CDSI:",
    ]  # fmt: skip
    storm = "".join(code + "\r\n" for code in codes)

    def special(line: str, say: Say) -> bool:
        if line in ("AT+CSQ", "AT+CMGR=5") and len(said) < 20:
            said.append(line)
            say("\r\n" + storm * 20)
        return False

    said: list[str] = []
    async with rig() as r, script(r, special) as (upstream, made):
        await eventually(lambda: upstream.bound)
        upstream.send([message(b"%d" % i) for i in range(3)])
        await eventually(lambda: r.flow.statuses == [0, 0, 0])
        assert len(made) == 1


async def test_of_several_ports_the_one_that_is_a_modem() -> None:
    def diagnostics(line: str, say: Say) -> bool:
        if line == "AT+CMGF=0":
            say("\r\nERROR\r\n")
        return line == "AT+CMGF=0"

    async with rig(tcp_port=0) as r, script(r, diagnostics) as (first, made):
        await first.stop(0)
        addresses = [first.settings.device, f"tcp://127.0.0.1:{r.modem.tcp_port}"]
        with patch.object(modem_port, "_usb_ports", lambda _device: addresses):
            upstream = await r.started(device="usb:12d1:1506")
        assert upstream.status()["model"] == "Simulated modem"
        assert made


async def test_a_late_echo_is_no_harm() -> None:
    async with rig() as r:
        r.modem.late_echo = True
        upstream = await r.started()
        upstream.send([message()])
        await eventually(lambda: r.flow.statuses == [0])
        assert upstream.status()["manufacturer"] == "smpp-proxy"


async def test_silence_about_a_pin_counts_as_its_only_try_and_nobody_reads_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def special(line: str, say: Say) -> bool:
        if line == "AT+CPIN?":
            say("\r\n+CPIN: SIM PIN\r\n\r\nOK\r\n")
        return line == "AT+CPIN?" or line.startswith("AT+CPIN=")

    async with rig() as r, script(r, special, pin="8642") as (_, made):
        await eventually(lambda: any('AT+CPIN="8642"' in one.lines for one in made))
        await eventually(lambda: "modem_pin_refused" in r.flow.kinds())
        looked = len(made)
        await eventually(lambda: len(made) >= looked + 2)
        tries = [line for one in made for line in one.lines if line.startswith("AT+CPIN=")]
        assert len(tries) == 1
        assert r.usage.pin is not None
        assert "8642" not in str(r.flow.events)
    assert "8642" not in "".join(capsys.readouterr())
