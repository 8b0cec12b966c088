from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.smpp.receipt import IdFormat, Receipt, parse_receipt, receipt_key, rewrite_receipt_id
from proxy.smpp.tlv import pack_tlv
from proxy.smpp.vocabulary import (
    STAT_OF_STATE,
    TAG_MESSAGE_STATE,
    TAG_NETWORK_ERROR_CODE,
    TAG_RECEIPTED_MESSAGE_ID,
    MessageState,
)

APPENDIX_B = (
    b"id:0123456789 sub:001 dlvrd:001 submit date:2601151200 done date:2601151201"
    b" stat:DELIVRD err:000 Text:hello"
)
ID = pack_tlv(TAG_RECEIPTED_MESSAGE_ID, b"1A2B\0")
STATE = pack_tlv(TAG_MESSAGE_STATE, b"\x05")
NETWORK_ERROR = pack_tlv(TAG_NETWORK_ERROR_CODE, b"\x03\x00\x22")
AT = datetime(2026, 1, 15, 12, 0, 59)

STATES = MessageState


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(APPENDIX_B, ("0123456789", STATES.DELIVERED, "000"), id="appendix B"),
        pytest.param(
            b"err:1A stat:UNDELIV done date:2601151201 id:ab-7.@x sub:001",
            ("ab-7.@x", STATES.UNDELIVERABLE, "1A"),
            id="another order",
        ),
        pytest.param(
            b"ID: 12 SUB: 001 STAT: expired ERR: 042",
            ("12", STATES.EXPIRED, "042"),
            id="case and spaces",
        ),
        pytest.param(b"Id : 12\tStat :Rejectd", ("12", STATES.REJECTED, ""), id="blank and colon"),
        pytest.param(
            b"id:12,sub:001,dlvrd:001,stat:DELETED,err:7,text:x",
            ("12", STATES.DELETED, "7"),
            id="commas",
        ),
        pytest.param(b"id:12;stat:ACCEPTD;err:7;", ("12", STATES.ACCEPTED, "7"), id="semicolons"),
        pytest.param(b"id:12", ("12", None, ""), id="only an id"),
        pytest.param(b"id:12\0", ("12", None, ""), id="NUL at the end"),
        pytest.param(b"id:\xe9", ("é", None, ""), id="not ASCII"),
        pytest.param(b"id:12 stat: err: text:", ("12", None, ""), id="empty fields"),
        pytest.param(b"id:12 stat:err:5", ("12", None, "5"), id="empty field, no blank"),
        pytest.param(b"id:12 stat:WEIRD", ("12", None, ""), id="unknown word"),
        pytest.param(b"msgid:9 id:12 text:id:13", ("12", None, ""), id="the first id"),
    ],
)
def test_text(text: bytes, expected: Receipt) -> None:
    assert parse_receipt(text, b"") == expected


@pytest.mark.parametrize(
    "text",
    [b"", b"hello", b"id:", b"id: ", b"id:,", b"id: sub:001 stat:DELIVRD", b"msgid:9", b"valid:9"],
)
def test_without_an_id_it_is_none(text: bytes) -> None:
    assert parse_receipt(text, STATE + NETWORK_ERROR) is None
    assert rewrite_receipt_id(text, b"new") == text


@pytest.mark.parametrize("state", MessageState)
def test_every_state_as_word_name_and_number(state: MessageState) -> None:
    for word in (STAT_OF_STATE[state], STAT_OF_STATE[state].lower(), state.name):
        receipt = parse_receipt(b"id:1 stat:" + word.encode(), b"")
        assert receipt is not None
        assert receipt.state is state
    receipt = parse_receipt(b"id:1", pack_tlv(TAG_MESSAGE_STATE, bytes((state,))))
    assert receipt is not None
    assert receipt.state is state


def test_tlvs_go_before_the_text_but_for_the_error() -> None:
    both = parse_receipt(APPENDIX_B, ID + STATE + NETWORK_ERROR)
    assert both == ("1A2B", MessageState.UNDELIVERABLE, "000")
    only = parse_receipt(b"", NETWORK_ERROR + STATE + ID)
    assert only == ("1A2B", MessageState.UNDELIVERABLE, "034")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"77", "77"),
        (b"77\0", "77"),
        (b"77\0\0x", "77"),
        (b"\0", "0123456789"),
        (b"", "0123456789"),
    ],
)
def test_receipted_message_id_ends_at_its_nul(value: bytes, expected: str) -> None:
    receipt = parse_receipt(APPENDIX_B, pack_tlv(TAG_RECEIPTED_MESSAGE_ID, value))
    assert receipt is not None
    assert receipt.smsc_message_id == expected


@pytest.mark.parametrize("value", [b"", b"\0", b"\x09", b"\xff" * 9])
def test_a_message_state_that_is_none_leaves_the_word(value: bytes) -> None:
    receipt = parse_receipt(APPENDIX_B, pack_tlv(TAG_MESSAGE_STATE, value))
    assert receipt is not None
    assert receipt.state is MessageState.DELIVERED


@pytest.mark.parametrize("value", [b"", b"\x03\x00", b"\x03\x00\x22\x00"])
def test_a_network_error_code_of_another_length_says_nothing(value: bytes) -> None:
    assert parse_receipt(b"id:1", pack_tlv(TAG_NETWORK_ERROR_CODE, value)) == ("1", None, "")


def test_tlvs_in_front_of_a_truncated_one_count() -> None:
    assert parse_receipt(b"", ID + STATE[:-1]) == ("1A2B", None, "")
    assert parse_receipt(APPENDIX_B, ID[:-1] + STATE) is not None


@given(
    st.binary()
    | st.lists(st.sampled_from([b"id", b":", b" ", b"stat", b"a", b"\0"])).map(b"".join),
    st.binary() | st.binary(max_size=9).map(lambda octets: ID[:4] + octets),
)
def test_garbage_never_raises_and_an_id_is_never_empty(text: bytes, tlvs: bytes) -> None:
    receipt = parse_receipt(text, tlvs)
    assert receipt is None or receipt.smsc_message_id.strip("\0")
    assert receipt is None or "\0" not in receipt.smsc_message_id + receipt.error


@pytest.mark.parametrize("pattern", [b" ", b"id", b"id ", b"id:", b"id: ", b"id:sub ", b"stat :"])
def test_64_kib_are_read_in_a_moment(pattern: bytes) -> None:
    for text in ((pattern * 0x10000)[:0xFFFF], b"id:" + pattern + b" " * 0xFFF0):
        before = time.process_time()
        parse_receipt(text, b"\0" * 0xFFFF)
        rewrite_receipt_id(text, b"1")
        assert time.process_time() - before < 0.2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (APPENDIX_B, APPENDIX_B.replace(b"0123456789", b"\\1\\g<0>")),
        (b"err:1,ID:  9f,x:\0\xff\x1b", b"err:1,ID:  \\1\\g<0>,x:\0\xff\x1b"),
        (b"sub:9 id:9 text:id:9", b"sub:9 id:\\1\\g<0> text:id:9"),
    ],
)
def test_rewrite_changes_the_first_id_and_no_other_octet(text: bytes, expected: bytes) -> None:
    assert rewrite_receipt_id(text, b"\\1\\g<0>") == expected


@given(st.binary(), st.binary())
def test_rewrite_meets_parse(before: bytes, after: bytes) -> None:
    text = before + b" id:1234 " + after
    rewritten = rewrite_receipt_id(text, b"new")
    receipt = parse_receipt(rewritten, b"")
    assert receipt is not None
    assert receipt.smsc_message_id == "new"
    old = parse_receipt(text, b"")
    assert old is not None
    assert rewrite_receipt_id(rewritten, old.smsc_message_id.encode("latin-1")) == text


@pytest.mark.parametrize(
    ("smsc_message_id", "id_format", "expected"),
    [
        ("00ff", "as_is", "00ff"),
        ("00ff", "hex", "255"),
        ("00FF", "hex", "255"),
        ("10", "hex", "16"),
        ("0000255", "decimal", "255"),
        ("0", "decimal", "0"),
        ("000", "hex", "0"),
        ("f" * 64, "hex", str(16**64 - 1)),
    ],
)
def test_receipt_key(smsc_message_id: str, id_format: IdFormat, expected: str) -> None:
    assert receipt_key(smsc_message_id, id_format) == expected


@given(st.integers(0, 10**19), st.integers(0, 40))
def test_a_hex_response_and_a_decimal_receipt_meet(number: int, zeros: int) -> None:
    response = receipt_key("0" * zeros + f"{number:x}", "hex")
    assert response == receipt_key("0" * zeros + str(number), "decimal")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 12",
        "12\n",
        "+12",
        "-12",
        "1_2",
        "0x12",
        "\u0661\u0662",
        "12g",
        "1.2",
        "9" * 65,
        "9" * 9999,
    ],
)
def test_what_is_no_number_stays(text: str) -> None:
    assert receipt_key(text, "hex") == text
    assert receipt_key(text, "decimal") == text


def test_letters_are_no_decimal_number() -> None:
    assert receipt_key("00ff", "decimal") == "00ff"
