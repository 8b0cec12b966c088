"""A whole proxy in front of modems that say what no modem should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

from support.books import Books, open_books
from support.esme import SUBMIT_SM, submit_body
from support.faults import client_of, settings_for

from proxy.app import Proxy
from proxy.config import ModemSettings, QueueSettings, RetrySettings, RouteSettings
from proxy.links import modem_send

ANSWERS = {
    "AT+CPIN?": "+CPIN: READY",
    "AT+CREG?": "+CREG: 0,1",
    "AT+CIMI": "123456789012345",
    "AT+CSQ": "+CSQ: 20,99",
}
Say = Callable[[bytes], None]
Special = Callable[[str, Say], bool]


class Script(asyncio.Protocol):
    """Answers OK to all; `special` gets each line first, and says whether it has dealt with it."""

    def __init__(self, special: Special) -> None:
        self.special = special
        self.lines: list[str] = []
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def say(self, octets: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(octets)

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).replace(b"\x1a", b"\x1a\r").split(b"\r")
        for octets in lines:
            line = octets.decode().strip("\x1b")
            self.lines.append(line)
            if not line or self.special(line, self.say):
                continue
            if line.startswith("AT+CMGS="):
                self.say(b"\r\n> ")
            elif line.endswith("\x1a"):
                self.say(b"\r\n+CMGS: 9\r\n\r\nOK\r\n")
            else:
                answer = ANSWERS.get(line)
                self.say(f"\r\n{answer}\r\n\r\nOK\r\n".encode() if answer else b"\r\nOK\r\n")


class World:
    """The proxy, what was said to its modem, and the books."""

    def __init__(self, proxy: Proxy, books: Books, scripts: list[Script]) -> None:
        self.proxy = proxy
        self.books = books
        self.scripts = scripts

    @property
    def pdus(self) -> int:
        """How many messages the modem was given."""
        return sum(line.endswith("\x1a") for one in self.scripts for line in one.lines)


@asynccontextmanager
async def world(database_url: str, special: Special, **values: Any) -> AsyncIterator[World]:
    """A proxy whose queued route leads to such a modem."""
    scripts: list[Script] = []

    def factory() -> Script:
        scripts.append(Script(special))
        return scripts[-1]

    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    modem: Any = ModemSettings(**{
        "name": "modem", "device": f"tcp://127.0.0.1:{port}", "reconnect_min_s": 0.05,
        "reconnect_max_s": 0.2, "answer_timeout_s": 1, "command_timeout_s": 0.5, **values,
    })  # fmt: skip
    proxy = Proxy(
        settings_for(
            database_url,
            [modem],
            route=[RouteSettings(name="modem", upstreams=["modem"])],
            queue=QueueSettings(retry_min_s=0.05, retry_max_s=0.2),
            retry=RetrySettings(patience_s=1, delay_s=0.05),
        )
    )
    try:
        await proxy.start()
        async with open_books(database_url) as books:
            await books.add_account()
            yield World(proxy, books, scripts)
    finally:
        await proxy.stop()
        server.close()
        for one in scripts:
            one.transport.abort()


async def submit(w: World, number: int = 1, text: bytes = b"hello") -> None:
    async with client_of(w.proxy) as esme:
        await esme.bind()
        for n in range(number):
            body = submit_body(text, destination=b"4917%05d" % n)
            assert (await esme.request(SUBMIT_SM, body)).status == 0


async def test_a_doubt_is_written_whatever_words_the_modem_gave_for_it(database_url: str) -> None:
    def special(line: str, say: Say) -> bool:
        if line.endswith("\x1a") and not said:
            said.append(line)
            say(b"\r\n+CMS ERROR: 332 \x00\x1b]0;x\x07\r\n")
            return True
        return False

    said: list[str] = []
    async with world(database_url, special) as w:
        await submit(w)
        await w.books.becomes("in_doubt", "SELECT state FROM v_message")
        await w.books.becomes(0, "SELECT count(*)::int FROM queued")


async def test_what_a_modem_calls_itself_does_not_stop_the_report(database_url: str) -> None:
    def special(line: str, say: Say) -> bool:
        if line == "AT+CGMI":
            say(b"\r\nSIM\x00COM\x1b[2J\xff\r\nOK\r\n")
        return line == "AT+CGMI"

    async with world(database_url, special) as w:
        await w.books.becomes("up", "SELECT status->'upstreams'->0->>'state' FROM node_status")
        name = await w.books.fetchval(
            "SELECT status->'upstreams'->0->>'manufacturer' FROM node_status"
        )
        assert name.isprintable()


async def test_an_ok_instead_of_the_prompt_sends_nothing(database_url: str) -> None:
    """A late answer to something else: the modem still waits for the PDU."""

    def special(line: str, say: Say) -> bool:
        if line.startswith("AT+CMGS=") and not said:
            said.append(line)
            say(b"\r\nOK\r\n\r\n> ")
            return True
        return False

    said: list[str] = []
    async with world(database_url, special) as w:
        await submit(w)
        await w.books.becomes("charged", "SELECT state FROM v_message")
        assert w.pdus == 1


async def test_no_rule_sends_again_what_is_half_sent(database_url: str) -> None:
    def special(line: str, say: Say) -> bool:
        if line.endswith("\x1a"):
            said.append(line)
            if len(said) > 1:
                say(b"\r\n+CMS ERROR: 42\r\n")
                return True
        return False

    said: list[str] = []
    rules = {"0x45": "retry", "0x58": "retry"}
    with patch.object(modem_send, "PAUSES_S", [0.01]):
        async with world(database_url, special, on_status=rules) as w:
            await submit(w, text=b"x" * 250)
            await w.books.becomes("released", "SELECT state FROM v_message")
            assert said.count(said[0]) == 1
            await w.books.assert_books_balance()
