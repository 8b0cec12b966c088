"""kill -9 of a proxy whose modem sends, and what the next process finds on the line."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path

import pytest
from support.books import Books, open_books
from support.esme import SUBMIT_SM, submit_body
from support.faults import ProxyProcess
from support.modems import decoded_text, open_line, running_modem
from support.waiting import eventually

from proxy.simulator.modem import ModemOptions, SimulatedModem

MANY = 12


class ModemProcess(ProxyProcess):
    """A proxy with nothing but a modem."""

    def __init__(self, directory: Path, modem: SimulatedModem, url: str) -> None:
        self.config = directory / "proxy.toml"
        self.log = directory / "proxy.log"
        self.port = 0
        self._process = None
        self.config.write_text(
            f"[database]\nurl = {json.dumps(url)}\n[smpp]\nport = 0\n[http]\nenabled = false\n"
            f'[[upstream]]\nkind = "modem"\nname = "modem"\ndevice = "{modem.path}"\n'
            "reconnect_min_s = 0.05\nreconnect_max_s = 0.2\n"
            '[[route]]\nname = "modem"\nupstreams = ["modem"]\n'
            "[queue]\nretry_min_s = 0.05\nretry_max_s = 0.5\n"
        )


async def submit(process: ProxyProcess, number: int) -> None:
    async with process.esme() as esme:
        await esme.bind()
        for n in range(number):
            text = b"x" * (250 if n % 3 == 0 else 20)  # every third has two parts
            body = submit_body(text, destination=b"4917%05d" % n)
            assert (await esme.request(SUBMIT_SM, body)).status == 0


async def drain(books: Books) -> None:
    async def drained() -> bool:
        return bool(await books.fetchval("SELECT count(*) = 0 FROM queued"))

    await eventually(drained, timeout_s=30)


@pytest.mark.timeout(120)
async def test_what_a_killed_proxy_was_sending_is_in_doubt_and_goes_out_once(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        running_modem(ModemOptions(send_delay_s=0.1)) as modem,
        open_books(database_url) as books,
        ModemProcess(tmp_path, modem, database_url) as process,
    ):
        await process.start()
        await books.add_account()
        await submit(process, MANY)
        for kills in (1, 2):
            await eventually(lambda n=kills: len(modem.sent) >= 4 * n)  # type: ignore[misc]
            assert await process.end(signal.SIGKILL) == -signal.SIGKILL
            await process.start()
        await drain(books)
        parts = Counter((s.submit.destination.digits, s.submit.user_data) for s in modem.sent)
        assert max(parts.values()) == 1, "sent twice"
        sent = Counter(destination for destination, _ in parts)
        states = await books.states()
        for n in range(MANY):
            destination = f"4917{n:05d}"
            if states[destination] == "charged":
                assert sent[destination] == (2 if n % 3 == 0 else 1), "lost"
            else:
                assert states[destination] == "in_doubt"
        # One that goes out and one that waits for it, at each of two kills.
        assert Counter(states.values())["in_doubt"] <= 4
        await books.assert_books_balance()


@pytest.mark.timeout(60)
async def test_a_pdu_that_a_killed_process_began_is_given_up(
    database_url: str, tmp_path: Path
) -> None:
    """The modem waits behind a prompt: what comes next must not become a message's text."""
    async with (
        running_modem() as modem,
        open_books(database_url) as books,
        ModemProcess(tmp_path, modem, database_url) as process,
    ):
        async with open_line(modem) as line:
            await line.ask("AT+CMGF=0")
            line.say(b"AT+CMGS=23\r")
            await line.until(rb"\r\n> ")
            line.say(b"0011000C9144770090")
        await process.start()
        await books.add_account()
        await submit(process, 2)
        await drain(books)
        await eventually(lambda: len(modem.sent) == 3)
        assert {decoded_text(s).strip("x") for s in modem.sent} == {""}
        assert await process.end(signal.SIGTERM) == 0
