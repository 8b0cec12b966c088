"""The parts of a modem upstream that need no modem: limits, reports, ports, balance."""

from __future__ import annotations

import asyncio
import os
import tty
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import eventually

from proxy.gsm.alphabet import pack_septets
from proxy.gsm.tpdu import Number, StatusReport
from proxy.links import modem_reports
from proxy.links.modem_limits import SimLimits, Used, month_start_s
from proxy.links.modem_port import PortError, candidates, open_port
from proxy.links.modem_reports import Reports, Sent, report_key
from proxy.links.modem_watch import ussd_words
from proxy.smpp import vocabulary as smpp
from proxy.smpp.multi import Address
from proxy.smpp.pdu import read_delivery
from proxy.smpp.receipt import Receipt, parse_receipt
from proxy.smpp.vocabulary import MessageState


def at(*fields: int) -> int:
    year, month, day, hour, minute, second = (*fields, 0, 0, 0)[:6]
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())


# ---------------------------------------------------------------------------------- limits


def test_hours_days_and_months_are_those_of_utc() -> None:
    limits = SimLimits(2, 3, 4)
    limits.count(at(2026, 1, 31, 22, 59))
    limits.count(at(2026, 1, 31, 23, 1))
    limits.count(at(2026, 1, 31, 23, 59, 59))
    now = at(2026, 1, 31, 23, 59, 59)
    assert limits.used(now) == Used(2, 3, 3)
    assert limits.left(now) == 0
    assert limits.again_at_s(now) == at(2026, 2, 1)
    assert limits.left(at(2026, 2, 1)) == 2
    assert limits.used(at(2026, 2, 1)) == Used(0, 0, 0)


def test_without_limits_there_is_no_end() -> None:
    limits = SimLimits(None, None, None)
    limits.count(at(2026, 1, 1))
    assert limits.left(at(2026, 1, 1)) is None
    assert limits.again_at_s(5.0) == 5.0
    assert limits.ever(10_000)
    assert not limits.limited


def test_what_was_counted_is_saved_once_and_kept_until_it_is() -> None:
    limits = SimLimits(None, None, 10)
    hour = at(2026, 5, 5, 5)
    limits.load({hour: 3})
    limits.count(hour + 7)
    limits.count(hour + 3600)
    taken = limits.unsaved()
    assert taken == {hour: 1, hour + 3600: 1}
    assert limits.unsaved() == {}
    limits.keep(taken)
    limits.count(hour + 3601)
    assert limits.unsaved() == {hour: 1, hour + 3600: 2}
    assert limits.left(hour + 3601) == 4


@given(st.lists(st.integers(0, 80 * 86400), max_size=60), st.integers(1, 5))
def test_no_limit_is_ever_passed(times: list[int], per_hour: int) -> None:
    limits = SimLimits(per_hour, per_hour * 2, per_hour * 3)
    began = at(2026, 1, 15)
    sent: list[int] = []
    for offset in sorted(times):
        now = began + offset
        if limits.left(now):
            limits.count(now)
            sent.append(now)
        month = month_start_s(now)
        assert sum(t // 3600 == now // 3600 for t in sent) <= per_hour
        assert sum(t // 86400 == now // 86400 for t in sent) <= per_hour * 2
        assert sum(t >= month for t in sent) <= per_hour * 3
        assert limits.again_at_s(now) >= now
    assert len(limits._hours) <= 31 * 24


# --------------------------------------------------------------------------------- reports

TO = Number(1, 1, "447700900123")


def sent_to(parts: int, asked: int = 1) -> Sent:
    return Sent(Address(1, 1, b"447700900123"), Address(0, 1, b"777"), parts, asked, 1e9)


def report(reference: int, status: int, to: Number = TO) -> StatusReport:
    return StatusReport(reference, to, None, None, status)


def said(body: bytes | None) -> Receipt:
    assert body is not None
    delivery = read_delivery(smpp.DELIVER_SM, body)
    found = parse_receipt(delivery.text, delivery.tlvs)
    assert found is not None
    return found


def test_all_parts_have_to_arrive() -> None:
    reports, sent = Reports("", bytes), sent_to(2)
    reports.part_sent(sent, 254, TO.digits)
    reports.part_sent(sent, 255, TO.digits)
    assert reports.ended(sent, "255-0900123", 1e9) is None
    assert reports.reported(report(255, 0x30), 1e9) is None  # still trying
    assert reports.reported(report(255, 0), 1e9) is None
    assert said(reports.reported(report(254, 1), 1e9)) == (
        "255-0900123", MessageState.DELIVERED, "000",
    )  # fmt: skip


def test_reports_that_are_quicker_than_the_answer_wait_for_it() -> None:
    reports, sent = Reports("", bytes), sent_to(1)
    reports.part_sent(sent, 7, TO.digits)
    assert reports.reported(report(7, 0), 1e9) is None
    assert said(reports.ended(sent, "7-0900123", 1e9)).state == MessageState.DELIVERED
    assert reports.ended(sent, "7-0900123", 1e9) is None


def test_a_failure_counts_once_and_at_once() -> None:
    reports, sent = Reports("", bytes), sent_to(3)
    for reference in (1, 2, 3):
        reports.part_sent(sent, reference, TO.digits)
    reports.ended(sent, "3-0900123", 1e9)
    assert said(reports.reported(report(2, 0x41), 1e9))[1:] == (MessageState.UNDELIVERABLE, "065")
    assert reports.reported(report(1, 0x46), 1e9) is None
    assert reports.reported(report(3, 0), 1e9) is None


@pytest.mark.parametrize(("asked", "status", "told"), [
    (1, 0, True), (1, 0x46, True), (2, 0, False), (2, 0x46, True), (3, 0, True), (3, 0x46, False),
])  # fmt: skip
def test_what_the_client_asked_for(asked: int, status: int, told: bool) -> None:
    reports, sent = Reports("", bytes), sent_to(1, asked)
    reports.part_sent(sent, 1, TO.digits)
    reports.ended(sent, "1-0900123", 1e9)
    assert (reports.reported(report(1, status), 1e9) is not None) == told


def test_a_recipient_may_be_written_in_another_way() -> None:
    reports, sent = Reports("", bytes), sent_to(1)
    reports.part_sent(sent, 1, TO.digits)
    reports.ended(sent, "1-0900123", 1e9)
    body = reports.reported(report(1, 0, Number(0, 1, "07700900123")), 1e9)
    delivery = read_delivery(smpp.DELIVER_SM, body or b"")
    assert (delivery.source_addr, delivery.destination_addr) == ("447700900123", "777")


def test_an_unknown_report_is_told_as_it_is_and_a_strange_date_is_now() -> None:
    reports = Reports("+447700900001", bytes)
    late = report(9, 0)._replace(discharged_at_s=1e9 + 1e8)
    body = reports.reported(late, 1e9)
    assert said(body).smsc_message_id == report_key(9, TO.digits)
    assert b"done date:0109090146" in (body or b"")


def test_two_doubts_to_one_recipient_prove_nothing() -> None:
    reports = Reports("111", bytes)
    reports.doubtful(sent_to(1), TO.digits)
    first = read_delivery(smpp.DELIVER_SM, reports.reported(report(9, 0), 1e9) or b"")
    assert first.destination_addr == "777"
    reports.doubtful(sent_to(1), TO.digits)
    second = read_delivery(smpp.DELIVER_SM, reports.reported(report(9, 0), 1e9) or b"")
    assert second.destination_addr == "111"


def test_reports_that_never_come_do_not_pile_up() -> None:
    reports = Reports("", bytes)
    with (
        patch.object(modem_reports, "_WAITING_MAX", 10),
        patch.object(modem_reports, "_DOUBTFUL_MAX", 10),
    ):
        for number in range(50):
            reports.part_sent(sent_to(1), number % 256, str(10_000_000 + number))
            reports.doubtful(sent_to(1), str(10_000_000 + number))
    assert len(reports._waiting) == len(reports._doubtful) == 10


@given(st.integers(0, 255), st.integers(0, 255), st.text("0123456789*#abc", max_size=20),
       st.integers(0, 7), st.none() | st.floats(-1e12, 1e12))  # fmt: skip
def test_no_report_is_too_strange(
    reference: int, status: int, digits: str, ton: int, done: float | None
) -> None:
    body = Reports("1", bytes).reported(
        StatusReport(reference, Number(ton, 1, digits), done, done, status), 1.7e9
    )
    if body is not None:
        said(body)


# ------------------------------------------------------------------------------------ USSD


@pytest.mark.parametrize(
    ("text", "dcs", "words"),
    [
        ("Balance: 5 EUR", 15, "Balance: 5 EUR"),
        ("00420061006C0061006E00630065", 72, "Balance"),
        (pack_septets(b"Balance:").hex(), 15, "Balance:"),
        ("12345678", 15, "12345678"),
        ("one\ntwo\0", 15, "one two"),
        ("DEADBEE", 15, "DEADBEE"),
    ],
)
def test_the_balance_in_words(text: str, dcs: int, words: str) -> None:
    assert ussd_words(text, dcs) == words


@given(st.text(max_size=400), st.none() | st.integers(0, 255))
def test_no_balance_is_too_strange(text: str, dcs: int | None) -> None:
    assert len(ussd_words(text, dcs)) <= 500


# ----------------------------------------------------------------------------------- ports


def usb(
    device: str, vid: int | None, pid: int | None, serial: str | None, location: str | None
) -> Any:
    return SimpleNamespace(
        device=device, vid=vid, pid=pid, serial_number=serial, location=location
    )  # fmt: skip


PORTS = [
    usb("/dev/ttyUSB3", 0x12D1, 0x1506, "A1", "1-1:1.1"),
    usb("/dev/ttyUSB2", 0x12D1, 0x1506, "A1", "1-1:1.0"),
    usb("/dev/ttyUSB0", 0x12D1, 0x1506, None, "1-2:1.0"),
    usb("/dev/ttyUSB9", 0x12D1, 0x1001, "A1", "1-3"),
    usb("/dev/ttyS0", None, None, None, None),
]


@pytest.mark.parametrize(
    ("device", "paths"),
    [
        ("usb:12d1:1506", ["/dev/ttyUSB2", "/dev/ttyUSB3", "/dev/ttyUSB0"]),
        ("usb:12D1:1506:A1", ["/dev/ttyUSB2", "/dev/ttyUSB3"]),
        ("usb:12d1:1506:1-2", ["/dev/ttyUSB0"]),
        ("usb:12d1:1506:1-1:1.1", ["/dev/ttyUSB3"]),
        ("usb:ffff:0001", []),
        ("/dev/ttyUSB0", ["/dev/ttyUSB0"]),
    ],
)
async def test_which_ports_a_device_is(device: str, paths: list[str]) -> None:
    with patch("serial.tools.list_ports.comports", lambda: PORTS):
        assert await candidates(device) == paths


@pytest.mark.parametrize("address", ["/nowhere/tty", "/dev/null", "tcp://127.0.0.1:1", "tcp://x"])
async def test_what_cannot_be_opened_says_why(address: str) -> None:
    with pytest.raises(PortError):
        await open_port(address, 115_200, lambda _: None, lambda _: None)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_line_that_hangs_up_is_noticed_whatever_the_loop(loop: Any) -> None:
    async def hang_up() -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        received: list[bytes] = []
        lost: list[str] = []
        port = await open_port(os.ttyname(slave), 9600, received.append, lost.append)
        os.close(slave)
        os.write(master, b"RING\r\n")
        await eventually(lambda: b"".join(received) == b"RING\r\n")
        port.write(b"AT\r")
        await eventually(lambda: os.read(master, 10) == b"AT\r")
        os.close(master)
        await eventually(lambda: len(lost) == 1)
        with pytest.raises(PortError):
            port.write(b"AT\r")
        port.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(hang_up())


async def test_a_modem_that_takes_nothing_is_not_written_to_for_ever() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    port = await open_port(os.ttyname(slave), 9600, lambda _: None, lambda _: None)
    with pytest.raises(PortError, match="does not take"):
        for _ in range(1000):
            port.write(b"x" * 500)
    port.close()
    os.close(slave)
    os.close(master)


async def test_a_line_belongs_to_one_program() -> None:
    master, slave = os.openpty()
    port = await open_port(os.ttyname(slave), 9600, lambda _: None, lambda _: None)
    with pytest.raises(PortError, match="in use by another program"):
        await open_port(os.ttyname(slave), 9600, lambda _: None, lambda _: None)
    port.close()
    os.close(slave)
    os.close(master)
