from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.smpp import pdu
from proxy.smpp.pdu import (
    Layout,
    PduError,
    Submission,
    content_at,
    leading_c_octets,
    read_data_sm,
    read_submit_multi,
    read_submit_sm,
    refused_destinations,
)
from proxy.smpp.tlv import pack_tlv

LAYOUTS = {
    name: getattr(pdu, name)
    for name in (
        "ALERT", "BIND", "CANCEL", "DATA", "MULTI_ADDRESS", "MULTI_HEAD",
        "MULTI_TAIL", "QUERY", "REPLACE", "SUBMIT",
    )
}  # fmt: skip
STATUS_OF_TOO_LONG = {
    "service_type": 0x15, "source_addr": 0x0A, "destination_addr": 0x0B, "esme_addr": 0x0B,
    "schedule_delivery_time": 0x61, "validity_period": 0x62, "message_id": 0x0C, "dl_name": 0x34,
    "system_id": 0x0F, "password": 0x0E, "system_type": 0x53, "address_range": 0x02,
}  # fmt: skip
"""What SMPP 3.4 section 5.1.3 calls a field that is wrong."""

NOT_NUL = st.integers(1, 255)
EACH_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def values_of(layout: Layout) -> st.SearchStrategy[list[bytes]]:
    return st.tuples(
        *(
            st.lists(NOT_NUL, max_size=f.octets - 1).map(bytes)
            if f.octets
            else st.binary(min_size=1, max_size=1)
            for f in layout.fields
        )
    ).map(list)


def pack_fields(layout: Layout, values: list[bytes]) -> bytes:
    return b"".join(
        value + (b"\0" if field.octets else b"")
        for field, value in zip(layout.fields, values, strict=True)
    )


@EACH_LAYOUT
@given(data=st.data(), rest=st.binary(max_size=20))
def test_fields_of_any_octets_are_split_and_the_rest_left(
    layout: Layout, data: st.DataObject, rest: bytes
) -> None:
    values = data.draw(values_of(layout))
    body = pack_fields(layout, values)
    assert layout.split(body + rest) == (tuple(values), len(body))


@EACH_LAYOUT
@given(data=st.data())
def test_a_field_that_is_cut_short_is_named(layout: Layout, data: st.DataObject) -> None:
    values = data.draw(values_of(layout))
    which = data.draw(st.integers(0, len(values) - 1))
    before = pack_fields_up_to(layout, values, which)
    cut = data.draw(st.integers(0, len(values[which]) - (0 if layout.fields[which].octets else 1)))
    with pytest.raises(PduError) as caught:
        layout.split(before + values[which][:cut])
    assert (caught.value.field, caught.value.status) == (layout.fields[which].name, 0x02)


def pack_fields_up_to(layout: Layout, values: list[bytes], end: int) -> bytes:
    return b"".join(
        value + (b"\0" if field.octets else b"")
        for field, value in zip(layout.fields[:end], values[:end], strict=True)
    )


@EACH_LAYOUT
@given(data=st.data())
def test_a_field_without_its_nul_is_named_with_its_own_status(
    layout: Layout, data: st.DataObject
) -> None:
    values = data.draw(values_of(layout))
    which = data.draw(st.sampled_from([i for i, f in enumerate(layout.fields) if f.octets] or [-1]))
    if which < 0:
        return
    field = layout.fields[which]
    extra = data.draw(st.integers(0, 9))
    body = pack_fields_up_to(layout, values, which) + b"x" * (field.octets + extra) + b"\0"
    with pytest.raises(PduError) as caught:
        layout.split(body)
    assert caught.value.field == field.name
    assert caught.value.status == STATUS_OF_TOO_LONG[field.name]


@EACH_LAYOUT
@given(body=st.binary(max_size=200) | st.lists(st.sampled_from(b"\0a"), max_size=200).map(bytes))
def test_garbage_is_split_or_refused(layout: Layout, body: bytes) -> None:
    try:
        values, end = layout.split(body)
    except PduError as error:
        assert error.field in layout.index
    else:
        assert pack_fields(layout, list(values)) == body[:end]


# ------------------------------------------------------------------------------ the messages


def submit(
    text: bytes = b"hi",
    *,
    source: bytes = b"123",
    destination: bytes = b"4477",
    esm_class: int = 0,
    data_coding: int = 0,
    sm_length: int | None = None,
    tlvs: bytes = b"",
    schedule: bytes = b"",
    validity: bytes = b"",
) -> bytes:
    length = len(text) if sm_length is None else sm_length
    return (
        b"CMT\0\1\2" + source + b"\0\3\4" + destination + b"\0" + bytes((esm_class, 5, 6))
        + schedule + b"\0" + validity + b"\0" + bytes((0x11, 0, data_coding, 0, length)) + text
        + tlvs
    )  # fmt: skip


def data_sm(tlvs: bytes = b"", esm_class: int = 0, data_coding: int = 0) -> bytes:
    return b"\0\1\1" + b"123\0" + b"\1\1" + b"4477\0" + bytes((esm_class, 1, data_coding)) + tlvs


def multi(
    destinations: list[bytes], text: bytes = b"hi", count: int | None = None, tlvs: bytes = b""
) -> bytes:
    number = len(destinations) if count is None else count
    return (
        b"\0\1\1" + b"123\0" + bytes((number,)) + b"".join(destinations)
        + b"\0\0\0\0\0\1\0\0\0" + bytes((len(text),)) + text + tlvs
    )  # fmt: skip


def to(address: bytes) -> bytes:
    return b"\1\1\1" + address + b"\0"


def payload(text: bytes) -> bytes:
    return pack_tlv(0x0424, text)


def test_a_submit_sm_is_read() -> None:
    body = submit(b"hi", esm_class=0x40, data_coding=4)
    assert read_submit_sm(body) == Submission("123", "4477", 0x40, 4, 0x11, 1, 1, b"CMT", None)


def test_a_data_sm_is_read() -> None:
    body = data_sm(payload(b"x" * 300), data_coding=4)
    assert read_data_sm(body) == Submission("123", "4477", 0, 4, 1, 3, 1, b"", None)


def test_a_submit_multi_is_read() -> None:
    body = multi([to(b"441"), to(b"442"), to(b"443")], b"x" * 161)
    assert read_submit_multi(body) == Submission("123", "441,442,443", 0, 0, 1, 2, 3, b"", None)


def test_addresses_may_be_latin_1() -> None:
    read = read_submit_sm(submit(source="Zürich".encode("latin-1"), destination=b"\xff\x01"))
    assert (read.source_addr, read.destination_addr) == ("Zürich", "ÿ\x01")


@pytest.mark.parametrize(
    ("body", "segments"),
    [
        (submit(b""), 1),
        (submit(b"x" * 160), 1),
        (submit(b"x" * 161), 2),
        (submit(b"x" * 141, data_coding=4), 2),
        (submit(b"\x05\0\3\1\2\1" + b"x" * 134, data_coding=4, esm_class=0x40), 1),
        (submit(b"\x05\0\3\1\2\1" + b"x" * 153, esm_class=0x40), 1),
        (submit(b"x" * 134, data_coding=4, tlvs=pack_tlv(0x020E, b"\2")), 1),
        # Marked as a part, but longer than any part: paid by length.
        (submit(b"\x05\0\3\1\2\1" + b"x" * 200, data_coding=4, esm_class=0x40), 2),
        (submit(b"", esm_class=0x40, tlvs=payload(b"\0" + b"x" * 1530)), 10),
        (submit(b"", tlvs=pack_tlv(0x020E, b"\2") + payload(b"x" * 1530)), 10),
        # Several texts in one PDU: the longest.
        (submit(b"x", tlvs=payload(b"x" * 1000)), 7),
        (submit(b"", tlvs=payload(b"x" * 1000) + payload(b"x")), 7),
        (submit(b"\0a" * 71, data_coding=8), 2),
        (submit(b"", tlvs=payload(b"x" * 160)), 1),
        (submit(b"", tlvs=payload(b"x" * 161)), 2),
        (submit(b"", tlvs=payload(b"x" * 1000)), 7),
        (submit(b"x" * 100, tlvs=pack_tlv(0x1401, b"x" * 1000)), 1),
    ],
)
def test_segments(body: bytes, segments: int) -> None:
    assert read_submit_sm(body).segments == segments


@given(st.binary(max_size=255), st.integers(0, 255), st.integers(0, 255))
def test_the_short_way_counts_like_the_long_one(
    text: bytes, data_coding: int, esm_class: int
) -> None:
    alone = read_submit_sm(submit(text, data_coding=data_coding, esm_class=esm_class))
    with_tlv = submit(text, data_coding=data_coding, esm_class=esm_class, tlvs=b"\x14\1\0\0")
    assert read_submit_sm(with_tlv) == alone


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (submit(destination=b""), 0x0B, "destination_addr"),
        (submit(source=b"1" * 21), 0x0A, "source_addr"),
        (submit(destination=b"1" * 21), 0x0B, "destination_addr"),
        (submit(schedule=b"1" * 17), 0x61, "schedule_delivery_time"),
        (submit(validity=b"1" * 17), 0x62, "validity_period"),
        (b"CMTCMT\0" + submit()[4:], 0x15, "service_type"),
        (submit(b"hi", sm_length=3), 0x01, "short_message"),
        (submit(b"hi", sm_length=255), 0x01, "short_message"),
        (submit(tlvs=b"\x14"), 0xC0, "optional parameters"),
        (submit(tlvs=b"\x14\1\0\5abcd"), 0xC0, "optional parameters"),
        (submit()[:-5], 0x02, "data_coding"),
        (submit()[:3], 0x02, "service_type"),
        (b"", 0x02, "service_type"),
    ],
)
def test_a_malformed_submit_sm_is_refused_by_field(body: bytes, status: int, field: str) -> None:
    with pytest.raises(PduError) as caught:
        read_submit_sm(body)
    assert (caught.value.status, caught.value.field) == (status, field)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (multi([]), 0x33, "number_of_dests"),
        (multi([to(b"1")] * 255), 0x33, "number_of_dests"),
        (multi([to(b"1")], count=2), 0x40, "dest_flag"),
        (multi([b"\3\1\1" + b"1\0"]), 0x40, "dest_flag"),
        (multi([b"\2list\0"]), 0x34, "dl_name"),
        (multi([to(b"")]), 0x0B, "destination_addr"),
        (multi([to(b"1" * 21)]), 0x0B, "destination_addr"),
        (multi([to(b"1")] * 254)[:-1], 0x01, "short_message"),
        (multi([to(b"1")], tlvs=b"\0"), 0xC0, "optional parameters"),
    ],
)
def test_a_malformed_submit_multi_is_refused_by_field(body: bytes, status: int, field: str) -> None:
    with pytest.raises(PduError) as caught:
        read_submit_multi(body)
    assert (caught.value.status, caught.value.field) == (status, field)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (data_sm(b"\4\x24\0\2a"), 0xC0, "optional parameters"),
        (data_sm()[:-1], 0x02, "data_coding"),
        (b"\0\1\1" + b"1" * 65 + b"\0\1\1\0\0\0\0", 0x0A, "source_addr"),
        (b"\0\1\1\0\1\1\0\0\0\0", 0x0B, "destination_addr"),
    ],
)
def test_a_malformed_data_sm_is_refused_by_field(body: bytes, status: int, field: str) -> None:
    with pytest.raises(PduError) as caught:
        read_data_sm(body)
    assert (caught.value.status, caught.value.field) == (status, field)


MESSAGES = {
    read_submit_sm: submit(b"hello", tlvs=pack_tlv(0x1401, b"abc")),
    read_data_sm: data_sm(payload(b"hello")),
    read_submit_multi: multi([to(b"441"), to(b"442")], tlvs=pack_tlv(0x1401, b"abc")),
}


@pytest.mark.parametrize("read", MESSAGES, ids=lambda read: read.__name__)
@given(data=st.data())
def test_a_mutated_message_is_read_or_refused(read: pdu.object, data: st.DataObject) -> None:
    body = bytearray(MESSAGES[read])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        submission = read(bytes(body))
    except PduError as error:
        assert 0 < error.status < 0x100
    else:
        assert submission.segments >= 1
        assert submission.destinations == submission.destination_addr.count(",") + 1 or (
            b"," in body
        )


@given(st.binary(max_size=255), st.binary(max_size=40))
def test_content_is_between_what_is_before_and_the_tlvs(text: bytes, before: bytes) -> None:
    tlvs = pack_tlv(0x1401, b"abc")
    content = content_at(before + text + tlvs, len(before), len(text))
    assert content.texts == (text,)


# --------------------------------------------------------------------------- the responses


@pytest.mark.parametrize(
    ("body", "number"),
    [(b"", 0), (b"id", 0), (b"id\0", 0), (b"id\0\0", 0), (b"id\0\2rest", 2), (b"\0\1", 1)],
)
def test_refused_destinations(body: bytes, number: int) -> None:
    assert len(refused_destinations(body)) == number


@pytest.mark.parametrize(
    ("body", "text"),
    [(b"", ""), (b"12\0tail", "12"), (b"12", "12"), (b"\0", ""), (b"x" * 99, "x" * 65)],
)
def test_leading_c_octets(body: bytes, text: str) -> None:
    assert leading_c_octets(body) == text
