"""What a modem says: any pieces, any noise, and the answers of real modems."""

from __future__ import annotations

from itertools import accumulate, cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gsm import at
from proxy.gsm.at import LineReader, Prompt

_PIECES = st.sampled_from(
    [
        b"\r\nOK\r\n", b"AT+CMGS=20\r", b"\r\n> ", b">", b"> \r\n", b'\r\n+CMTI: "SM",3\r\n',
        b"\r\n+CMS ERROR: 42\r\n", b"\r\n+CDS: 25\r\n0006\r\n", b"\x00", b"\xff\xfe", b"\r", b"\n",
        b'+CUSD: 0,"one\r\n', b'two",15\r\n', b"x" * 3000, b"\x1a", b" ", b'"',
    ]
)  # fmt: skip


@given(
    st.lists(_PIECES | st.binary(max_size=12), max_size=12),
    st.lists(st.integers(1, 9) | st.integers(1000, 5000), min_size=1, max_size=20),
    st.booleans(),
)
def test_pieces_make_no_difference(parts: list[bytes], sizes: list[int], prompt: bool) -> None:
    octets = b"".join(parts) + b"\r\n"
    whole, cut = LineReader(), LineReader()
    whole.wants_prompt = cut.wants_prompt = prompt
    expected = whole.feed(octets)
    found: list[at.Item] = []
    ends = accumulate(cycle(sizes))
    start = 0
    while start < len(octets):
        end = next(ends)
        found += cut.feed(octets[start:end])
        start = end
    assert found == expected
    assert all(item is Prompt.SEEN or len(item) <= 20 * at.LINE_MAX for item in found)


@given(st.lists(st.binary(max_size=200)))
def test_nothing_a_modem_says_raises_and_the_rest_stays_small(chunks: list[bytes]) -> None:
    reader = LineReader()
    for chunk in chunks:
        for item in reader.feed(chunk):
            if isinstance(item, str):
                at.final_result(item)
                at.is_banner(item)
                at.urc_of(item)
                at.octets_of(item)
                at.values_of(item)
                at.ussd_text(item)
                at.listed([item, item])
                at.stored_pdu([item, item])
                at.pin_attempts([item])
                at.storage_of([item], 0)
                at.storages_offered([item])
                at.reporting_choices([item], stored_reports=True)
                at.registration([item], "+CREG")
                at.signal_dbm([item])


def test_the_prompt_is_seen_without_a_line_end_and_only_when_it_is_wanted() -> None:
    reader = LineReader()
    assert reader.feed(b"\r\n> ") == []
    reader.clear()
    reader.wants_prompt = True
    assert reader.feed(b"AT+CMGS=20\r\r\n>") == ["AT+CMGS=20", Prompt.SEEN]
    assert reader.feed(b" \r\n+CMGS: 7\r\n\r\nOK\r\n") == ["+CMGS: 7", "OK"]


def test_a_line_without_an_end_is_dropped_and_counted() -> None:
    reader = LineReader()
    for _ in range(100):
        assert reader.feed(b"y" * 1000) == []
    assert len(reader._rest) <= at.LINE_MAX
    assert reader.feed(b"yyy\r\nOK\r\n") == ["OK"]
    assert reader.garbage == 100_003


def test_garbage_is_counted() -> None:
    reader = LineReader()
    reader.feed(b"\x80\x81\x00OK\r\n")
    assert reader.garbage == 3


def test_a_ussd_text_of_several_lines_is_one_item() -> None:
    reader = LineReader()
    items = reader.feed(b'+CUSD: 0,"Balance:\r\n5 EUR\r\n",15\r\nOK\r\n')
    assert items == ['+CUSD: 0,"Balance:\n5 EUR\n",15', "OK"]
    # One that never ends does not swallow what follows.
    items = reader.feed(b'+CUSD: 0,"Balance:\r\nOK\r\nRDY\r\n')
    assert items == ['+CUSD: 0,"Balance:', "OK", "RDY"]


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("OK", (True, "", None)),
        ("ERROR", (False, "", None)),
        ("+CMS ERROR: 42", (False, "cms", 42)),
        ("+CMS ERROR:500", (False, "cms", 500)),
        ("+CME ERROR: SIM not inserted", (False, "cme", None)),
        ("+CME ERROR: 10", (False, "cme", 10)),
        ("COMMAND NOT SUPPORT", (False, "", None)),
    ],
)
def test_results(line: str, result: tuple[bool, str, int | None]) -> None:
    found = at.final_result(line)
    assert found is not None
    assert found[:3] == result


@pytest.mark.parametrize(
    "line", ["OKAY", "NO CARRIER", "BUSY", "+CMGS: 5", "", "+CSQ: 20,99", "ok then"]
)
def test_no_results(line: str) -> None:
    assert at.final_result(line) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('+CMTI: "SM",3', ["SM", "3"]),
        ('+CPMS: ("SM","ME"),("SM"),("MT")', ['("SM","ME")', '("SM")', '("MT")']),
        ("+CREG: 0,1", ["0", "1"]),
        ("+CMGL: 1,1,,25", ["1", "1", "", "25"]),
        ('+COPS: 0,0,"E-Plus, Germany",2', ["0", "0", "E-Plus, Germany", "2"]),
        ("^CPIN: READY,,10,3,10,3", ["READY", "", "10", "3", "10", "3"]),
        ("+CSQ:", [""]),
        ("nothing", [""]),
    ],
)
def test_values(line: str, expected: list[str]) -> None:
    assert at.values_of(line) == expected


@pytest.mark.parametrize(
    ("line", "attempts"),
    [
        ("+CPINR: SIM PIN,3,3", 3),
        ("+SPIC: 2,10,3,10", 2),
        ("^CPIN: SIM PIN,1,10,1,10,3", 1),
        ("+CPINC: 3,3,10,10", 3),
        ('+QPINC: "SC",2,10', 2),
        ("#PCT: 1", 1),
        ("+CPINR: SIM PUK,10,10", None),
        ("OK then", None),
    ],
)
def test_pin_attempts(line: str, attempts: int | None) -> None:
    assert at.pin_attempts(["noise", line]) == attempts


@pytest.mark.parametrize(
    ("offer", "stored", "choices"),
    [
        ("+CNMI: (0-2),(0-3),(0,2),(0-2),(0,1)", False, ["2,1,0,1,0", "2,1,0,2,0", "2,1,0,0,0"]),
        ("+CNMI: (0-2),(0-3),(0,2),(0-2),(0,1)", True, ["2,1,0,2,0", "2,1,0,1,0", "2,1,0,0,0"]),
        ("+CNMI: (0,1),(0,1),(0),(0,1),(1)", False, ["1,1,0,1,1", "1,1,0,0,1"]),
        ("+CNMI: (1),(2),(0),(0),(0)", False, ["1,2,0,0,0"]),
    ],
)
def test_reporting(offer: str, stored: bool, choices: list[str]) -> None:
    found = at.reporting_choices([offer], stored_reports=stored)
    assert found[:-1] == choices
    assert found[-1] == choices[0][:3]


def test_reporting_without_an_offer() -> None:
    assert at.reporting_choices([], stored_reports=False)[0] == "2,1,0,1,0"


def test_a_list_of_messages_with_noise_between() -> None:
    lines = [
        "+CMGL: 1,1,,3", "00ABCDEF", "^RSSI: 12", "+CMGL: 2,0,,1", "+CMGL: 3,3,,1", "00ff",
        "+CMGL: x,1,,1", "00",
    ]  # fmt: skip
    assert at.listed(lines) == [(1, 1, "00ABCDEF"), (3, 3, "00FF")]


def test_registration_with_and_without_n() -> None:
    assert at.registration(["+CREG: 0,5"], "+CREG") == 5
    assert at.registration(['+CREG: 2,1,"00C3","A1B2"'], "+CREG") == 1
    assert at.registration(["+CREG: 1"], "+CREG") == 1
    assert at.registration([], "+CREG") is None


def test_signal() -> None:
    assert at.signal_dbm(["+CSQ: 31,99"]) == -51
    assert at.signal_dbm(["+CSQ: 0,0"]) == -113
    assert at.signal_dbm(["+CSQ: 99,99"]) is None


def test_storages() -> None:
    offered = at.storages_offered(['+CPMS: ("ME","MT","SM","SR"),("ME","SM"),("ME")'])
    assert offered == [["ME", "MT", "SM", "SR"], ["ME", "SM"], ["ME"]]
    assert at.storage_of(["+CPMS: 1,20,2,30,3,40"], 2) == (3, 40)
    assert at.storage_of(["+CPMS: 1,20"], 2) is None


@pytest.mark.parametrize(
    "line", ["RDY", "^SYSSTART", "+CFUN: 1", "+CPIN: NOT READY", "NORMAL POWER DOWN", "START"]
)
def test_banners(line: str) -> None:
    assert at.is_banner(line)


@pytest.mark.parametrize(
    "line", ["+CPIN: READY", "SMS Ready", "Call Ready", "RDYX", "^RSSI: 12", "RING", "STARTED"]
)
def test_what_says_nothing_about_a_start(line: str) -> None:
    assert not at.is_banner(line)
