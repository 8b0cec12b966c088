from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import smpplib.smpp
from aiosmpplib.protocol import DeliverSm, SmppMessage
from hypothesis import given
from hypothesis import strategies as st
from smpplib.client import SimpleSequenceGenerator

from proxy.smpp import vocabulary as smpp
from proxy.smpp.multi import multi_destinations
from proxy.smpp.own_deliveries import Address, message_body, receipt_body, receipt_of
from proxy.smpp.pdu import SUBMIT, PduError, read_delivery
from proxy.smpp.receipt import parse_receipt
from proxy.smpp.rewrite import without_tlvs
from proxy.smpp.tlv import TlvError, find_tlv, pack_tlv
from proxy.smpp.vocabulary import STAT_OF_STATE, MessageState

SUBMITTED_AT = datetime(2026, 1, 15, 23, 59, 59, tzinfo=UTC).timestamp()
DONE_AT = datetime(2026, 1, 16, 0, 1, 0, tzinfo=UTC).timestamp()
SENDER = Address(5, 0, b"Pizza 24/7")
PHONE = Address(1, 1, b"447700900123")
OUR_ID = 17_000_000_000_000_001

OCTET = st.integers(0, 255)
ADDRESSES = st.builds(
    Address, OCTET, OCTET, st.binary(max_size=20).filter(lambda addr: b"\0" not in addr)
)


def receipt(state: MessageState = MessageState.DELIVERED, **values: Any) -> bytes:
    return receipt_body(
        PHONE, SENDER, "1234", state,
        **{"submitted_at_s": SUBMITTED_AT, "done_at_s": DONE_AT, **values},
    )  # fmt: skip


def framed(body: bytes) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in (16 + len(body), 5, 0, 1)) + body


# ------------------------------------------------------------------------------ a receipt


def test_a_receipt_octet_for_octet() -> None:
    text = (
        b"id:1234 sub:001 dlvrd:001 submit date:2601152359 done date:2601160001"
        b" stat:DELIVRD err:000 text:hello"
    )
    assert receipt(text=b"hello") == (
        b"\0" + b"\1\1" + b"447700900123\0" + b"\5\0" + b"Pizza 24/7\0"
        + b"\4\0\0" + b"\0\0" + b"\0\0\0\0" + bytes((len(text),)) + text
        + b"\x00\x1e\x00\x05" + b"1234\0" + b"\x04\x27\x00\x01\x02"
    )  # fmt: skip


@given(
    ADDRESSES,
    ADDRESSES,
    st.integers(0, 2**63 - 1),
    st.sampled_from(MessageState),
    st.integers(0, 999),
    st.binary(max_size=60),
)
def test_a_receipt_is_read_back(
    source: Address,
    destination: Address,
    message_id: int,
    state: MessageState,
    error: int,
    text: bytes,
) -> None:
    body = receipt_body(
        source,
        destination,
        str(message_id),
        state,
        error=f"{error:03d}",
        submitted_at_s=SUBMITTED_AT,
        done_at_s=DONE_AT,
        text=text,
    )
    values, _ = SUBMIT.split(body)
    assert (values[1] + values[2], values[3]) == (bytes(source[:2]), source.addr)
    assert (values[4] + values[5], values[6]) == (bytes(destination[:2]), destination.addr)
    delivery = read_delivery(smpp.DELIVER_SM, body)
    assert delivery.message_type == smpp.ESM_RECEIPT
    expected = (str(message_id), state, f"{error:03d}")
    assert parse_receipt(delivery.text, delivery.tlvs) == expected
    assert parse_receipt(delivery.text, b"") == expected
    of_3_3 = read_delivery(smpp.DELIVER_SM, without_tlvs(body))
    assert (of_3_3.text, of_3_3.tlvs) == (delivery.text, b"")


@pytest.mark.parametrize("state", MessageState)
def test_other_libraries_read_a_receipt(state: MessageState) -> None:
    body = receipt(state, error="034", text=b"hi: there id:9 stat:X")
    pdu = framed(body)
    expected = {
        "id": "1234", "sub": 1, "dlvrd": int(state == MessageState.DELIVERED),
        "submit date": datetime(2026, 1, 15, 23, 59), "done date": datetime(2026, 1, 16, 0, 1),
        "stat": STAT_OF_STATE[state], "err": 34, "text": "hi: there id:9 stat:",
    }  # fmt: skip
    theirs = DeliverSm.from_pdu(pdu, SmppMessage.parse_header(pdu), "gsm0338")
    assert isinstance(theirs, DeliverSm)
    assert theirs.parse_receipt() == expected
    assert (theirs.source.number, theirs.destination.number) == ("447700900123", "Pizza 24/7")

    other = smpplib.smpp.parse_pdu(pdu, client=SimpleSequenceGenerator())
    assert other.command == "deliver_sm"
    assert (other.source_addr, other.destination_addr) == (b"447700900123", b"Pizza 24/7")
    assert (other.receipted_message_id, other.message_state) == (b"1234", int(state))
    assert other.esm_class == 4
    assert parse_receipt(other.short_message, b"") == ("1234", state, "034")


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"", b""), (b"x" * 21, b"x" * 20), (b"a\0b\r\nc\x1b\xe9~ \x7f", b"a?b??c??~ ?")],
)
def test_the_beginning_of_the_text_is_readable(text: bytes, expected: bytes) -> None:
    assert read_delivery(smpp.DELIVER_SM, receipt(text=text)).text.endswith(b" text:" + expected)


def test_many_messages_long_ids_and_long_errors_fit() -> None:
    body = receipt_body(
        PHONE, SENDER, "9" * 99, MessageState.DELIVERED, error="e" * 99, sub=1234,
        submitted_at_s=SUBMITTED_AT, done_at_s=DONE_AT, text=b"t" * 99,
    )  # fmt: skip
    delivery = read_delivery(smpp.DELIVER_SM, body)
    assert delivery.text.startswith(b"id:" + b"9" * 64 + b" sub:999 dlvrd:999 ")
    assert delivery.text.endswith(b" err:" + b"e" * 32 + b" text:" + b"t" * 20)
    assert find_tlv(delivery.tlvs, 0x001E) == b"9" * 64 + b"\0"


# ------------------------------------------------------------------ the receipt of a message


def submit(text: bytes, data_coding: int = 0, esm_class: int = 0, tlvs: bytes = b"") -> bytes:
    return (
        b"CMT\0" + b"\5\0" + b"Pizza 24/7\0" + b"\1\1" + b"447700900123\0"
        + bytes((esm_class, 0, 0)) + b"\0\0" + bytes((1, 0, data_coding, 0, len(text)))
        + text + tlvs
    )  # fmt: skip


def data(tlvs: bytes, source: bytes = b"Pizza 24/7", data_coding: int = 0) -> bytes:
    return (
        b"CMT\0" + b"\5\0" + source + b"\0" + b"\1\1" + b"447700900123\0"
        + bytes((0, 1, data_coding)) + tlvs
    )  # fmt: skip


MULTI = (
    b"CMT\0" + b"\5\0" + b"Pizza 24/7\0" + b"\2" + b"\1\2\3" + b"4478\0"
    + b"\1\1\1" + b"447700900123\0" + b"\0\0\0" + b"\0\0" + b"\1\0\0\0\5hello"
)  # fmt: skip


def receipt_for(command_id: int, body: bytes, destination: int = 0) -> bytes:
    return receipt_of(
        command_id, body, OUR_ID, MessageState.EXPIRED, error="001",
        submitted_at_s=SUBMITTED_AT, done_at_s=DONE_AT, destination=destination,
    )  # fmt: skip


def expected_receipt(text: bytes, source: Address = PHONE, destination: Address = SENDER) -> bytes:
    return receipt_body(
        source, destination, str(OUR_ID), MessageState.EXPIRED, error="001",
        submitted_at_s=SUBMITTED_AT, done_at_s=DONE_AT, text=text,
    )  # fmt: skip


UDH = b"\x05\x00\x03\xcc\x02\x01"


@pytest.mark.parametrize(
    ("command_id", "body", "text"),
    [
        pytest.param(4, submit(b"hello"), b"hello", id="submit_sm"),
        pytest.param(4, submit(b"hello", 0x03), b"hello", id="Latin-1"),
        pytest.param(4, submit(b"hello", 0x10), b"hello", id="flash"),
        pytest.param(4, submit(b"hello", 0xF1), b"hello", id="class 1"),
        pytest.param(4, submit(b"hello", 0x04), b"", id="binary"),
        pytest.param(4, submit(b"\0h\0i", 0x08), b"", id="UCS-2"),
        pytest.param(4, submit(b"hello", 0xF5), b"", id="class 1, 8-bit"),
        pytest.param(4, submit(UDH + b"part", 0, 0x40), b"part", id="a part"),
        pytest.param(4, submit(b"\xff", 0, 0x40), b"?", id="a UDH that is none"),
        pytest.param(
            4, submit(b"", tlvs=pack_tlv(0x0424, b"long " * 99)), b"long " * 4, id="payload"
        ),
        pytest.param(4, submit(b"", tlvs=b"\4\x24\0\x09hi"), b"", id="a broken payload"),
        pytest.param(4, submit(b"hello")[:-2], b"hel", id="cut off"),
        pytest.param(smpp.DATA_SM, data(pack_tlv(0x0424, b"hello")), b"hello", id="data_sm"),
        pytest.param(smpp.DATA_SM, data(b""), b"", id="data_sm without a text"),
    ],
)
def test_the_receipt_of_a_message(command_id: int, body: bytes, text: bytes) -> None:
    assert receipt_for(command_id, body) == expected_receipt(text)


def test_the_receipt_of_one_destination_of_many() -> None:
    first = expected_receipt(b"hello", Address(2, 3, b"4478"))
    assert receipt_for(smpp.SUBMIT_MULTI, MULTI) == first
    assert receipt_for(smpp.SUBMIT_MULTI, MULTI, 1) == expected_receipt(b"hello")
    with pytest.raises(IndexError):
        receipt_for(smpp.SUBMIT_MULTI, MULTI, 2)


def test_a_longer_address_is_cut() -> None:
    receipt = receipt_for(smpp.DATA_SM, data(b"", source=b"Pizza " * 10))
    assert receipt == expected_receipt(b"", destination=Address(5, 0, b"Pizza Pizza Pizza Pi"))


@given(st.sampled_from([smpp.SUBMIT_SM, smpp.DATA_SM, smpp.SUBMIT_MULTI]), st.binary(max_size=90))
def test_garbage_is_a_pdu_error_at_most(command_id: int, body: bytes) -> None:
    try:
        made = receipt_for(command_id, body)
    except (PduError, IndexError):
        return
    delivery = read_delivery(smpp.DELIVER_SM, made)
    found = parse_receipt(delivery.text, delivery.tlvs)
    assert found == (str(OUR_ID), MessageState.EXPIRED, "001")


def test_where_the_destinations_of_a_submit_multi_are() -> None:
    destinations, at = multi_destinations(MULTI)
    assert destinations == [Address(2, 3, b"4478"), PHONE]
    assert MULTI[at:].endswith(b"\0\0\0" + b"\0\0" + b"\1\0\0\0\5hello")
    distribution_list = MULTI.replace(b"\1\2\3" + b"4478\0", b"\2" + b"list\0")
    with pytest.raises(PduError) as caught:
        multi_destinations(distribution_list)
    assert caught.value.status == smpp.ESME_RINVDESTFLAG
    for end in range(12, at):
        with pytest.raises(PduError):
            multi_destinations(MULTI[:end])


# ------------------------------------------------------------------------------ a message


@given(ADDRESSES, ADDRESSES, OCTET, OCTET, OCTET, st.binary(max_size=600))
def test_a_message_is_read_back(
    source: Address,
    destination: Address,
    esm_class: int,
    protocol_id: int,
    data_coding: int,
    text: bytes,
) -> None:
    body = message_body(
        source, destination, esm_class=esm_class, protocol_id=protocol_id,
        data_coding=data_coding, text=text,
    )  # fmt: skip
    values, at = SUBMIT.split(body)
    assert b"".join(values[1:3]) == bytes(source[:2])
    assert (values[3], values[6]) == (source.addr, destination.addr)
    assert values[7:9] == (bytes((esm_class,)), bytes((protocol_id,)))
    assert values[14] == bytes((data_coding,))
    if len(text) <= 254:
        assert body[at:] == text
        assert values[16] == bytes((len(text),))
    else:
        assert body[at:] == b"\x04\x24" + len(text).to_bytes(2, "big") + text
        assert values[16] == b"\0"


def test_255_octets_are_too_many_for_short_message() -> None:
    for octets, tlvs in ((254, b""), (255, b"\x04\x24\x00\xff" + b"x" * 255)):
        delivery = read_delivery(smpp.DELIVER_SM, message_body(PHONE, SENDER, text=b"x" * octets))
        assert (delivery.text, delivery.tlvs) == (b"x" * octets, tlvs)


def test_an_address_from_outside_ends_at_its_nul_and_after_20_octets() -> None:
    body = message_body(Address(5, 0, b"a\0b"), Address(1, 1, b"4" * 21), text=b"")
    assert body.startswith(b"\0\5\0a\0\1\1" + b"4" * 20 + b"\0\0\0\0")


def test_what_fits_nowhere_is_refused() -> None:
    assert len(message_body(SENDER, PHONE, text=b"x" * 65_535)) > 65_535
    with pytest.raises(TlvError):
        message_body(SENDER, PHONE, text=b"x" * 65_536)
    with pytest.raises(ValueError, match="range"):
        message_body(SENDER, PHONE, data_coding=256, text=b"")
