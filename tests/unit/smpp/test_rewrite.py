from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import PduError, read_submit_sm
from proxy.smpp.rewrite import (
    cancel_addresses,
    operation_message_id,
    out_of_queue,
    receipt_for_client,
    replaced,
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


def test_what_a_cancel_sm_is_about() -> None:
    body = b"CMT\0" + b"17\0" + b"\1\1" + b"Sh\xf6p\0" + b"\1\1" + b"4477\0"
    assert cancel_addresses(body) == ("17", "CMT", "Shöp", "4477")
    assert cancel_addresses(b"\0\0\1\1\0\1\1\0") == ("", "", "", "")
    with pytest.raises(PduError):
        cancel_addresses(body[:-1])


# ---------------------------------------------------------------------- out of the queue

SCHEDULES = st.sampled_from([b"", b"261123130000000+", b"000001000000000R"])
ABSOLUTE = st.sampled_from([b"", b"261124130000000+", b"261124130000028-"])
RELATIVE = st.sampled_from([b"000007000000000R", b"010203040506000R"])
FLAGS = st.binary(min_size=4, max_size=4)


def queued(
    command_id: int, flags: bytes, schedule: bytes, validity: bytes, text: bytes, tlvs: bytes = b""
) -> bytes:
    addresses = ADDRESSES
    if command_id == smpp.SUBMIT_MULTI:
        addresses = b"\1\1" + b"123\0" + b"\2" + b"\1\1\1" + b"4477\0" + b"\1\5\0" + b"x\0"
    return (
        b"CMT\0" + addresses + b"\3\x7f\1" + schedule + b"\0" + validity + b"\0" + flags
        + bytes((len(text),)) + text + tlvs
    )  # fmt: skip


@pytest.mark.parametrize("command_id", [smpp.SUBMIT_SM, smpp.SUBMIT_MULTI])
@given(SCHEDULES, ABSOLUTE, RELATIVE, FLAGS, st.binary(max_size=254), TLVS)
def test_out_of_the_queue_the_times_change_and_nothing_else(
    command_id: int,
    schedule: bytes,
    absolute: bytes,
    relative: bytes,
    flags: bytes,
    text: bytes,
    tlvs: bytes,
) -> None:
    def of(schedule: bytes, validity: bytes) -> bytes:
        return queued(command_id, flags, schedule, validity, text, tlvs)

    for left_s in (None, 4000.5):
        assert out_of_queue(command_id, of(schedule, absolute), left_s) == of(b"", absolute)
    assert out_of_queue(command_id, of(schedule, relative), None) == of(b"", relative)
    changed = out_of_queue(command_id, of(schedule, relative), 4000.5)
    assert changed == of(b"", b"000000010641000R")


@given(TLVS, TLVS)
def test_out_of_the_queue_a_data_sm_has_less_to_live(before: bytes, after: bytes) -> None:
    def of(qos: bytes) -> bytes:
        return b"CMT\0" + ADDRESSES + b"\0\1\4" + before + qos + after

    day = pack_tlv(0x0017, b"\0\1\x51\x80")
    assert out_of_queue(smpp.DATA_SM, of(day), None) == of(day)
    assert out_of_queue(smpp.DATA_SM, of(b""), 5) == of(b"")
    for left_s, left in ((4000.5, b"\0\0\x0f\xa1"), (-1, b"\0\0\0\1"), (1e12, b"\xff" * 4)):
        assert out_of_queue(smpp.DATA_SM, of(day), left_s) == of(pack_tlv(0x0017, left))


def test_out_of_the_queue_a_malformed_body_is_a_pdu_error() -> None:
    for command_id in (smpp.SUBMIT_SM, smpp.SUBMIT_MULTI, smpp.DATA_SM):
        with pytest.raises(PduError):
            out_of_queue(command_id, b"CMT\0\1", 1)
    with pytest.raises(PduError) as caught:
        out_of_queue(smpp.DATA_SM, b"CMT\0" + ADDRESSES + b"\0\1\4" + b"\0\x17\0\4", 1)
    assert caught.value.status == 0xC0


# ------------------------------------------------------------------------------- replaced


def operation(
    text: bytes, schedule: bytes = b"", validity: bytes = b"", flags: bytes = b"\1\0",
    tlvs: bytes = b"",
) -> bytes:  # fmt: skip
    return (
        b"17\0" + b"\1\1" + b"123\0" + schedule + b"\0" + validity + b"\0" + flags
        + bytes((len(text),)) + text + tlvs
    )  # fmt: skip


def payload(text: bytes) -> bytes:
    return pack_tlv(0x0424, text)


@pytest.mark.parametrize("command_id", [smpp.SUBMIT_SM, smpp.SUBMIT_MULTI])
@given(
    old=st.binary(max_size=254),
    new=st.binary(max_size=254),
    flags=FLAGS,
    new_flags=st.binary(min_size=2, max_size=2),
    schedule=SCHEDULES,
    validity=RELATIVE | ABSOLUTE,
    tlvs=TLVS,
)
def test_replaced_what_the_operation_says_and_nothing_else(
    command_id: int,
    old: bytes,
    new: bytes,
    flags: bytes,
    new_flags: bytes,
    schedule: bytes,
    validity: bytes,
    tlvs: bytes,
) -> None:
    body = queued(command_id, flags, b"261201000000000+", b"000009000000000R", old, tlvs)
    changed = replaced(command_id, body, operation(new, schedule, validity, new_flags))
    assert changed == queued(
        command_id,
        bytes((new_flags[0], flags[1], flags[2], new_flags[1])),
        schedule or b"261201000000000+",
        validity or b"000009000000000R",
        new,
        tlvs,
    )


@given(TLVS, TLVS, st.binary(min_size=1, max_size=300))
def test_replaced_there_is_one_text(before: bytes, after: bytes, new: bytes) -> None:
    def of(text: bytes, tlvs: bytes) -> bytes:
        return queued(smpp.SUBMIT_SM, b"\1\0\0\0", b"", b"", text, tlvs)

    def change(text: bytes, tlvs: bytes, by: bytes) -> bytes:
        return replaced(smpp.SUBMIT_SM, of(text, tlvs), by)

    in_payload = operation(b"", tlvs=pack_tlv(0x1400, b"not theirs") + payload(new))
    long = before + payload(b"old" * 100) + after
    assert change(b"", long, in_payload) == of(b"", before + payload(new) + after)
    assert change(b"old", before, in_payload) == of(b"", before + payload(new))
    assert change(b"", long, operation(new[:254])) == of(new[:254], before + after)
    assert change(b"", long, operation(b"")) == of(b"", before + after)
    twice = payload(b"a") + before + payload(b"b")
    assert change(b"", twice, in_payload) == of(b"", payload(new) + before)


@pytest.mark.parametrize(
    ("command_id", "body", "by", "status"),
    [
        pytest.param(smpp.DATA_SM, b"\0\1\1\0\1\1\0\0\0\0", operation(b"new"), 0x13, id="data_sm"),
        pytest.param(
            4, queued(4, b"\0\0\0\0", b"", b"", b"hi"), operation(b"new", tlvs=payload(b"new")),
            0x13, id="two texts",
        ),
        pytest.param(
            4, queued(4, b"\0\0\0\0", b"", b"", b"hi"),
            operation(b"", tlvs=payload(b"1") + payload(b"2")), 0x13, id="two payloads",
        ),
        pytest.param(
            4, queued(4, b"\0\0\0\0", b"", b"", b"hi"), operation(b"new")[:-1], 1, id="cut off",
        ),
        pytest.param(
            4, queued(4, b"\0\0\0\0", b"", b"", b"hi"), operation(b"new", tlvs=b"\4"), 0xC0,
            id="broken parameters",
        ),
        pytest.param(
            4, queued(4, b"\0\0\0\0", b"", b"", b"hi", b"\4"), operation(b"new"), 0xC0,
            id="broken parameters before",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_replaced(command_id: int, body: bytes, by: bytes, status: int) -> None:
    with pytest.raises(PduError) as caught:
        replaced(command_id, body, by)
    assert caught.value.status == status


@given(st.binary(max_size=90), st.binary(max_size=60))
def test_replaced_garbage_is_a_pdu_error_at_most(body: bytes, by: bytes) -> None:
    good = queued(smpp.SUBMIT_SM, b"\1\0\0\0", b"", b"", b"hi")
    for one, other in ((body, operation(b"new")), (good, by), (body, by)):
        with suppress(PduError):
            read_submit_sm(replaced(smpp.SUBMIT_SM, one, other))
