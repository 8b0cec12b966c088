"""gnokii, as Debian has it, with the simulated modem: proves the simulator, not the proxy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from support.modems import (
    arriving,
    decoded,
    decoded_text,
    part_of,
    require_program,
    run_program,
    running_modem,
)

from proxy.simulator.modem import ModemOptions

pytestmark = pytest.mark.timeout(60)

NUMBER = "+447700900123"
LONG = "".join(f"{number:05d}" for number in range(80))  # 400 septets: 3 parts
CONFIG = """\
[global]
model = AT
port = {device}
connection = serial
serial_baudrate = 115200
use_locking = no
smsc_timeout = 10
[logging]
debug = off
rlpdebug = off
xdebug = off
"""


async def gnokii(directory: Path, device: str, *arguments: str, stdin: str = "") -> str:
    """Run it once."""
    program = require_program("gnokii", "gnokii-cli")
    config = directory / "gnokiirc"
    config.write_text(CONFIG.format(device=device))
    return await run_program(program, "--config", str(config), *arguments, stdin=stdin.encode())


async def test_it_identifies_the_modem_by_its_link(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="m-") as short:  # it cuts longer paths off
        link = Path(short) / "modem"
        async with running_modem(link=link) as modem:
            said = await gnokii(tmp_path, str(link), "--identify")
            assert f"IMEI         : {modem.options.imei}" in said
            assert f"Manufacturer : {modem.options.manufacturer}" in said
        assert not link.is_symlink(), "the link stays when the modem is gone"


async def test_it_sends_short_long_binary_and_unicode_texts(tmp_path: Path) -> None:
    async with running_modem() as modem:
        send = ("--sendsms", NUMBER)
        said = await gnokii(tmp_path, modem.path, *send, "-r", stdin="hello [you]\n")
        assert "Send succeeded with reference 0!" in said
        said = await gnokii(tmp_path, modem.path, *send, stdin=LONG)
        assert "Message sent in 3 parts" in said
        await gnokii(tmp_path, modem.path, *send, stdin="Žluťoučký kůň")
        await gnokii(tmp_path, modem.path, *send, "-8", "-C", "1", stdin="binary")
        short, *parts, unicode, binary = modem.sent
        assert decoded_text(short).rstrip() == "hello [you]"
        assert decoded(short)["header"]["srr"] is True
        assert [part_of(part)[1:] for part in parts] == [(3, 1), (3, 2), (3, 3)]
        assert "".join(map(decoded_text, parts)) == LONG
        assert decoded_text(unicode) == "Žluťoučký kůň"
        assert binary.submit.data_coding & 0x04
        assert binary.submit.user_data == b"binary"


async def test_it_says_why_the_network_refuses(tmp_path: Path) -> None:
    async with running_modem() as modem:
        modem.refuse_with = lambda submit: 38 if submit.destination.digits.endswith("9") else None
        program = gnokii(tmp_path, modem.path, "--sendsms", NUMBER + "9", stdin="no")
        with pytest.raises(AssertionError, match="SMS Send failed"):
            await program
        assert modem.sent == []
        await gnokii(tmp_path, modem.path, "--sendsms", NUMBER, stdin="yes")
        assert [decoded_text(message) for message in modem.sent] == ["yes"]


async def test_it_reads_and_deletes(tmp_path: Path) -> None:
    async with running_modem() as modem:
        modem.receive(arriving(b"Hello from afar"))
        modem.receive(arriving("Příliš".encode("utf-16-be"), data_coding=8))
        said = await gnokii(tmp_path, modem.path, "--getsms", "SM", "1", "2", "-d")
        assert "Sender: +447700900777 Msg Center: +447785016005" in said
        assert "Hello from afar" in said
        assert "Příliš" in said
        assert modem.storages["SM"].messages == {}


async def test_it_unlocks_the_sim(tmp_path: Path) -> None:
    async with running_modem(ModemOptions(pin="4711")) as modem:
        status = await gnokii(tmp_path, modem.path, "--getsecuritycodestatus")
        assert "waiting for PIN" in status
        await gnokii(tmp_path, modem.path, "--entersecuritycode", "PIN", stdin="4711\n")
        assert modem.sim.state == "READY"
