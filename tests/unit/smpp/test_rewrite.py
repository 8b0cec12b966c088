from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import PduError
from proxy.smpp.rewrite import (
    operation_message_id,
    receipt_for_client,
    text_position,
    with_message_id,
    without_tlvs,
)
from proxy.smpp.tlv import pack_tlv

OUR_ID = 17_000_000_000_000_001
OURS = b"%d" % OUR_ID
ADDRESSES = b"\1\1" + b"447700900123\0" + b"\5\0" + b"Sh\xf6p\0"
IDS = st.from_regex(rb"\A[0-9A-Za-z-]{1,30}\Z")
TEXT = st.binary(max_size=60).filter(lambda text: b"id" not in text.lower())
TLVS = st.lists(
    st.tuples(st.sampled_from([0x0427, 0x0423, 0x1400, 0x2150]), st.binary(max_size=9)), max_size=4
).map(lambda tlvs: b"".join(pack_tlv(tag, value) for tag, value in tlvs))


def deliver(text: bytes, tlvs: bytes = b"", esm_class: int = 4) -> bytes:
    return (
        b"\0" + ADDRESSES + bytes((esm_class, 0, 0)) + b"\0\0" + bytes((0, 0, 3, 0, len(text)))
        + text + tlvs
    )  # fmt: skip


@given(IDS, TEXT, TEXT, TLVS, TLVS)
def test_a_receipt_changes_in_its_two_ids_and_nowhere_else(
    their_id: bytes, before: bytes, after: bytes, tlvs: bytes, more_tlvs: bytes
) -> None:
    def body(message_id: bytes) -> bytes:
        return deliver(
            before + b" id:" + message_id + b" stat:DELIVRD " + after,
            tlvs + pack_tlv(0x001E, message_id + b"\0") + more_tlvs,
        )

    assert receipt_for_client(smpp.DELIVER_SM, body(their_id), OUR_ID) == body(OURS)


@given(IDS, TLVS)
def test_a_receipt_in_message_payload_changes_in_its_two_ids(their_id: bytes, tlvs: bytes) -> None:
    def rest(message_id: bytes) -> bytes:
        return (
            pack_tlv(0x0424, b"id:" + message_id + b" sub:001 stat:DELIVRD" + b"." * 300)
            + tlvs
            + pack_tlv(0x001E, message_id + b"\0")
        )

    changed = receipt_for_client(smpp.DELIVER_SM, deliver(b"", rest(their_id)), OUR_ID)
    assert changed == deliver(b"", rest(OURS))
    head = b"\0" + ADDRESSES + b"\4\0\0"  # a data_sm
    assert receipt_for_client(smpp.DATA_SM, head + rest(their_id), OUR_ID) == head + rest(OURS)


def test_a_receipt_without_an_id_in_its_text_keeps_the_text() -> None:
    body = deliver(b"delivered", pack_tlv(0x001E, b"abc\0"))
    expected = deliver(b"delivered", pack_tlv(0x001E, OURS + b"\0"))
    assert receipt_for_client(smpp.DELIVER_SM, body, OUR_ID) == expected


def test_a_receipt_that_grows_too_long_loses_its_end_not_its_beginning() -> None:
    text = b"id:1 stat:DELIVRD text:" + b"x" * 230
    changed = receipt_for_client(smpp.DELIVER_SM, deliver(text), OUR_ID)
    assert changed == deliver((b"id:" + OURS + text[4:])[:254])


def test_a_broken_parameter_stream_is_kept_and_the_text_carries_the_id() -> None:
    broken = b"\x00\x1e\x00\x09abc"
    changed = receipt_for_client(smpp.DELIVER_SM, deliver(b"id:7 stat:X", broken), OUR_ID)
    assert changed == deliver(b"id:" + OURS + b" stat:X", broken)


@given(st.binary(max_size=254), TLVS)
def test_where_the_text_stands(text: bytes, tlvs: bytes) -> None:
    body = deliver(text, tlvs)
    at, length = text_position(smpp.DELIVER_SM, body)
    assert body[at : at + length] == text
    assert body[at + length :] == tlvs


@given(st.binary(max_size=254).filter(bool), TLVS)
def test_a_client_of_3_3_gets_no_tlvs(text: bytes, tlvs: bytes) -> None:
    assert without_tlvs(deliver(text, tlvs)) == deliver(text)


@given(st.binary(min_size=1, max_size=600), TLVS, TLVS)
def test_a_client_of_3_3_gets_a_payload_as_text(text: bytes, before: bytes, after: bytes) -> None:
    body = deliver(b"", before + pack_tlv(0x0424, text) + after)
    assert without_tlvs(body) == deliver(text[:254])


@pytest.mark.parametrize("tlvs", [b"", b"\x04", b"\x04\x24\x00\x09abc", pack_tlv(0x0424, b"")])
def test_a_client_of_3_3_gets_an_empty_text_when_there_is_none(tlvs: bytes) -> None:
    assert without_tlvs(deliver(b"", tlvs)) == deliver(b"")


# ------------------------------------------------------------------------------ operations

OPERATIONS = {
    smpp.QUERY_SM: (b"", b"\1\1" + b"123\0"),
    smpp.CANCEL_SM: (b"CMT\0", b"\1\1" + b"123\0" + b"\1\1" + b"4477\0"),
    smpp.REPLACE_SM: (b"", b"\1\1" + b"123\0" + b"\0\0" + b"\1\0\3new"),
}


@pytest.mark.parametrize("command_id", OPERATIONS)
@given(ours=IDS, theirs=IDS, rest=st.binary(max_size=30))
def test_an_operation_changes_in_its_message_id_and_nowhere_else(
    command_id: int, ours: bytes, theirs: bytes, rest: bytes
) -> None:
    before, after = OPERATIONS[command_id]
    body = before + ours + b"\0" + after + rest
    assert operation_message_id(command_id, body) == ours.decode()
    changed = with_message_id(command_id, body, theirs.decode())
    assert changed == before + theirs + b"\0" + after + rest


@pytest.mark.parametrize("command_id", OPERATIONS)
def test_a_malformed_operation_is_refused_by_field(command_id: int) -> None:
    before, after = OPERATIONS[command_id]
    with pytest.raises(PduError) as caught:
        operation_message_id(command_id, before + b"1" * 65 + b"\0" + after)
    assert (caught.value.field, caught.value.status) == ("message_id", 0x0C)
    with pytest.raises(PduError) as caught:
        with_message_id(command_id, before + b"1\0\1", "2")
    assert caught.value.status == 0x02
