"""smstools' smsd, as Debian has it, with the simulated modem: proves the simulator."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.modems import arriving, decoded, decoded_text, part_of, require_program, running_modem
from support.waiting import eventually

from proxy.simulator.modem import ModemOptions

pytestmark = pytest.mark.timeout(60)

LONG = "".join(f"{number:05d}" for number in range(80))  # 400 septets: 3 parts
FOLDERS = [
    "outgoing",
    "checked",
    "incoming",
    "report",
    "sent",
    "failed",
    "saved",
    "phonecalls",
    "stats",
]
CONFIG = """\
devices = GSM1
{folders}
infofile = {home}/info
pidfile = {home}/pid
logfile = {home}/log
loglevel = 7
delaytime = 1
errorsleeptime = 1
receive_before_send = no
autosplit = 3
decode_unicode_text = yes
incoming_utf8 = yes

[GSM1]
device = {device}
pin = 4711
init = AT+CNMI=2,0,0,2,1
baudrate = 115200
incoming = yes
outgoing = yes
report = yes
cs_convert = yes
"""


@asynccontextmanager
async def running_smsd(home: Path, device: str) -> AsyncIterator[None]:
    """smsd with its folders in `home`; it is gone at the end in any case."""
    program = require_program("smsd", "smstools")
    for folder in FOLDERS:
        (home / folder).mkdir()
    folders = "\n".join(f"{folder} = {home}/{folder}" for folder in FOLDERS)
    config = home / "smsd.conf"
    config.write_text(CONFIG.format(home=home, folders=folders, device=device))
    process = start(program, "-t", "-c", str(config))
    try:
        yield
    except BaseException:
        log = home / "log"
        print(log.read_text(errors="replace")[-20_000:] if log.exists() else "no log")
        raise
    finally:
        await asyncio.to_thread(stop, process)


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """Without a terminal, and away from the signals of this one."""
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Politely, then for certain; its children end with it."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def files(folder: Path) -> list[str]:
    """What is in the files of a folder; those that it still writes come and go."""
    texts = []
    for path in sorted(folder.iterdir()):
        if path.suffix != ".LOCK":
            with contextlib.suppress(FileNotFoundError):
                texts.append(path.read_text(errors="replace"))
    return texts


def put(home: Path, name: str, text: str) -> None:
    """Give it a message to send, in one step."""
    beside = home / f"{name}.LOCK"
    beside.write_text(text)
    beside.rename(home / "outgoing" / name)


async def test_it_sends_receives_and_reports(tmp_path: Path) -> None:
    async with running_modem(ModemOptions(pin="4711", report_delay_s=0.05)) as modem:
        modem.receive(arriving(b"Hello from afar"))
        async with running_smsd(tmp_path, modem.path):
            put(tmp_path, "short", "To: 447700900123\nReport: yes\n\nhello [you]")
            put(tmp_path, "long", f"To: 447700900124\n\n{LONG}")
            unicode = "To: 447700900125\nAlphabet: UTF-8\n\nŽluťoučký kůň"
            put(tmp_path, "unicode", unicode)
            await eventually(lambda: len(files(tmp_path / "sent")) == 3, timeout_s=20)
            await eventually(lambda: len(files(tmp_path / "report")) == 5, timeout_s=20)
            await eventually(lambda: len(files(tmp_path / "incoming")) == 1, timeout_s=20)
            # It deletes what it has read, and writes a file before that.
            await eventually(lambda: modem.storages["SM"].messages == {}, timeout_s=20)
        assert files(tmp_path / "failed") == []
        to = {n: [m for m in modem.sent if m.submit.destination.digits[-1] == n] for n in "345"}
        [short] = to["3"]
        assert decoded_text(short) == "hello [you]"
        assert decoded(short)["header"]["srr"] is True
        assert [part_of(part)[1:] for part in to["4"]] == [(3, 1), (3, 2), (3, 3)]
        assert "".join(map(decoded_text, to["4"])) == LONG
        assert [decoded_text(message) for message in to["5"]] == ["Žluťoučký kůň"]
        reports = files(tmp_path / "report")  # it asks for one of each part
        assert all("Status: 0,Ok" in report for report in reports)
        assert {f"Message_id: {n}" for n in range(5)} == {
            line for report in reports for line in report.splitlines() if "Message_id" in line
        }
        [incoming] = files(tmp_path / "incoming")
        assert "From: 447700900777\n" in incoming
        assert incoming.endswith("\nHello from afar")
        assert modem.sim.state == "READY"
