from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smspdudecoder.elements import Date

from proxy.gsm.times import (
    VALIDITY_MAX_S,
    decode_enhanced_validity,
    decode_time,
    decode_validity,
    encode_time,
    encode_validity,
)

MINUTE, HOUR, DAY, WEEK = 60, 3600, 86400, 604800
IN_THIS_CENTURY = st.integers(946684800, 3786911999)


@pytest.mark.parametrize(
    ("octets", "at"),
    [
        ("70402132522400", "2007-04-12T23:25:42+00:00"),
        ("70402132522423", "2007-04-12T15:25:42+00:00"),
        ("7040213252242B", "2007-04-13T07:25:42+00:00"),
        ("3130523210658A", "2013-03-26T06:01:56+00:00"),
        ("99309251619580", "1999-03-29T13:16:59+00:00"),
        ("00000000000000", None),
        ("FFFFFFFFFFFFFF", None),
        ("62312100000000", None),  # month 13
        ("62201300000000", None),  # 31 February
        ("62101042000000", None),  # 24 o'clock
        ("6210100000006E", "2026-01-01T16:30:00+00:00"),  # 66 quarters west
        ("62101000000099", "2026-01-01T04:45:00+00:00"),  # 19 quarters west
        ("621010000000E7", None),  # a zone of 7E quarters
    ],
)
def test_time_stamps(octets: str, at: str | None) -> None:
    found = decode_time(bytes.fromhex(octets))
    assert found == (None if at is None else datetime.fromisoformat(at).timestamp())


@given(IN_THIS_CENTURY)
def test_times_come_back_and_another_decoder_agrees(at_s: int) -> None:
    octets = encode_time(at_s)
    shown = Date.decode(octets.hex())
    if shown.year < 2090:
        assert decode_time(octets) == at_s
        assert shown.timestamp() == at_s


@pytest.mark.parametrize("at_s", [None, -1e300, 1e300, float("nan"), 0, 4_000_000_000])
def test_times_that_cannot_be_said(at_s: float | None) -> None:
    assert encode_time(at_s) == bytes(7)
    assert decode_time(bytes(7)) is None


@given(st.binary(min_size=7, max_size=7))
def test_any_octets(octets: bytes) -> None:
    found = decode_time(octets)
    assert found is None or 600_000_000 < found < 3_900_000_000


@pytest.mark.parametrize(
    ("seconds", "octet"),
    [
        (-5, 0), (0, 0), (1, 0), (5 * MINUTE, 0), (5 * MINUTE + 1, 1), (30 * MINUTE, 5),
        (12 * HOUR, 143), (12 * HOUR + 1, 144), (16 * HOUR, 151), (DAY, 167), (DAY + 1, 168),
        (3 * DAY, 169), (4 * DAY, 0xAA), (30 * DAY, 196), (30 * DAY + 1, 197), (5 * WEEK, 197),
        (52 * WEEK, 244), (63 * WEEK, 255), (63 * WEEK + 1, 255), (10**12, 255),
    ],
)  # fmt: skip
def test_validity_periods(seconds: int, octet: int) -> None:
    assert encode_validity(seconds) == octet


@pytest.mark.parametrize("octet", range(256))
def test_every_validity_period_comes_back(octet: int) -> None:
    assert encode_validity(decode_validity(octet)) == octet


@given(st.integers(0, VALIDITY_MAX_S))
def test_a_validity_period_is_never_cut_short(seconds: int) -> None:
    octet = encode_validity(seconds)
    assert decode_validity(octet) >= seconds
    assert octet == 0 or decode_validity(octet - 1) < seconds


@pytest.mark.parametrize(
    ("octets", "seconds"),
    [
        ("00000000000000", None),
        ("01AA0000000000", 4 * DAY),
        ("022A0000000000", 42),
        ("03103254000000", HOUR + 23 * MINUTE + 45),
        ("8200FF00000000", 255),
        ("07000000000000", None),
    ],
)
def test_enhanced_validity_periods(octets: str, seconds: int | None) -> None:
    assert decode_enhanced_validity(bytes.fromhex(octets)) == seconds
