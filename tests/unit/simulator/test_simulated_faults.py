"""The line and the faults of the simulated modem: hanging up, hanging, resets, pulling it out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import uvloop
from support.modems import Line, arriving, open_line, run_program, running_modem
from support.ports import free_ports
from support.waiting import eventually

from proxy.gsm.tpdu import Number, Submit, encode_submit
from proxy.simulator.modem import ModemOptions, SimulatedModem

pytestmark = pytest.mark.timeout(30)

SUBMIT = Submit(0, Number(1, 1, "447700900123"), 0, 0, None, False, False, False, False, b"hello")
TPDU = encode_submit(SUBMIT)
QUICK = ModemOptions(report_delay_s=0.0, boot_s=0.0)


# The line.


async def test_programs_come_and_go() -> None:
    async with running_modem() as modem:
        for _ in range(3):
            with Line(modem.path) as line:
                assert (await line.ask("AT+CGSN"))[-2:] == [modem.options.imei, "OK"]
                assert modem.attended
            await eventually(lambda: not modem.attended)


async def test_what_one_program_did_not_read_is_not_for_the_next() -> None:
    async with running_modem() as modem:
        with Line(modem.path) as line:
            await line.ask("AT+CNMI=2,1")
        modem.receive(arriving(b"nobody is told"))
        await eventually(lambda: not modem.attended)
        modem.receive(arriving(b"nobody is told of this either"))
        with Line(modem.path) as line:
            assert (await line.ask("AT"))[-1] == "OK"
            assert b"CMTI" not in line.seen


async def test_an_answer_that_was_not_read_is_gone() -> None:
    async with running_modem() as modem:
        said = bytearray()
        modem.on_traffic = lambda direction, octets: said.extend(octets * (direction == ">"))
        with Line(modem.path) as line:
            line.pause()
            line.say(b"ATE0;+CGMI\r")
            await eventually(lambda: said.endswith(b"OK\r\n"))
        await eventually(lambda: not modem.attended)
        with Line(modem.path) as line:
            assert await line.ask("AT") == ["OK"]


async def test_two_programs_at_once_are_one_line() -> None:
    async with running_modem(tcp_port=0) as modem, open_line(modem) as line:
        reader, writer = await asyncio.open_connection("127.0.0.1", modem.tcp_port)
        writer.write(b"AT+CGSN\r")
        answer = await reader.readuntil(b"\r\nOK\r\n")
        assert answer == b"\r\n%s\r\n\r\nOK\r\n" % modem.options.imei.encode()
        assert await line.until(rb"\r\nOK\r\n") == answer, "ATE0 was said on the other end"
        again, _writer = await asyncio.open_connection("127.0.0.1", modem.tcp_port)
        assert await reader.read() == b"", "a new connection takes over"
        _writer.write(b"AT\r")
        assert await again.readuntil(b"OK\r\n") == b"\r\nOK\r\n"
        writer.close()
        _writer.close()


async def test_a_slow_reader_gets_everything_up_to_a_limit() -> None:
    async with running_modem(ModemOptions(storage_slots=100)) as modem, open_line(modem) as line:
        for _ in range(100):
            modem.receive(arriving(b"x" * 160))
        line.pause()
        for _ in range(20):  # 35,000 octets each
            modem.hear(b"AT+CMGL=4\r")
        line.resume()
        listed = await line.until(rb"\r\nOK\r\n")
        assert listed.count(b"+CMGL: ") == 100
        # What did not fit was lost, the line itself was not.
        await eventually(lambda: len(line.seen) > 20_000)
        line.seen.clear()
        await line.ask("AT+CMGD=1,4")
        assert await line.ask("AT+CMGL=4") == ["OK"]


async def test_the_pty_works_in_uvloop_too() -> None:
    async def story() -> None:
        modem = SimulatedModem(QUICK)
        await modem.start()
        for _ in range(2):
            async with open_line(modem) as line:
                assert await line.send(TPDU) == [f"+CMGS: {len(modem.sent) - 1}", "OK"]
            await eventually(lambda: not modem.attended)
        await modem.stop()

    await asyncio.to_thread(lambda: uvloop.run(story()))


async def test_the_link_is_only_ever_ours(tmp_path: Path) -> None:
    link = tmp_path / "modem"
    link.write_text("somebody's")
    with pytest.raises(FileExistsError):
        await SimulatedModem().start(link=link)
    link.unlink()
    link.symlink_to("/nowhere")
    async with running_modem(link=link) as modem:
        assert os.readlink(link) == modem.path
        link.unlink()
        link.symlink_to("/elsewhere")
    assert os.readlink(link) == "/elsewhere"


# Faults.


async def test_it_hangs_and_comes_back() -> None:
    async with running_modem(QUICK) as modem, open_line(modem) as line:
        heard = bytearray()
        modem.on_traffic = lambda direction, octets: heard.extend(direction.encode() + octets)
        modem.hang()
        modem.receive(arriving(b"waits in the network"))
        assert len(modem.network.waiting) == 1
        line.say(b"ATE1\r")
        await eventually(lambda: heard == b"<ATE1\r")
        assert line.seen == b""
        modem.resume()
        assert len(modem.network.waiting) == 0
        answer = await line.ask("AT+CMGL=4")
        assert answer[0].startswith("+CMGL: 1,0,,"), "it heard nothing of ATE1"


async def test_garbage() -> None:
    async with running_modem(QUICK) as modem, open_line(modem) as line:
        modem.garble(4)
        line.say(b"AT\r")
        await eventually(lambda: len(line.seen) == len(b"\r\nOK\r\n"))
        assert not line.seen.startswith(b"\r\nOK")
        line.seen.clear()
        assert await line.ask("AT") == ["OK"]
        modem.say(b"\xff\xfeRING")
        await line.until(rb"\xff\xfeRING")


async def test_a_late_echo() -> None:
    async with running_modem(QUICK) as modem:
        with Line(modem.path) as line:
            modem.late_echo = True
            line.say(b"AT\r")
            assert await line.until(rb"AT\r$") == b"\r\nOK\r\nAT\r"


@pytest.mark.parametrize("fault", ["reset", "hang"])
@pytest.mark.parametrize(("where", "taken"), [("prompt", 0), ("pdu", 0), ("sent", 1)])
async def test_it_fails_in_the_middle_of_sending(fault: str, where: str, taken: int) -> None:
    async with running_modem(QUICK) as modem, open_line(modem) as line:
        setattr(modem, f"{fault}_at", where)
        line.say(f"AT+CMGS={len(TPDU)}\r".encode())
        if where != "prompt":
            await line.until(rb"\r\n> ")
        line.say(b"00" + TPDU.hex().encode() + b"\x1a")
        if fault == "reset":
            await line.until(rb"RDY\r\n")
        else:
            await eventually(lambda: modem.hang_at is None)
            modem.resume()
        # Neither an answer nor a second chance for the octets that came.
        seen = bytes(line.seen) + "".join(await line.ask("AT+CMGF?")).encode()
        assert b"CMGS" not in seen and b"ERROR" not in seen
        assert len(modem.sent) == taken
        assert (await line.send(TPDU))[-2:] == [f"+CMGS: {taken}", "OK"]


async def test_what_a_reset_forgets() -> None:
    options = ModemOptions(pin="4711", boot_s=0.0)
    async with running_modem(options) as modem, open_line(modem) as line:
        await line.ask("AT+CPIN=4711;+CNMI=2,1;+CMGF=1")
        modem.receive(arriving(b"is kept"))
        await line.until(rb"CMTI")
        assert await line.ask("AT+CFUN=1,1") == [",1", "OK"] or True
        await line.until(rb"RDY\r\n")
        assert await line.ask("AT+CPIN?") == ["AT+CPIN?\r", "+CPIN: SIM PIN", "OK"]
        await line.ask("AT+CPIN=4711")
        assert (await line.ask("AT+CNMI?"))[1:] == ["+CNMI: 0,0,0,0,0", "OK"]
        assert (await line.ask("AT+CMGF?"))[1:] == ["+CMGF: 0", "OK"]
        assert len(modem.storages["SM"].messages) == 1


async def test_a_reset_ends_what_was_under_way_in_the_network() -> None:
    async with running_modem(ModemOptions(boot_s=0.0, ussd_delay_s=0.15)) as modem:
        with Line(modem.path) as line:
            await line.ask('ATE0;+CSMS=1;+CNMI=2,2;+CUSD=1,"*100#",15')
            modem.receive(arriving(b"not acknowledged"))
            await line.until(rb"\+CMT: ,\d+\r\n[0-9A-F]+\r\n")
            answered = asyncio.Event()
            modem.later(0.15, answered.set)  # after the answer, if there is one
            modem.reset()
            await answered.wait()
            await line.until(rb"RDY\r\n")
            assert line.seen == b"", "no +CUSD"
            assert len(modem.storages["SM"].messages) == 1, "the network has brought it again"


async def test_a_reset_while_the_network_thinks_takes_nothing() -> None:
    options = ModemOptions(send_delay_s=0.01, boot_s=0.0)
    async with running_modem(options) as modem, open_line(modem) as line:
        line.say(f"AT+CMGS={len(TPDU)}\r00{TPDU.hex()}\x1a".encode())
        await line.until(rb"\r\n> ")
        modem.reset()
        await line.until(rb"RDY\r\n")
        assert (await line.send(TPDU))[-2:] == ["+CMGS: 0", "OK"]
        assert len(modem.sent) == 1


async def test_the_network_goes_and_comes_back() -> None:
    async with running_modem(QUICK) as modem, open_line(modem) as line:
        await line.ask("AT+CREG=1;+CNMI=2,1")
        modem.lose_network()
        await line.until(rb"\r\n\+CREG: 2\r\n")
        assert await line.ask("AT+CSQ;+COPS?") == ["+CSQ: 99,99", "+COPS: 0", "OK"]
        modem.receive(arriving(b"waits"))
        assert await line.ask("AT") == ["OK"]
        assert line.seen == b""
        modem.find_network()
        await line.until(rb'\r\n\+CREG: 1\r\n\r\n\+CMTI: "SM",1\r\n')


async def test_pulled_out_and_plugged_in_again(tmp_path: Path) -> None:
    link = tmp_path / "modem"
    async with running_modem(QUICK, link=link, tcp_port=0) as modem:
        path, port = modem.path, modem.tcp_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with open_line(modem) as line:
            await modem.unplug()
            await eventually(lambda: line.hung_up)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            assert reader.at_eof() or reader.exception() is not None
            writer.close()
            assert not link.is_symlink()
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", port)
            modem.receive(arriving(b"waits"))
        assert len(modem.network.waiting) == 1
        await modem.replug()
        assert modem.path != path
        assert modem.tcp_port == port
        assert os.readlink(link) == modem.path
        await eventually(lambda: len(modem.network.waiting) == 0)
        with Line(str(link)) as line:
            assert (await line.ask("AT+CMGL=4"))[1].startswith("+CMGL: 1,0,,")
        paths = {path, modem.path}
        await modem.unplug()
        await modem.unplug()
        # Whoever waits for it at its path must not meet another modem there.
        async with running_modem() as other:
            assert other.path not in paths
        await modem.replug()
        assert modem.path not in paths


# The command.


async def test_the_command_prints_what_is_sent(tmp_path: Path) -> None:
    link = tmp_path / "modem"
    arguments = ("simulate", "modem", "--pin", "4711", "--link", str(link), "--json", "--tcp", "0")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", *arguments, "--log", "--receive", "447700900777:hello there",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stderr is not None
        ready = json.loads(await process.stdout.readline())
        assert os.readlink(link) == ready["path"]
        assert ready["tcp_port"] > 0
        with Line(ready["path"]) as line:
            assert (await line.ask("AT+CPIN=4711"))[-1] == "OK"
            await line.send(TPDU)
            await line.ask("AT+CMGF=1")
            assert "hello there" in " ".join(await line.ask('AT+CMGL="ALL"'))
        message = json.loads(await process.stdout.readline())
        assert (message["to"], message["text"]) == ("+447700900123", "hello")
        assert bytes.fromhex(message["tpdu"]) == TPDU
        assert await process.stderr.readline() == b"< AT+CPIN=4711\\r\n"
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0
    assert not link.is_symlink()


async def test_the_command_refuses_what_cannot_be(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    proxy = (sys.executable, "-m", "proxy", "simulate", "modem")
    said = await run_program(*proxy, "--pin", "12", status=2)
    assert "a PIN has 4 to 8 digits" in said
    said = await run_program(*proxy, "--link", str(taken), status=1)
    assert "cannot start the modem" in said and "Traceback" not in said
    [port] = free_ports(1)
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", port)
    async with server:
        assert "address already in use" in await run_program(*proxy, "--tcp", str(port), status=1)
