from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from smspdudecoder.fields import SMSSubmit

from proxy.gsm.alphabet import Alphabet, alphabet_of, decode_gsm, encode_gsm, unpack_septets
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
from proxy.gsm.user_data import header_septets

octet = st.integers(0, 255)
numbers = st.builds(
    Number,
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0, 1, 9]),
    st.text("0123456789*#", max_size=20),
)
times = st.none() | st.integers(946684800, 3_700_000_000).map(float)
SUBMIT = Submit(0, Number(1, 1, "46708251358"), 0, 0, None, False, False, False, False, b"hello")
DELIVER = Deliver(Number(1, 1, "46708251358"), 0, 0, None, False, False, False, False, b"hello")


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    """A data coding scheme with user data that it allows."""
    dcs = draw(octet)
    udhi = draw(st.booleans())
    header = draw(st.binary(max_size=60)) if udhi else b""
    before = bytes((len(header),)) + header if udhi else b""
    if alphabet_of(dcs) is Alphabet.GSM7:
        text = draw(st.text([chr(o) for o in range(128)], max_size=160)).encode("ascii")
        text = text[: 160 - header_septets(len(before))]
    else:
        text = draw(st.binary(max_size=140))[: 140 - len(before)]
    return {"data_coding": dcs, "udhi": udhi, "user_data": before + text}


@given(contents(), numbers, octet, octet, st.tuples(*[st.booleans()] * 3), times, octet)
def test_submits_come_back(
    content: dict[str, Any],
    number: Number,
    reference: int,
    protocol_id: int,
    flags: tuple[bool, ...],
    expires_at_s: float | None,
    hours: int,
) -> None:
    submit = Submit(
        reference,
        number,
        protocol_id,
        validity_s=3600 * (hours % 12 + 1) if expires_at_s is None and hours else None,
        report=flags[0],
        reply_path=flags[1],
        reject_duplicates=flags[2],
        expires_at_s=expires_at_s,
        **content,
    )
    octets = encode_submit(submit)
    assert decode_submit(octets) == submit
    assert decode_submit(octets + b"\xff") == submit


@given(contents(), numbers, octet, st.tuples(*[st.booleans()] * 3), times)
def test_delivers_come_back(
    content: dict[str, Any],
    number: Number,
    protocol_id: int,
    flags: tuple[bool, ...],
    sent_at_s: float | None,
) -> None:
    deliver = Deliver(
        number,
        protocol_id,
        sent_at_s=sent_at_s,
        more_to_send=flags[0],
        report_wanted=flags[1],
        reply_path=flags[2],
        **content,
    )
    octets = encode_deliver(deliver)
    assert kind_of(octets) == "deliver"
    assert decode_deliver(octets + b"\xff") == deliver


GSM_CHARS = sorted(char for code in range(128) if (char := decode_gsm(bytes((code,)))) != " ")


@given(st.text(st.sampled_from([*GSM_CHARS, "€", "["]), max_size=60), st.binary(max_size=70))
def test_septets_behind_any_header_as_another_decoder_reads_them(text: str, data: bytes) -> None:
    encoded = encode_gsm(text)
    assert encoded is not None
    header = bytes((len(data) + 2, 0x70, len(data))) + data
    # It takes the header for septets, too, and an escape among them for one character less.
    assume(0x1B not in unpack_septets(header, header_septets(len(header))))
    submit = SUBMIT._replace(udhi=True, user_data=header + encoded)
    try:
        octets = encode_submit(submit)
    except TpduError:
        assert len(encoded) + header_septets(len(header)) > 160
        return
    theirs = SMSSubmit.decode(StringIO(with_smsc(octets, None).hex()))
    # After escapes it may show the seven bits that are left over as one more "@".
    assert theirs["user_data"]["data"] in {text, text + "@"}
    assert theirs["user_data"]["header"]["elements"] == [
        {"iei": 0x70, "length": len(data), "data": data.hex()}
    ]


@given(octet, numbers, times, times, octet)
def test_status_reports_come_back(
    reference: int, number: Number, sent_at_s: float | None, done_at_s: float | None, status: int
) -> None:
    report = StatusReport(reference, number, sent_at_s, done_at_s, status)
    octets = encode_status_report(report)
    assert kind_of(octets) == "status_report"
    assert decode_status_report(octets + b"\x07\x00\x00\x00") == report


@given(st.binary(max_size=200))
def test_any_octets_give_a_value_or_a_tpdu_error(octets: bytes) -> None:
    for decode in (decode_submit, decode_deliver, decode_status_report, split_smsc, kind_of):
        try:
            decode(octets)
        except TpduError:
            continue


@given(contents(), st.data())
def test_a_tpdu_that_is_cut_off_is_an_error(content: dict[str, Any], data: st.DataObject) -> None:
    whole = encode_deliver(DELIVER._replace(**content))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(TpduError):
        decode_deliver(whole[:cut])


@given(st.binary(min_size=1, max_size=30), st.integers(0, 29), octet)
def test_a_changed_octet_is_a_value_or_an_error(text: bytes, at: int, value: int) -> None:
    octets = bytearray(encode_submit(SUBMIT._replace(data_coding=4, user_data=text)))
    octets[at % len(octets)] = value
    try:
        decode_submit(bytes(octets))
    except TpduError:
        return


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_data": b"a" * 161},
        {"user_data": b"\x80"},
        {"user_data": b"a" * 141, "data_coding": 4},
        {"user_data": b"a" * 142, "data_coding": 8},
        {"user_data": b"", "udhi": True},
        {"user_data": b"\x05abcd", "udhi": True},
        {"user_data": b"\x05\0\3\1\2\1" + b"a" * 154, "udhi": True},
        {"user_data": b"\x05\0\3\1\2\1" + b"a" * 135, "udhi": True, "data_coding": 4},
        {"destination": Number(1, 1, "1" * 21)},
        {"reference": 256},
        {"protocol_id": -1},
        {"data_coding": 256},
    ],
)
def test_what_no_submit_can_carry(wrong: dict[str, Any]) -> None:
    encode_submit(SUBMIT)
    with pytest.raises(TpduError):
        encode_submit(SUBMIT._replace(**wrong))


def test_user_data_that_is_longer_than_a_short_message() -> None:
    before = encode_deliver(DELIVER._replace(data_coding=4, user_data=b""))[:-1]
    assert len(decode_deliver(before + b"\x8c" + bytes(141)).user_data) == 140
    with pytest.raises(TpduError):
        decode_deliver(before + b"\x8d" + bytes(141))


def test_the_longest_submits() -> None:
    header = b"\x05\0\3\1\2\1"
    for user_data, dcs, udhi in (
        (b"a" * 160, 0, False),
        (header + b"a" * 153, 0, True),
        (b"a" * 140, 4, False),
        (header + b"a" * 134, 8, True),
    ):
        octets = encode_submit(SUBMIT._replace(user_data=user_data, data_coding=dcs, udhi=udhi))
        assert len(octets) == 2 + 8 + 2 + 1 + 140


def test_the_flags_are_where_the_specification_has_them() -> None:
    assert encode_submit(SUBMIT)[0] == 0x01
    assert encode_submit(SUBMIT._replace(reject_duplicates=True))[0] == 0x05
    assert encode_submit(SUBMIT._replace(validity_s=1))[0] == 0x11
    assert encode_submit(SUBMIT._replace(expires_at_s=1e9))[0] == 0x19
    assert encode_submit(SUBMIT._replace(report=True))[0] == 0x21
    assert encode_submit(SUBMIT._replace(udhi=True, user_data=b"\0"))[0] == 0x41
    assert encode_submit(SUBMIT._replace(reply_path=True))[0] == 0x81
    assert encode_deliver(DELIVER)[0] == 0x04
    assert encode_deliver(DELIVER._replace(more_to_send=True))[0] == 0x00
    assert encode_deliver(DELIVER._replace(report_wanted=True))[0] == 0x24


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (0x04, "deliver"), (0x44, "deliver"), (0x07, "deliver"), (0x01, "submit_report"),
        (0x06, "status_report"), (0x26, "status_report"),
    ],
)  # fmt: skip
def test_kinds(first: int, kind: str) -> None:
    assert kind_of(bytes((first,))) == kind


def test_another_kind_is_an_error() -> None:
    for decode, octets in (
        (decode_submit, encode_deliver(DELIVER)),
        (decode_deliver, encode_submit(SUBMIT)),
        (decode_status_report, encode_submit(SUBMIT)),
    ):
        with pytest.raises(TpduError):
            decode(octets)
    with pytest.raises(TpduError):
        kind_of(b"")


@pytest.mark.parametrize(
    ("smsc", "octets"),
    [
        (None, "00"),
        ("", "00"),
        ("+85290000000", "07915892000000F0"),
        ("+2782913593", "06917228195339"),
        ("12345", "04812143F5"),
    ],
)
def test_service_centres_in_front(smsc: str | None, octets: str) -> None:
    with_it = with_smsc(b"tpdu", smsc)
    assert with_it == bytes.fromhex(octets) + b"tpdu"
    number, tpdu = split_smsc(with_it)
    assert tpdu == b"tpdu"
    assert (number is None) == (not smsc)
    if number is not None and smsc is not None:
        assert ("+" if number.ton == 1 else "") + number.digits == smsc


@pytest.mark.parametrize("smsc", ["+", "not a number", "+44 7700", "1" * 21])
def test_a_service_centre_that_is_no_number(smsc: str) -> None:
    with pytest.raises(TpduError):
        with_smsc(b"", smsc)
