"""A simulated modem, programs that are not ours in front of it, and a decoder that is not ours."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from smspdudecoder.fields import SMSSubmit
from support.waiting import eventually

from proxy.gsm.tpdu import Deliver, Number
from proxy.simulator.modem import ModemOptions, SentMessage, SimulatedModem

PROGRAM_TIMEOUT_S = 30


def require_program(name: str, package: str) -> str:
    """Where a program is; without it the test is skipped, and fails in CI."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    found = shutil.which(name, path=path)
    if found:
        return found
    missing = f"{name} is missing: install the Debian package {package}"
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@asynccontextmanager
async def running_modem(
    options: ModemOptions | None = None, *, tcp_port: int | None = None, link: Path | None = None
) -> AsyncIterator[SimulatedModem]:
    """A modem that is gone at the end; what was said to it is shown when the test fails."""
    modem = SimulatedModem(options)
    dialogue: list[str] = []
    modem.on_traffic = lambda direction, octets: dialogue.append(f"{direction} {octets!r}")
    await modem.start(tcp_port, link)
    try:
        yield modem
    except BaseException:
        print("\n".join(dialogue[-500:]))  # pytest shows it
        raise
    finally:
        await modem.stop()


async def run_program(*arguments: str, stdin: bytes = b"", status: int = 0) -> str:
    """Run a program to its end, with that exit status, and return what it says."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
    )
    try:
        async with asyncio.timeout(PROGRAM_TIMEOUT_S):
            said, _ = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = said.decode(errors="replace")
    assert process.returncode == status, text
    return text


def arriving(text: bytes, source: str = "447700900777", **fields: Any) -> Deliver:
    """A message from a phone, in the default alphabet unless `data_coding` says another."""
    deliver = Deliver(
        source=Number(1, 1, source),
        protocol_id=0,
        data_coding=0,
        sent_at_s=time.time(),
        udhi=False,
        more_to_send=False,
        report_wanted=False,
        reply_path=False,
        user_data=text,
    )
    return deliver._replace(**fields)


def decoded(message: SentMessage) -> dict[str, Any]:
    """The SMS-SUBMIT as smspdudecoder reads it; "00" stands for the SC address."""
    fields: dict[str, Any] = SMSSubmit.decode(StringIO("00" + message.tpdu.hex()))
    return fields


def decoded_text(message: SentMessage) -> str:
    """Its text, as smspdudecoder reads it."""
    text: str = decoded(message)["user_data"]["data"]
    return text


def part_of(message: SentMessage) -> tuple[int, int, int]:
    """Reference, total and number of a part, as smspdudecoder reads them."""
    [element] = decoded(message)["user_data"]["header"]["elements"]
    data = element["data"]
    return data["reference"], data["parts_count"], data["part_number"]


class Line:
    """The other end of a pty, for saying and seeing octets."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.seen = bytearray()
        """What came and was not waited for yet."""
        self.hung_up = False
        self.resume()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()
        os.close(self._fd)

    def pause(self) -> None:
        """Read nothing any more."""
        asyncio.get_running_loop().remove_reader(self._fd)

    def resume(self) -> None:
        """Read again."""
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.hung_up = True
            self.pause()
        self.seen += data

    def say(self, octets: bytes) -> None:
        """Write them all at once."""
        assert os.write(self._fd, octets) == len(octets)

    async def until(self, pattern: bytes) -> bytes:
        """What came up to the end of the first match of a regular expression."""
        await eventually(lambda: re.search(pattern, self.seen) is not None, what=f"{self.seen!r}")
        match = re.search(pattern, self.seen)
        assert match is not None
        seen = bytes(self.seen[: match.end()])
        del self.seen[: match.end()]
        return seen

    async def ask(self, command: str, *, data: str | None = None) -> list[str]:
        """Say a command, perhaps with data for its prompt; the lines of its answer."""
        self.say(command.encode("latin-1") + b"\r")
        if data is not None:
            await self.until(rb"\r\n> ")
            self.say(data.encode("latin-1") + b"\x1a")
        seen = await self.until(rb"\r\n(OK|ERROR|\+CM[ES] ERROR: [^\r]*)\r\n")
        return [line for line in seen.decode("latin-1").split("\r\n") if line.strip()]

    async def send(self, tpdu: bytes) -> list[str]:
        """AT+CMGS in PDU mode, by way of the SIM's service centre."""
        return await self.ask(f"AT+CMGS={len(tpdu)}", data="00" + tpdu.hex().upper())


@asynccontextmanager
async def open_line(modem: SimulatedModem) -> AsyncIterator[Line]:
    """A program that has the modem's pty open, and has switched its echo off."""
    with Line(modem.path) as line:
        await line.ask("ATE0")
        yield line
