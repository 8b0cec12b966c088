from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.submissions import body_of

from proxy.gsm.alphabet import decode_text
from proxy.gsm.submit import number_of, short_messages, submits_of
from proxy.gsm.tpdu import Number, Submit, decode_submit, encode_submit
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import READERS, PduError
from proxy.smpp.udh import Concatenation, concatenation

UDHI = smpp.ESM_UDHI
EMOJI = "😀".encode("utf-16-be")
PORTS = bytes.fromhex("0605040B8423F0")


def no_reference() -> NoReturn:
    raise AssertionError("a message that is not split asks for a reference")


def submits(
    command_id: int = smpp.SUBMIT_SM,
    text: bytes = b"",
    *,
    new_reference: Callable[[], int] = no_reference,
    **values: Any,
) -> list[Submit]:
    found = submits_of(command_id, body_of(command_id, text, **values), new_reference=new_reference)
    for submit in found:  # whatever comes out can be sent
        assert decode_submit(encode_submit(submit)) == submit
    return found


def only(text: bytes, **values: Any) -> Submit:
    (submit,) = submits(smpp.SUBMIT_SM, text, **values)
    return submit


# --- fields ---------------------------------------------------------------------------------


def test_a_plain_message() -> None:
    assert only(b"hello @ \x00") == Submit(
        reference=0,
        destination=Number(1, 1, "447700900123"),
        protocol_id=0,
        data_coding=0,
        validity_s=None,
        report=False,
        udhi=False,
        reply_path=False,
        reject_duplicates=False,
        user_data=b"hello @ \x00",
    )


def test_the_fields_that_are_carried_over() -> None:
    submit = only(b"x", protocol_id=0x7F, esm_class=0x80, registered_delivery=1)
    assert (submit.protocol_id, submit.reply_path, submit.report) == (0x7F, True, True)
    (submit,) = submits_of(
        smpp.SUBMIT_SM, body_of(text=b"x"), new_reference=no_reference, validity_s=7200
    )
    assert submit.validity_s == 7200


@pytest.mark.parametrize(("asked", "report"), [(0, False), (1, True), (2, True), (0x10, False)])
def test_a_report_is_asked_for_when_a_receipt_is(asked: int, report: bool) -> None:
    assert only(b"x", registered_delivery=asked).report is report


def test_replace_if_present_does_not_overwrite_what_was_delivered() -> None:
    assert only(b"x", replace_if_present_flag=1).protocol_id == 0
    assert only(b"x", protocol_id=0x41).protocol_id == 0x41


def test_a_data_sm_has_its_text_in_message_payload() -> None:
    (submit,) = submits(smpp.DATA_SM, b"hello", registered_delivery=1, esm_class=0x80)
    assert submit.user_data == b"hello"
    assert submit.report
    assert submit.reply_path


def test_the_destinations_of_a_submit_multi() -> None:
    body = body_of(
        smpp.SUBMIT_MULTI,
        b"hi",
        destinations=((1, 1, b"111"), (0, 0, b"+222"), (2, 8, b"333")),
        registered_delivery=1,
        data_coding=4,
    )
    found = [
        submits_of(smpp.SUBMIT_MULTI, body, index, new_reference=no_reference)[0]
        for index in range(3)
    ]
    assert [submit.destination for submit in found] == [(1, 1, "111"), (1, 1, "222"), (2, 8, "333")]
    assert {(s.user_data, s.report, s.data_coding) for s in found} == {(b"hi", True, 4)}
    with pytest.raises(IndexError):
        submits_of(smpp.SUBMIT_MULTI, body, 3, new_reference=no_reference)


def test_a_number_in_place_of_the_bodys() -> None:
    body = body_of(text=b"x", destinations=((1, 1, b"447700900123"),))
    (submit,) = submits_of(smpp.SUBMIT_SM, body, Number(0, 1, "125"), new_reference=no_reference)
    assert submit.destination == Number(0, 1, "125")


@pytest.mark.parametrize(
    ("address", "number"),
    [
        ((1, 1, "447700900123"), Number(1, 1, "447700900123")),
        ((0, 0, "+447700900123"), Number(1, 1, "447700900123")),
        ((2, 1, "+447700900123"), Number(1, 1, "447700900123")),
        ((0, 0, "125"), Number(0, 1, "125")),
        ((2, 1, "07700900123"), Number(2, 1, "07700900123")),
        ((3, 9, "*100#"), Number(3, 9, "*100#")),
        ((6, 14, "1234"), Number(6, 1, "1234")),
        ((1, 6, "447700900123"), Number(1, 1, "447700900123")),
        ((0, 1, "12AbC"), Number(0, 1, "12abc")),
        ((1, 255, "1" * 20), Number(1, 1, "1" * 20)),
    ],
)
def test_destinations(address: tuple[int, int, str], number: Number) -> None:
    assert number_of(*address) == number


@pytest.mark.parametrize(
    "address",
    [
        (5, 0, "Somebody"), (5, 0, "447700900123"), (5, 0, "+447700900123"), (1, 1, ""),
        (1, 1, "+"), (1, 1, "++44"), (1, 1, "44 7700"), (1, 1, "44,45"), (1, 1, "12\n"),
        (1, 1, "1" * 21), (7, 1, "1"), (255, 1, "1"), (1, 1, "4\xb2"),
    ],
)  # fmt: skip
def test_destinations_that_no_tpdu_can_have(address: tuple[int, int, str]) -> None:
    with pytest.raises(PduError) as refused:
        number_of(*address)
    assert refused.value.status == smpp.ESME_RINVDSTADR


@given(st.sampled_from(sorted(READERS)), st.binary(max_size=120))
def test_any_body_is_sent_or_refused(command_id: int, body: bytes) -> None:
    try:
        submits_of(command_id, body, new_reference=int)
        short_messages(command_id, body)
    except PduError:
        pass
    except IndexError:
        assert command_id == smpp.SUBMIT_MULTI


# --- alphabets ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data_coding", "text", "dcs", "shown"),
    [
        (0x00, b"a\x1be\x80\xe9", 0x00, "a€??"),
        (0x01, b"mail@example.com {1}", 0x00, "mail@example.com {1}"),
        (0x01, b"back`tick", 0x08, "back`tick"),
        (0x01, b"\xe9t\xe9", 0x00, "été"),
        (0x01, b"na\xefve", 0x08, "naïve"),
        (0x01, b"`" * 71, 0x00, "?" * 71),  # in UCS-2 it would be two
        (0x03, b"\xe9t\xe9 @ [~]", 0x00, "été @ [~]"),
        (0x03, b"na\xefve", 0x08, "naïve"),
        (0x05, "日本".encode("iso2022_jp"), 0x08, "日本"),
        (0x06, "Привет".encode("iso8859_5"), 0x08, "Привет"),
        (0x07, "שלום".encode("iso8859_8"), 0x08, "שלום"),
        (0x08, "Žluť 😀".encode("utf-16-be"), 0x08, "Žluť 😀"),
        (0x0A, "日本".encode("iso2022_jp"), 0x08, "日本"),
        (0x0D, "丂本".encode("iso2022_jp_1"), 0x08, "丂本"),  # the first in JIS X 0212 only
        (0x0E, "한국".encode("euc_kr"), 0x08, "한국"),
        (0x10, b"flash\x1b\xff", 0x10, "flash?"),
        (0x11, b"me", 0x11, "me"),
        (0x18, "Blitz ß".encode("utf-16-be"), 0x18, "Blitz ß"),
        (0xF0, b"flash", 0xF0, "flash"),
        (0xC8, b"1 voice mail", 0xC8, "1 voice mail"),
        (0xD0, b"1 fax", 0xD0, "1 fax"),
        (0xE8, "1 е-mail".encode("utf-16-be"), 0xE8, "1 е-mail"),
    ],
)
def test_texts(data_coding: int, text: bytes, dcs: int, shown: str) -> None:
    submit = only(text, data_coding=data_coding)
    assert submit.data_coding == dcs
    assert decode_text(submit.user_data, dcs) == shown


@pytest.mark.parametrize(
    ("data_coding", "text", "dcs"),
    [
        (0x02, bytes(range(140)), 0x04), (0x04, bytes(range(116, 256)), 0x04),
        (0x09, b"\xff\0", 0x04), (0x0B, b"\xff\0", 0x04), (0x0C, b"\xff\0", 0x04),
        (0x0F, b"\xff\0", 0x04), (0x14, b"\xff\0", 0x14), (0xF5, b"\xff\0", 0xF5),
        (0x20, b"\xff\0", 0x20),  # compressed: not looked into
        (0x05, b"\x1b$B\xff", 0x04), (0x0E, b"\xff\xff", 0x04),  # can't be read
    ],
)  # fmt: skip
def test_data_stays_octet_for_octet(data_coding: int, text: bytes, dcs: int) -> None:
    submit = only(text, data_coding=data_coding)
    assert (submit.data_coding, submit.user_data) == (dcs, text)


# --- long messages --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "data_coding", "parts"),
    [
        (b"a" * 161, 0x00, [153, 8]),
        (b"a" * 152 + b"\x1be" * 5, 0x00, [152, 10]),  # an escape is not cut off
        (b"a" * 151 + b"\x1b\x1bb" + b"c" * 8, 0x00, [153, 9]),  # a pair of escapes ends there
        (b"a" * 141, 0x04, [134, 7]),
        ("й".encode("utf-16-be") * 71, 0x08, [134, 8]),
        (b"\0a" * 66 + EMOJI * 3, 0x08, [132, 12]),  # nor a pair of surrogates
        (b"\0a" * 70 + b"\0", 0x08, [134, 7]),
        (b"[" * 81, 0x01, [152, 10]),
        (b"\xef" * 71, 0x03, [134, 8]),
        (b"a" * 161, 0x10, [153, 8]),
    ],
)
def test_long_messages_are_cut_between_characters(
    text: bytes, data_coding: int, parts: list[int]
) -> None:
    found = submits(smpp.SUBMIT_SM, payload=text, data_coding=data_coding, new_reference=lambda: 7)
    assert [len(submit.user_data) - 6 for submit in found] == parts
    assert [concatenation(submit.user_data) for submit in found] == [
        Concatenation(7, len(parts), number) for number in range(1, len(parts) + 1)
    ]
    assert all(submit.udhi for submit in found)
    assert len({submit.data_coding for submit in found}) == 1


def test_a_reference_is_asked_for_once_and_has_eight_bits() -> None:
    references = itertools.count(0x1FE)
    found = submits(smpp.SUBMIT_SM, payload=b"a" * 400, new_reference=lambda: next(references))
    assert {submit.user_data[:5] for submit in found} == {b"\x05\0\3\xfe\3"}
    assert next(references) == 0x1FF


def test_more_parts_than_a_header_can_count() -> None:
    most = b"a" * (153 * 255)
    assert len(submits(smpp.DATA_SM, most, new_reference=lambda: 1)) == 255
    with pytest.raises(PduError) as refused:
        submits(smpp.DATA_SM, most + b"a", new_reference=lambda: 1)
    assert refused.value.status == smpp.ESME_RINVMSGLEN


# --- headers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "text", "data_coding", "dcs"),
    [
        ("050003A50301", b"a" * 153, 0x00, 0x00),
        ("06080412340302", b"a" * 152, 0x00, 0x00),
        ("0605040B8423F0", bytes(range(133)), 0x04, 0x04),
        ("0605040B8423F0", bytes(range(133)), 0x02, 0x04),
        ("0605040B8423F0", b"a" * 133, 0xF5, 0xF5),
        ("050003A50301", "й".encode("utf-16-be") * 67, 0x08, 0x08),
        ("03240101", b"a" * 155, 0x00, 0x00),  # Turkish: the septets are the client's
        ("00", b"a" * 158, 0x00, 0x00),
        ("0A05040B8423F00003A50301", b"", 0x04, 0x04),
        ("0401", b"broken elements", 0x04, 0x04),
    ],
)
def test_the_clients_header_is_kept(header: str, text: bytes, data_coding: int, dcs: int) -> None:
    octets = bytes.fromhex(header)
    submit = only(octets + text, data_coding=data_coding, esm_class=UDHI)
    assert submit.udhi
    assert (submit.user_data, submit.data_coding) == (octets + text, dcs)


def test_a_text_behind_a_header_is_converted_and_the_header_not() -> None:
    header = bytes.fromhex("050003E95B01")  # 0xE9 and 0x5B are é and [ in a text
    submit = only(header + b"\xe9[", data_coding=0x03, esm_class=UDHI)
    assert submit.user_data == header + b"\x05\x1b\x3c"
    submit = only(header + b"na\xefve", data_coding=0x03, esm_class=UDHI)
    assert submit.user_data == header + "naïve".encode("utf-16-be")
    submit = only(header + b"`" * 67, data_coding=0x01, esm_class=UDHI)
    assert submit.data_coding == 0x08
    submit = only(header + b"`" * 68, data_coding=0x01, esm_class=UDHI)
    assert submit.user_data == header + b"?" * 68


@pytest.mark.parametrize(
    ("text", "data_coding"),
    [
        (b"\x05\0\3\1\2\1" + b"a" * 154, 0x00),
        (b"\x05\0\3\1\2\1" + b"a" * 135, 0x04),
        (b"\x05\0\3\1\2\1" + b"\0a" * 68, 0x08),
        (b"\x05\0\3\1\2\1" + b"\xef" * 68, 0x03),
        (PORTS + b"a" * 200, 0x04),
        (b"", 0x00),
        (b"\x05\0\3", 0x00),
        (b"\xff" * 140, 0x04),
    ],
)
def test_a_header_and_a_text_that_do_not_fit(text: bytes, data_coding: int) -> None:
    with pytest.raises(PduError) as refused:
        submits(smpp.SUBMIT_SM, payload=text, data_coding=data_coding, esm_class=UDHI)
    assert refused.value.status == smpp.ESME_RINVMSGLEN


@pytest.mark.parametrize(("reference", "octet"), [(0x12, 0x12), (0x1234, 0x34), (0xFFFF, 0xFF)])
def test_sar_parameters_become_a_header(reference: int, octet: int) -> None:
    submit = only(b"a" * 153, sar=(reference, 3, 2))
    assert submit.user_data == bytes((5, 0, 3, octet, 3, 2)) + b"a" * 153
    with pytest.raises(PduError):
        only(b"a" * 154, sar=(reference, 3, 2))


def test_sar_parameters_that_say_nothing() -> None:
    assert only(b"a" * 160, sar=(1, 1, 1)).udhi is False
    assert only(b"a" * 160, sar=(1, 3, 4)).udhi is False
    assert len(submits(smpp.DATA_SM, b"a" * 161, sar=(1, 3, 4), new_reference=lambda: 9)) == 2


def test_sar_parameters_beside_a_header() -> None:
    joined = only(PORTS + b"data", data_coding=4, esm_class=UDHI, sar=(9, 2, 1))
    assert joined.user_data == b"\x0b" + PORTS[1:] + b"\0\3\x09\2\1data"
    own = b"\x05\0\3\x42\2\2"
    assert only(own + b"x", esm_class=UDHI, sar=(9, 2, 1)).user_data == own + b"x"
    alone = b"\x05\0\3\x42\1\1"  # its one part is no part, and the header has the say
    assert only(alone + b"x", esm_class=UDHI, sar=(9, 2, 1)).user_data == alone + b"x"
    broken = b"\x02\0\3"
    assert only(broken + b"x", esm_class=UDHI, sar=(9, 2, 1)).user_data == broken + b"x"
    with pytest.raises(PduError):
        only(PORTS + bytes(130), data_coding=4, esm_class=UDHI, sar=(9, 2, 1))
