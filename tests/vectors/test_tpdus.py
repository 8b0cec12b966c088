"""TPDUs as they are known in public, and some made by hand from 3GPP TS 23.040 and 23.038.

Each is decoded here, encoded again, and read by smspdudecoder, which has nothing in common with
this program.
"""

from __future__ import annotations

from datetime import datetime
from io import StringIO
from typing import Any, NamedTuple

import pytest
from smspdudecoder.fields import SMSDeliver, SMSSubmit

from proxy.gsm.alphabet import decode_text
from proxy.gsm.status import state_of_report
from proxy.gsm.tpdu import (
    Deliver,
    Number,
    StatusReport,
    Submit,
    TpduError,
    decode_deliver,
    decode_status_report,
    decode_submit,
    encode_deliver,
    encode_status_report,
    encode_submit,
    kind_of,
    split_smsc,
    with_smsc,
)
from proxy.smpp.udh import without_header
from proxy.smpp.vocabulary import MessageState

DAY, WEEK = 86400, 604800
PORTS = bytes.fromhex("0605040B8423F0")


class Vector(NamedTuple):
    """A PDU string as AT commands have it, and what it says."""

    octets: str
    smsc: str
    number: str
    """With "+" when it is international."""
    text: str | bytes
    """Without a header; octets are 8-bit data."""
    more: dict[str, Any] = {}  # noqa: RUF012
    """Fields that are not what they mostly are."""
    theirs: bool = True
    """smspdudecoder can read it."""


SUBMITS = {
    "dreamfabric": Vector(
        "0011000B916407281553F80000AA0AE8329BFD4697D9EC37",
        "", "+46708251358", "hellohello", {"validity_s": 4 * DAY},
    ),
    "short code": Vector(
        "001100038121F50000FF05E8329BFD06", "", "125", "hello", {"validity_s": 63 * WEEK}
    ),
    "with a service centre": Vector(
        "079144872090025311000C914417325476980000FF0FF37219947FD7416937280603E101",
        "+447802092035", "+447123456789", "see you in 10 x", {"validity_s": 63 * WEEK},
    ),
    "no validity period": Vector(
        "0001000B917228001011F100000CC8329BFD065DDF72363904", "", "+27820001111", "Hello World!"
    ),
    "UCS-2, a year": Vector(
        "07914400000000F01100099121436587F90008F40A4E16754C60A8597DFF01",
        "+44000000000", "+123456789", "世界您好！", {"validity_s": 52 * WEEK, "data_coding": 8},
    ),
    "national, with a report": Vector(
        "04A12143F5310D0AA110624521430000A91BD4F29C0E6A97E7F3F0B9AC03B1DFE3301BE4AEB7C565F91C",
        "12345", "0126541234", "Test message: local numbers",
        {"validity_s": 3 * DAY, "report": True, "reference": 13,
         "destination": Number(2, 1, "0126541234")},
    ),
    "absolute validity period": Vector(
        "0019000B917228001011F100003170013193008017D474BB3CA787DB70903DCC4E93D3F43C885E9ED301",
        "", "+27820001111", "Timestamp validity test",
        {"expires_at_s": datetime.fromisoformat("2013-07-10T13:39:00+02:00").timestamp()},
    ),
    "8-bit": Vector(
        "0591721891F101000B917228214365F700040C48656C6C6F20776F726C6421",
        "+2781191", "+27821234567", b"Hello world!", {"data_coding": 4},
    ),
    "UCS-2, Japanese": Vector(
        "07914346466554F601000B914316565811F9000806304253F68449",
        "+34646456456", "+34616585119", "あ叶葉", {"data_coding": 8},
    ),
    "UCS-2, Russian": Vector(
        "0001010B919730171111F100080C041F04400438043204350442",
        "", "+79037111111", "Привет", {"data_coding": 8, "reference": 1},
    ),
    "the last of three parts": Vector(
        "0045000B915121551532F400008C050003000303EA2073FD9C0ED341EE3A9B1D06C1C3F274985E97BB8AF87119"
        "4E2FD7E5A079DA4D07BDC7E370791CA683C675789A1CA687E920F7DB0D82CBDF6972D94D6781E675371D947683"
        "C675363C0C8AD7D3A0B7D99C1EA7C32072795E96D7DD7450FBCD66A7E9A0B03BDD06A5C9A0F29C0E6287C56F79"
        "BD0D",
        "", "+15125551234",
        "u fugiat nulla pariatur.Excepteur sint occaecat cupidatat non proident, sunt in culpa qui "
        "officia deserunt mollit anim id est laborum",
        {"reject_duplicates": True, "header": bytes.fromhex("050003000303")},
    ),
    # By hand from here on.
    "flash, reply path": Vector(
        "0081000B916407281553F800100AE8329BFD4697D9EC37",
        "", "+46708251358", "hellohello", {"data_coding": 0x10, "reply_path": True},
    ),
    "message class 0 in the other group": Vector(
        "0001000B916407281553F800F00AE8329BFD4697D9EC37",
        "", "+46708251358", "hellohello", {"data_coding": 0xF0},
    ),
    "voice mail waiting": Vector(  # for theirs UCS-2
        "0001000B916407281553F800C80AE8329BFD4697D9EC37",
        "", "+46708251358", "hellohello", {"data_coding": 0xC8}, theirs=False,
    ),
    "WAP push, port addressed": Vector(
        "0041000B916407281553F800F50A0605040B8423F0010603",
        "", "+46708251358", b"\1\6\3", {"data_coding": 0xF5, "header": PORTS},
    ),
    "a 16-bit reference": Vector(  # 7 octets of header are 8 septets: no fill bits
        "0041000B916407281553F800000E06080412340201C8329BFD6601",
        "", "+46708251358", "Hello,", {"header": bytes.fromhex("06080412340201")},
    ),
    "an 8-bit reference, one fill bit": Vector(
        "0041000B916407281553F80000090500034202018832",
        "", "+46708251358", "D2", {"header": bytes.fromhex("050003420201")},
    ),
    "a surrogate pair": Vector(
        "0001000B916407281553F8000804D83DDE00",
        "", "+46708251358", "😀", {"data_coding": 8},
    ),
    "escapes": Vector(
        "0001000B916407281553F800000D1BDE0615168F37A98D6FD303",
        "", "+46708251358", "[{abc}]~",
    ),
    "a service number": Vector(
        "00010005811A00FB00000141", "", "*100#", "A", theirs=False
    ),
}  # fmt: skip

DELIVERS = {
    "dreamfabric": Vector(  # a sender in the private plan
        "07917283010010F5040BC87238880900F10000993092516195800AE8329BFD4697D9EC37",
        "+27381000015", "27838890001", "hellohello",
        {"source": Number(4, 8, "27838890001"), "sent_at": "1999-03-29T15:16:59+02:00"},
    ),
    "How are you?": Vector(
        "07911326040000F0040B911346610089F60000208062917314080CC8F71D14969741F977FD07",
        "+31624000000", "+31641600986", "How are you?", {"sent_at": "2002-08-26T19:37:41+00:00"},
    ),
    "smspdudecoder's own": Vector(
        "07916407058099F9040B916407950303F100008921222140140004D4E2940A",
        "+46705008999", "+46705930301", "TEST", {"sent_at": "1998-12-22T12:04:41+00:00"},
    ),
    "more to come": Vector(
        "07919730071111F1000B919746121611F10000811170021222230DC8329BFD6681EE6F399B1C02",
        "+79037011111", "+79642161111", "Hello, world!",
        {"more_to_send": True, "sent_at": "2018-11-07T20:21:22+08:00"},
    ),
    "the first of two parts": Vector(
        "07919730071111F1400B919746121611F10000811170021222230E06080412340201C8329BFD6601",
        "+79037011111", "+79642161111", "Hello,",
        {"more_to_send": True, "header": bytes.fromhex("06080412340201"),
         "sent_at": "2018-11-07T20:21:22+08:00"},
    ),
    "the only part": Vector(
        "0591721891F1400781721881F800003160526104848059050003C30101916536FB1DCABEEB2074D85E064941B1"
        "9CAB060319A5C522289C96D3D3ED32286C0FA7D96131BBEC024941B19CAB0603DDD36C36A88C87A7E565D0DB0D"
        "82C55EB0DB4B068BCD5C20",
        "+2781191", "2781188",
        "Hello!You have R 19.50 FREE airtime available. R 19.50 will expire on 01/07/2013. ",
        {"more_to_send": True, "header": bytes.fromhex("050003C30101"),
         "sent_at": "2013-06-25T16:40:48+02:00"},
    ),
    "far east": Vector(
        "07915892000000F0040B915892214365F700007040213252242331493A283D0795C3F33C88FE06C9CB6132885E"
        "C6D341EDF27C1E3E97E7207B3A0C0A5241E377BB1D7693E72E",
        "+85290000000", "+85291234567", "It is easy to read text messages via AT commands.",
        {"sent_at": "2007-04-12T23:25:42+08:00"},
    ),
    "escapes": Vector(
        "06917228195339040B917228214365F70000313062315352800A800D8A5E98D337A910",
        "+2782913593", "+27821234567", "@{tést}!", {"sent_at": "2013-03-26T13:35:25+02:00"},
    ),
    # By hand.
    "a name for a sender": Vector(
        "000414D0C4F23C7D760390EF76190008621010000000000400410042",
        "", "Design@Home", "AB",
        {"source": Number(5, 0, "Design@Home"), "data_coding": 8,
         "sent_at": "2026-01-01T00:00:00+00:00"},
    ),
    "a report is wanted; no time": Vector(
        "0024038121F50000000000000000000141", "", "125", "A",
        {"report_wanted": True, "sent_at": None}, theirs=False,
    ),
}  # fmt: skip


def body(user_data: bytes, udhi: bool, dcs: int) -> str | bytes:
    text = without_header(user_data) if udhi else user_data
    shown = decode_text(text, dcs)
    return text if shown is None else shown


def number_of(vector: Vector) -> Number:
    return Number(1 if vector.number.startswith("+") else 0, 1, vector.number.removeprefix("+"))


def check_smsc(vector: Vector) -> bytes:
    smsc, tpdu = split_smsc(bytes.fromhex(vector.octets))
    assert (smsc.digits if smsc else "") == vector.smsc.removeprefix("+")
    return tpdu


@pytest.mark.parametrize("name", SUBMITS)
def test_submits(name: str) -> None:
    vector = SUBMITS[name]
    tpdu = check_smsc(vector)
    submit = decode_submit(tpdu)
    more = dict(vector.more)
    header = more.pop("header", b"")
    expected = {"destination": number_of(vector), "udhi": bool(header), "data_coding": 0} | more
    usual = Submit(
        0, expected["destination"], 0, 0, None, False, False, False, False, submit.user_data
    )
    assert submit == usual._replace(**expected)
    assert submit.user_data.startswith(header)
    assert body(submit.user_data, submit.udhi, submit.data_coding) == vector.text
    if submit.expires_at_s is None:  # its zone is not kept
        assert encode_submit(submit) == tpdu


@pytest.mark.parametrize("name", DELIVERS)
def test_delivers(name: str) -> None:
    vector = DELIVERS[name]
    tpdu = check_smsc(vector)
    assert kind_of(tpdu) == "deliver"
    deliver = decode_deliver(tpdu)
    more = dict(vector.more)
    header = more.pop("header", b"")
    sent_at = more.pop("sent_at")
    sent_at_s = None if sent_at is None else moment(sent_at)
    expected = {"source": number_of(vector), "udhi": bool(header), "data_coding": 0} | more
    usual = Deliver(
        expected["source"], 0, 0, sent_at_s, False, False, False, False, deliver.user_data
    )
    assert deliver == usual._replace(**expected)
    assert deliver.user_data.startswith(header)
    assert body(deliver.user_data, deliver.udhi, deliver.data_coding) == vector.text
    again = encode_deliver(deliver)
    assert decode_deliver(again) == deliver
    assert len(again) == len(tpdu)


def moment(text: str) -> float:
    """Unix time."""
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("name", [name for name, vector in SUBMITS.items() if vector.theirs])
def test_submits_as_smspdudecoder_reads_them(name: str) -> None:
    vector = SUBMITS[name]
    submit = decode_submit(check_smsc(vector))
    for octets in (vector.octets, with_smsc(encode_submit(submit), vector.smsc).hex()):
        theirs = SMSSubmit.decode(StringIO(octets))
        assert theirs["recipient"]["number"] == submit.destination.digits
        assert theirs["user_data"]["data"] == vector.text
        assert theirs["header"]["srr"] == submit.report
        assert (theirs["user_data"]["header"] is not None) == submit.udhi


@pytest.mark.parametrize("name", [name for name, vector in DELIVERS.items() if vector.theirs])
def test_delivers_as_smspdudecoder_reads_them(name: str) -> None:
    vector = DELIVERS[name]
    deliver = decode_deliver(check_smsc(vector))
    for octets in (vector.octets, with_smsc(encode_deliver(deliver), vector.smsc).hex()):
        theirs = SMSDeliver.decode(StringIO(octets))
        assert theirs["sender"]["number"] == deliver.source.digits
        assert theirs["user_data"]["data"] == vector.text
        assert theirs["header"]["mms"] != deliver.more_to_send  # it names the bit, not its sense
        if theirs["scts"].year < 2090:
            assert theirs["scts"].timestamp() == deliver.sent_at_s


@pytest.mark.parametrize(
    ("octets", "report", "state"),
    [
        (
            "0006D60B911326880736F4111011719551401110117195714000",
            StatusReport(
                214, Number(1, 1, "31628870634"),
                moment("2011-01-11T17:59:15+01:00"), moment("2011-01-11T17:59:17+01:00"), 0,
            ),
            MessageState.DELIVERED,
        ),
        (  # captured from a modem that put an octet too many in front of the number
            "0297F1061C0F910B487228297020F5317062419272803170624192138000",
            StatusReport(
                28, Number(1, 1, "#08427829207025"),
                moment("2013-07-26T14:29:27+02:00"), moment("2013-07-26T14:29:31+02:00"), 0,
            ),
            MessageState.DELIVERED,
        ),
        (  # by hand: validity period expired, with optional parameters behind it
            "0006070B916407281553F862101000000000621020000000004601" + "00",
            StatusReport(
                7, Number(1, 1, "46708251358"),
                moment("2026-01-01T00:00:00+00:00"), moment("2026-01-02T00:00:00+00:00"), 0x46,
            ),
            MessageState.EXPIRED,
        ),
        (  # by hand: congestion, still trying
            "0006FF0B916407281553F8621010000000006210200000000020",
            StatusReport(
                255, Number(1, 1, "46708251358"),
                moment("2026-01-01T00:00:00+00:00"), moment("2026-01-02T00:00:00+00:00"), 0x20,
            ),
            None,
        ),
    ],
)  # fmt: skip
def test_status_reports(octets: str, report: StatusReport, state: MessageState | None) -> None:
    _, tpdu = split_smsc(bytes.fromhex(octets))
    assert kind_of(tpdu) == "status_report"
    assert decode_status_report(tpdu) == report
    assert state_of_report(report.status) is state
    assert decode_status_report(encode_status_report(report)) == report


def test_a_length_that_promises_more_than_is_there() -> None:
    """Some software writes so; a modem would refuse it, and so does the simulated one."""
    _, tpdu = split_smsc(bytes.fromhex("0041010C910661345542F60008A0050003000301306F3044"))
    with pytest.raises(TpduError):
        decode_submit(tpdu)
