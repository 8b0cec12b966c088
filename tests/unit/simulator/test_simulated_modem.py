"""The simulated modem at its pty: commands, the SIM, messages both ways, as programs see them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.modems import arriving, open_line, running_modem
from support.waiting import eventually

from proxy.gsm.tpdu import (
    Number,
    Submit,
    decode_deliver,
    decode_status_report,
    encode_deliver,
    encode_submit,
    split_smsc,
)
from proxy.simulator.modem import ModemOptions, SimulatedModem

pytestmark = pytest.mark.timeout(30)

SUBMIT = Submit(0, Number(1, 1, "447700900123"), 0, 0, None, False, False, False, False, b"hello")
TPDU = encode_submit(SUBMIT)
REPORTED = encode_submit(SUBMIT._replace(report=True))
QUICK = {"report_delay_s": 0.0, "boot_s": 0.0, "ussd_delay_s": 0.0}


def quick(**options: object) -> ModemOptions:
    """Nothing takes time."""
    return ModemOptions(**(QUICK | options))  # type: ignore[arg-type]


def octets_of(lines: list[str] | bytes) -> bytes:
    """The PDU of an answer of two lines, or of what was handed over, without its SC address."""
    if isinstance(lines, bytes):
        lines = lines.decode().split("\r\n")
    [pdu] = [line for line in lines if line and set(line) <= set("0123456789ABCDEF")]
    return split_smsc(bytes.fromhex(pdu))[1]


# Commands.


async def test_it_says_who_it_is() -> None:
    async with running_modem() as modem, open_line(modem) as line:
        options = modem.options
        assert await line.ask("AT+CGMI;+CGMM;+CGSN;+CIMI") == [
            options.manufacturer,
            options.model,
            options.imei,
            options.imsi,
            "OK",
        ]
        assert f"IMEI: {options.imei}" in await line.ask("ATI")
        assert await line.ask("AT+CCID") == [f"+CCID: {options.iccid}", "OK"]
        assert await line.ask("AT+CNUM") == [f'+CNUM: "","{options.number}",145', "OK"]
        assert await line.ask("AT+CREG=2;+CREG?") == ['+CREG: 2,1,"1A2B","0003C4D5"', "OK"]
        assert await line.ask("AT+COPS?") == [f'+COPS: 0,0,"{options.operator}"', "OK"]
        modem.signal = 7
        assert await line.ask("AT+CSQ") == ["+CSQ: 7,99", "OK"]
        assert await line.ask("AT+CSCA?") == [f'+CSCA: "{options.smsc}",145', "OK"]


async def test_what_it_does_not_know_is_an_error() -> None:
    async with running_modem() as modem, open_line(modem) as line:
        assert await line.ask("AT+NONSENSE") == ["ERROR"]
        assert await line.ask("AT+CMEE=1;+NONSENSE") == ["+CME ERROR: 100"]
        assert await line.ask("ATY") == ["ERROR"]
        assert await line.ask("AT+CMEE=3") == ["+CME ERROR: 50"]


async def test_commands_fail_that_are_to_fail() -> None:
    failing = {"+CSMS": ("", 0), "+CNMI": ("CMS", 303), "+CSQ": ("CME", 3)}
    async with running_modem(quick(failing=failing)) as modem, open_line(modem) as line:
        assert await line.ask("AT+CSMS=?") == ["ERROR"]
        assert await line.ask("AT+CNMI=2,1") == ["+CMS ERROR: 303"]
        assert await line.ask("AT+CSQ") == ["ERROR"]
        modem.options.failing.clear()
        assert await line.ask("AT+CSQ") == ["+CSQ: 20,99", "OK"]
        assert [command.name for command in modem.commands] == [
            "E",
            "+CSMS",
            "+CNMI",
            "+CSQ",
            "+CSQ",
        ]


@pytest.mark.parametrize("form", ["", "?", "=?", "=", "=1", '="x"', "=999999999", "=,,,,,,", "=-1"])
async def test_every_command_takes_every_form(form: str) -> None:
    async with running_modem(quick()) as modem:
        said: list[bytes] = []
        modem.on_traffic = lambda way, octets: said.append(octets) if way == ">" else None
        names = sorted(modem.command_names)
        assert {"+CMGS", "+CPIN", "+CNMI", "+CUSD"} < set(names)
        for name in names:
            modem.hear(f"ATE0Q0V1\rAT{name}{form}\r\x1b".encode())  # ESC: it may prompt
            # ATQ1 says nothing, ATE1 echoes the ESC.
            answers = rb"(OK\r\n|ERROR\r\n|ERROR: \d+\r\n|\n0\r)\x1b?$"
            assert re.search(answers, b"".join(said)) is not None, (name, said)
            said.clear()


async def test_strings_are_in_the_terminals_character_set() -> None:
    async with running_modem(quick()) as modem, open_line(modem) as line:
        assert await line.ask('AT+CSCS="UCS2";+COPS?') == [
            f'+COPS: 0,0,"{modem.options.operator.encode("utf-16-be").hex().upper()}"',
            "OK",
        ]
        assert await line.ask('AT+CSCS="GSM";+CUSD=1,"*100#",15') == ["OK"]
        await line.until(rb'\r\n\+CUSD: 0,"Balance: 12.34 GBP",15\r\n')
        assert await line.ask('AT+CUSD=1,"*999#",15') == ["OK"]
        await line.until(rb"\r\n\+CUSD: 4\r\n")


# The SIM.


async def test_a_locked_sim_takes_no_messages_until_it_has_its_pin() -> None:
    async with running_modem(quick(pin="4711")) as modem, open_line(modem) as line:
        await line.ask("AT+CMEE=1;+CREG=1")
        assert await line.ask("AT+CPIN?") == ["+CPIN: SIM PIN", "OK"]
        assert await line.ask("AT+CREG?") == ["+CREG: 1,0", "OK"]
        assert await line.ask("AT+CIMI") == ["+CME ERROR: 11"]
        assert await line.ask("AT+CMGS=20") == ["+CMS ERROR: 311"]
        assert await line.ask('AT+CPIN="0815"') == ["+CME ERROR: 16"]
        assert await line.ask("AT+CPINR") == ["+CPINR: SIM PIN,2", "+CPINR: SIM PUK,10", "OK"]
        assert await line.ask("AT^CPIN?") == ["^CPIN: SIM PIN,2,10,2,10,3", "OK"]
        assert await line.ask("AT+SPIC") == ["+SPIC: 2,10,3,10", "OK"]
        assert await line.ask("AT+CPIN=4711") == ["OK"]
        await line.until(rb"\r\n\+CREG: 1\r\n")
        assert await line.ask("AT+CPIN?") == ["+CPIN: READY", "OK"]
        assert await line.ask("AT+CPIN=4711") == ["+CME ERROR: 3"]
        assert await line.send(TPDU) == ["+CMGS: 0", "OK"]


async def test_the_last_wrong_pin_locks_the_sim_until_the_puk() -> None:
    options = quick(pin="4711", pin_attempts=2)
    async with running_modem(options) as modem, open_line(modem) as line:
        await line.ask("AT+CMEE=1")
        assert await line.ask('AT+CPIN="0000"') == ["+CME ERROR: 16"]
        assert await line.ask('AT+CPIN="0000"') == ["+CME ERROR: 12"]
        assert await line.ask("AT+CPIN?") == ["+CPIN: SIM PUK", "OK"]
        assert await line.ask('AT+CPIN="4711"') == ["+CME ERROR: 16"]
        assert await line.ask("AT^CPIN?") == ["^CPIN: SIM PUK,9,9,0,10,3", "OK"]
        assert await line.ask('AT+CPIN="12345678","2580"') == ["OK"]
        assert (modem.sim.state, modem.sim.pin) == ("READY", "2580")


async def test_the_lock_can_be_taken_off() -> None:
    async with running_modem(quick(pin="4711")) as modem, open_line(modem) as line:
        assert await line.ask('AT+CLCK="SC",2') == ["+CLCK: 1", "OK"]
        await line.ask('AT+CPIN="4711"')
        assert await line.ask('AT+CLCK="SC",0,"4711";+CLCK="SC",2') == ["+CLCK: 0", "OK"]
        modem.reset()
        await line.until(b"RDY")
        assert modem.sim.state == "READY"


# Sending.


async def test_it_sends_and_numbers_the_references() -> None:
    async with running_modem() as modem, open_line(modem) as line:
        assert await line.send(TPDU) == ["+CMGS: 0", "OK"]
        assert await line.send(TPDU) == ["+CMGS: 1", "OK"]
        [first, second] = modem.sent
        assert (first.tpdu, first.submit, first.mr, second.mr) == (TPDU, SUBMIT, 0, 1)
        assert first.smsc == modem.options.smsc
        await line.ask('AT+CSCA="+4917000",145')
        await line.send(TPDU)
        assert modem.sent[-1].smsc == "+4917000"


@pytest.mark.parametrize(
    ("length", "pdu"),
    [
        (len(TPDU) + 1, "00" + TPDU.hex()),
        (len(TPDU), TPDU.hex()),
        (len(TPDU), "00" + TPDU.hex()[:-1]),
        (len(TPDU), "zz" + TPDU.hex()),
        (len(TPDU), ""),
        (0, None),
        (177, None),
    ],
)
async def test_what_is_no_pdu_is_refused(length: int, pdu: str | None) -> None:
    async with running_modem() as modem, open_line(modem) as line:
        answer = await line.ask(f"AT+CMGS={length}", data=pdu)
        assert answer == ["+CMS ERROR: 304"]
        assert modem.sent == []


async def test_the_network_may_refuse() -> None:
    async with running_modem() as modem, open_line(modem) as line:
        modem.refuse_with = lambda submit: 38 if submit == SUBMIT else None
        assert await line.send(TPDU) == ["+CMS ERROR: 38"]
        modem.refuse_with = None
        modem.lose_network()
        assert await line.send(TPDU) == ["+CMS ERROR: 331"]
        modem.find_network()
        assert await line.send(TPDU) == ["+CMGS: 0", "OK"]


async def test_text_mode() -> None:
    async with running_modem() as modem, open_line(modem) as line:
        await line.ask("AT+CMGF=1;+CSMP=49,167,0,0")
        assert await line.ask('AT+CMGS="+447700900123"', data="hello") == ["+CMGS: 0", "OK"]
        [message] = modem.sent
        assert message.submit == SUBMIT._replace(report=True, validity_s=86_400)
        modem.receive(arriving(b"how are you"))
        stored = await line.ask("AT+CMGR=1")
        assert stored[0].startswith('+CMGR: "REC UNREAD","+447700900777",,"')
        assert stored[1:] == ["how are you", "OK"]
        listed = await line.ask('AT+CMGL="ALL"')
        assert listed[0].startswith('+CMGL: 1,"REC READ","+447700900777",,"')
        assert await line.ask('AT+CMGS="x y"', data="hello") == ["+CMS ERROR: 305"]


async def test_messages_are_stored_and_sent_from_there() -> None:
    async with running_modem() as modem, open_line(modem) as line:
        answer = await line.ask(f"AT+CMGW={len(TPDU)}", data="00" + TPDU.hex())
        assert answer == ["+CMGW: 1", "OK"]
        assert await line.ask("AT+CMGR=1") == [
            f"+CMGR: 2,,{len(TPDU)}",
            "00" + TPDU.hex().upper(),
            "OK",
        ]
        assert await line.ask("AT+CMSS=1") == ["+CMSS: 0", "OK"]
        assert [message.tpdu for message in modem.sent] == [TPDU]
        assert (await line.ask("AT+CMGL=3"))[0] == f"+CMGL: 1,3,,{len(TPDU)}"
        assert await line.ask("AT+CMSS=2") == ["+CMS ERROR: 321"]
        assert await line.ask("AT+CMGD=1;+CMGL=4") == ["OK"]
        assert await line.ask("AT+CMGR=1") == ["+CMS ERROR: 321"]


# Status reports and messages that come.


async def test_a_status_report_is_stored_or_handed_over_as_cnmi_says() -> None:
    async with running_modem(quick(report_status=0x46)) as modem, open_line(modem) as line:
        assert await line.ask("AT+CNMI=2,1,0,2") == ["OK"]
        await line.send(REPORTED)
        await line.until(rb'\r\n\+CDSI: "SM",1\r\n')
        report = decode_status_report(octets_of(await line.ask("AT+CMGR=1")))
        assert (report.reference, report.recipient, report.status) == (0, SUBMIT.destination, 0x46)
        await line.ask("AT+CNMI=2,1,0,1")
        await line.send(REPORTED)
        handed = await line.until(rb"\r\n\+CDS: 25\r\n[0-9A-F]+\r\n")
        assert decode_status_report(octets_of(handed)).reference == 1
        modem.report(modem.sent[0], 0)
        handed = await line.until(rb"\r\n\+CDS: 25\r\n[0-9A-F]+\r\n")
        assert decode_status_report(octets_of(handed)).status == 0
        await line.send(TPDU)  # which asks for none
        assert await line.ask("AT") == ["OK"]
        assert line.seen == b""


async def test_reports_may_have_a_memory_of_their_own() -> None:
    async with running_modem(quick(report_storage="SR")) as modem, open_line(modem) as line:
        await line.ask("AT+CNMI=2,1,0,2")
        await line.send(REPORTED)
        await line.until(rb'\r\n\+CDSI: "SR",1\r\n')
        assert await line.ask("AT+CMGR=1") == ["+CMS ERROR: 321"]
        answer = await line.ask('AT+CPMS="SR";+CMGR=1')
        assert decode_status_report(octets_of(answer)).reference == 0


async def test_a_report_waits_until_somebody_wants_reports() -> None:
    async with running_modem(quick()) as modem, open_line(modem) as line:
        await line.send(REPORTED)
        assert await line.ask("AT") == ["OK"]
        assert await line.ask("AT+CNMI=2,1,0,1") == ["OK"]
        await line.until(rb"\r\n\+CDS: 25\r\n")


async def test_a_message_is_stored_and_told_of() -> None:
    async with running_modem() as modem, open_line(modem) as line:
        modem.receive(arriving(b"before anybody asked"))
        await line.ask("AT+CNMI=2,1")
        deliver = arriving(b"Hello from afar", sent_at_s=1_700_000_000.0)
        modem.receive(deliver)
        await line.until(rb'\r\n\+CMTI: "SM",2\r\n')
        answer = await line.ask("AT+CMGR=2")
        assert answer[0] == f"+CMGR: 0,,{len(encode_deliver(deliver))}"
        assert decode_deliver(octets_of(answer)) == deliver
        assert (await line.ask("AT+CMGR=2"))[0].startswith("+CMGR: 1,,"), "it has been read"
        assert [line for line in await line.ask("AT+CMGL=4") if "CMGL" in line] == [
            f"+CMGL: 1,0,,{19 + 18}",
            f"+CMGL: 2,1,,{len(encode_deliver(deliver))}",
        ]
        await line.ask("AT+CMGD=0,4")
        assert await line.ask("AT+CPMS?") == ['+CPMS: "SM",0,20,"SM",0,20,"SM",0,20', "OK"]


async def test_what_finds_no_slot_waits_in_the_network() -> None:
    async with running_modem(quick(storage_slots=2)) as modem, open_line(modem) as line:
        await line.ask("AT+CNMI=2,1")
        for text in (b"one", b"two", b"three"):
            modem.receive(arriving(text))
        await line.until(rb'\+CMTI: "SM",2\r\n')
        await line.ask("AT+CMGD=1")
        await line.until(rb'\+CMTI: "SM",1\r\n')
        assert decode_deliver(octets_of(await line.ask("AT+CMGR=1"))).user_data == b"three"
        answer = await line.ask(f"AT+CMGW={len(TPDU)}", data="00" + TPDU.hex())
        assert answer == ["+CMS ERROR: 322"]


async def test_what_is_handed_over_wants_an_acknowledgement_in_phase_2_plus() -> None:
    async with running_modem(quick(redeliver_s=0.0)) as modem, open_line(modem) as line:
        assert await line.ask("AT+CSMS=1;+CNMI=2,2,0,1") == ["+CSMS: 1,1,1", "OK"]
        modem.receive(arriving(b"one"))
        modem.receive(arriving(b"two"))
        one = await line.until(rb"\r\n\+CMT: ,\d+\r\n[0-9A-F]+\r\n")
        assert decode_deliver(octets_of(one)).user_data == b"one"
        assert await line.ask("AT") == ["OK"], "the second waits for AT+CNMA"
        assert await line.ask("AT+CNMA") == ["OK"]
        await line.until(rb"\r\n\+CMT: ,\d+\r\n[0-9A-F]+\r\n")
        assert await line.ask("AT+CNMA=2") == ["OK"], "refused: the network tries again"
        two = await line.until(rb"\r\n\+CMT: ,\d+\r\n[0-9A-F]+\r\n")
        assert decode_deliver(octets_of(two)).user_data == b"two"
        assert await line.ask("AT+CNMA=1") == ["OK"]
        assert await line.ask("AT+CNMA") == ["+CMS ERROR: 340"]


async def test_without_acknowledgement_it_stops_handing_over() -> None:
    options = quick(ack_timeout_s=0.0, redeliver_s=0.0)
    async with running_modem(options) as modem, open_line(modem) as line:
        await line.ask("AT+CSMS=1;+CNMI=2,2,0,1")
        modem.receive(arriving(b"one"))
        await line.until(rb"\r\n\+CMT: ,\d+\r\n[0-9A-F]+\r\n")
        await eventually(lambda: len(modem.storages["SM"].messages) == 1)
        assert await line.ask("AT+CNMI?") == ["+CNMI: 2,0,0,0,0", "OK"]


async def test_a_modem_may_know_less() -> None:
    few = ((0, 1, 2), (0, 1), (0,), (0, 2), (0,))
    options = quick(cnmi=few, phase_2_plus=False)
    async with running_modem(options) as modem, open_line(modem) as line:
        assert await line.ask("AT+CNMI=?") == ["+CNMI: (0,1,2),(0,1),(0),(0,2),(0)", "OK"]
        assert await line.ask("AT+CNMI=2,1,0,1,0") == ["+CMS ERROR: 303"]
        assert await line.ask("AT+CNMI=2,1,0,2,0") == ["OK"]
        assert await line.ask("AT+CSMS=1") == ["+CMS ERROR: 303"]


async def test_announcements_are_buffered_while_the_mode_is_0() -> None:
    async with running_modem() as modem, open_line(modem) as line:
        await line.ask("AT+CNMI=0,1")
        modem.receive(arriving(b"one"))
        assert await line.ask("AT") == ["OK"]
        assert line.seen == b""
        await line.ask("AT+CNMI=2")
        await line.until(rb'\r\n\+CMTI: "SM",1\r\n')


@given(st.lists(st.binary(max_size=200) | st.sampled_from([b"AT+CMGF=1\r", b"AT+CMGL=4\r"])))
async def test_whatever_comes_from_both_sides_it_goes_on(octets: list[bytes]) -> None:
    modem = SimulatedModem(quick())
    said: list[bytes] = []
    modem.on_traffic = lambda direction, what: said.append(what) if direction == ">" else None
    await modem.start()
    try:
        for number, some in enumerate(octets):
            if number % 2:
                modem.receive(some)
            modem.hear(some)
        modem.hear(b"\x1b\rATE0Q0V1\rAT+CMGL=4\r")
        modem.hear(b'AT+CMGF=1\rAT+CMGL="ALL"\r')
        modem.reset()
        await eventually(lambda: b"RDY" in said[-1])
        said.clear()
        modem.hear(b"ATE0\rAT+CPIN?\r")
        assert b"".join(said).endswith(b"\r\n+CPIN: READY\r\n\r\nOK\r\n")
    finally:
        await modem.stop()
