from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smspdudecoder.elements import Number as TheirNumber

from proxy.gsm.address import Number, decode_number, decode_smsc, encode_number, encode_smsc
from proxy.gsm.errors import TpduError

digits = st.text("0123456789*#abc", max_size=20)
tons = st.sampled_from([0, 1, 2, 3, 4, 6, 7])
NAMES = "@£$ Aaz09ÄöñÜ§¿_Φ"


@pytest.mark.parametrize(
    ("number", "octets"),
    [
        (Number(1, 1, "27829135934"), "0B917228195339F4"),
        (Number(1, 1, "9876543210"), "0A918967452301"),
        (Number(2, 1, "0129998765"), "0AA11092997856"),
        (Number(0, 1, "125"), "038121F5"),
        (Number(0, 1, "*100#"), "05811A00FB"),
        (Number(0, 1, "abc"), "0381DCFE"),
        (Number(0, 1, ""), "0081"),
        (Number(5, 0, "Design@Home"), "14D0C4F23C7D760390EF7619"),
        (Number(5, 0, "MMoney"), "0BD0CDE6DB5DCE03"),
        (Number(5, 0, "FRANCOIS"), "0ED04669D0397C26A7"),
        (Number(5, 0, "a[]{}€"), "14D0E10D6FE3DBA036A94D19"),
    ],
)
def test_known_addresses(number: Number, octets: str) -> None:
    assert encode_number(number).hex().upper() == octets
    assert decode_number(bytes.fromhex("FF" + octets + "FF"), 1) == (number, 1 + len(octets) // 2)


@given(tons, st.integers(0, 15), digits)
def test_numbers_come_back(ton: int, npi: int, value: str) -> None:
    number = Number(ton, npi, value)
    assert decode_number(encode_number(number), 0)[0] == number


@given(st.text("0123456789", min_size=1, max_size=20))
def test_numbers_as_another_decoder_reads_them(value: str) -> None:
    assert TheirNumber.decode(encode_number(Number(1, 1, value))[2:].hex()) == value


@given(st.text(st.sampled_from(NAMES), max_size=11))
def test_names_come_back(name: str) -> None:
    octets = encode_number(Number(5, 0, name))
    assert len(octets) <= 12
    assert decode_number(octets, 0) == (Number(5, 0, name), len(octets))


@pytest.mark.parametrize(
    "number",
    [
        Number(1, 1, "1" * 21),
        Number(1, 1, "+44"),
        Number(1, 1, "12 34"),
        Number(1, 1, "١٢٣"),
        Number(1, 1, "12\n"),
        Number(5, 0, "twelve chars"),
        Number(5, 0, "Žluť"),
        Number(8, 1, "1"),
        Number(1, 16, "1"),
        Number(1, -1, "1"),
    ],
)
def test_what_no_address_can_hold(number: Number) -> None:
    with pytest.raises(TpduError):
        encode_number(number)


@given(st.binary(max_size=30), st.integers(0, 3))
def test_any_octets(octets: bytes, at: int) -> None:
    try:
        number, end = decode_number(octets, at)
    except TpduError:
        return
    assert at + 2 <= end <= len(octets)
    assert 0 <= number.ton <= 7
    assert 0 <= number.npi <= 15


def test_a_filler_ends_the_digits() -> None:
    assert decode_number(bytes.fromhex("069121F3FF"), 0)[0].digits == "123"


@pytest.mark.parametrize(
    ("octets", "number", "at"),
    [
        ("07917283010010F5", Number(1, 1, "27381000015"), 8),
        ("04A12143F5", Number(2, 1, "12345"), 5),
        ("00", None, 1),
        ("0191", None, 2),
    ],
)
def test_service_centres(octets: str, number: Number | None, at: int) -> None:
    assert decode_smsc(bytes.fromhex(octets) + b"\xff") == (number, at)
    if number is not None:
        assert encode_smsc(number).hex().upper() == octets


@pytest.mark.parametrize("octets", [b"", b"\x01", b"\x07\x91\x11"])
def test_a_service_centre_that_is_cut_off(octets: bytes) -> None:
    with pytest.raises(TpduError):
        decode_smsc(octets)
