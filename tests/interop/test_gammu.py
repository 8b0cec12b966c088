"""gammu, as Debian has it, with the simulated modem: proves the simulator, not the proxy."""

from __future__ import annotations

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

from proxy.gsm.tpdu import kind_of, split_smsc
from proxy.simulator.modem_storage import STO_SENT

pytestmark = pytest.mark.timeout(60)

NUMBER = "+447700900123"
LONG = "".join(f"{number:05d}" for number in range(80))  # 400 septets: 3 parts
CONFIG = """\
[gammu]
device = {device}
connection = at115200
model = at
use_locking = no
synchronizetime = no
startinfo = no
"""


async def batch(directory: Path, device: str, *commands: str) -> str:
    """Let one gammu do several things: it takes seconds to get acquainted with a modem."""
    gammu = require_program("gammu", "gammu")
    config, lines = directory / "gammurc", directory / "batch"
    config.write_text(CONFIG.format(device=device))
    lines.write_text("".join(f"{command}\n" for command in commands))
    return await run_program(gammu, "-c", str(config), "batch", str(lines))


async def test_it_sends_stores_reads_deletes_and_gets_a_status_report(tmp_path: Path) -> None:
    async with running_modem() as modem:
        modem.receive(arriving(b"Hello from afar"))
        modem.receive(arriving("Příliš 😀".encode("utf-16-be"), data_coding=8))
        said = await batch(
            tmp_path,
            modem.path,
            f'sendsms TEXT {NUMBER} -report -flash -text "hello [you]"',
            f'sendsms TEXT {NUMBER} -len 400 -text "{LONG}"',
            f'sendsms TEXT {NUMBER} -unicode -text "Žluťoučký kůň 😀"',
            "savesms TEXT -folder 2 -text kept",
            "getallsms",
            "deletesms 1 1",
            "networkinfo",
            "monitor 1",
        )
        assert [f"reference={n}" in said for n in range(5)] == [True] * 5, said
        flash, *parts, unicode = modem.sent
        assert decoded_text(flash) == "hello [you]"
        assert decoded(flash)["recipient"]["number"] == NUMBER.removeprefix("+")
        assert decoded(flash)["header"]["srr"] is True
        assert flash.submit.report and flash.submit.data_coding == 0xF0
        assert flash.submit.destination == (1, 1, NUMBER.removeprefix("+"))
        assert flash.smsc == modem.options.smsc, "it asked for it with AT+CSCA?"
        assert len({part_of(part)[0] for part in parts}) == 1
        assert [part_of(part)[1:] for part in parts] == [(3, 1), (3, 2), (3, 3)]
        assert "".join(map(decoded_text, parts)) == LONG
        assert decoded_text(unicode) == "Žluťoučký kůň 😀"
        assert not unicode.submit.report

        assert 'SMSC number          : "+447785016005"' in said
        assert 'Remote number        : "+447700900777"' in said
        assert "\nHello from afar\n" in said
        assert "\nPříliš 😀\n" in said
        assert "3 SMS parts in 3 SMS sequences" in said
        assert 'Name in phone        : "Simulated network"' in said
        assert "SMS status report" in said
        assert "Delivery status      : Delivered" in said
        assert "Signal strength      : -73 dBm" in said
        stored = modem.storages["SM"].messages
        assert kind_of(split_smsc(stored[1].octets)[1]) == "status_report", "in the free slot"
        assert stored[3].status == STO_SENT
