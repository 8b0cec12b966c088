from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import AddressSettings
from proxy.smpp import vocabulary as smpp
from proxy.smpp.address_rules import AddressRules
from proxy.smpp.pdu import (
    DATA,
    SUBMIT,
    Layout,
    read_data_sm,
    read_submit_multi,
    read_submit_sm,
    refused_destinations,
)
from proxy.smpp.tlv import pack_tlv

TEXT = b"\x05\x00\x03\x01\x02\x01\xff\0 text"
TLVS = pack_tlv(0x1400, b"\0vendor") + b"\x99"  # and one octet that is no parameter


def rules(**values: Any) -> AddressRules:
    return AddressRules(AddressSettings(**values))


def submit(
    destination: bytes = b"447700900123",
    source: bytes = b"12345",
    tons: bytes = b"\5\0\1\1",
    asked: int = 0,
) -> bytes:
    return (
        b"CMT\0" + tons[:2] + source + b"\0" + tons[2:] + destination + b"\0"
        + b"\x40\x7f\3" + b"000000010000000R\0" + b"\0" + bytes((asked, 1, 0xF5, 9, len(TEXT)))
        + TEXT + TLVS
    )  # fmt: skip


def data(
    destination: bytes, source: bytes = b"12345", tons: bytes = b"\1\1\1\1", asked: int = 0
) -> bytes:
    return (
        b"\0" + tons[:2] + source + b"\0" + tons[2:] + destination + b"\0"
        + bytes((0x40, asked, 4)) + pack_tlv(0x0424, TEXT)
    )  # fmt: skip


def multi(*destinations: bytes, source: bytes = b"12345", ton: int = 1, asked: int = 0) -> bytes:
    return (
        b"\0\1\1" + source + b"\0" + bytes((len(destinations),))
        + b"".join(b"\1" + bytes((ton, 1)) + one + b"\0" for one in destinations)
        + b"\0\0\0" + b"\0\0" + bytes((asked, 0, 0, 0, len(TEXT))) + TEXT + pack_tlv(0x1400, b"v")
    )  # fmt: skip


def destination_of(body: bytes) -> str:
    return read_submit_sm(body.removesuffix(b"\x99")).destination_addr


# ---------------------------------------------------------------------------------- outward


def test_without_rules_nothing_is_even_looked_at() -> None:
    none = rules()
    assert not none.changes_outward
    assert not none.changes_inward
    assert not none.asks_receipt
    body = submit()
    assert none.outward(smpp.SUBMIT_SM, body) is body
    assert none.inward(smpp.DELIVER_SM, body) is body
    assert none.undone(body, body) is body
    assert not rules(registered_delivery=0).changes_outward


def test_the_sender_and_the_kinds_are_rewritten_and_nothing_else() -> None:
    all_of_it = rules(
        source_addr="SHOP", source_addr_ton=5, source_addr_npi=0, dest_addr_ton=2, dest_addr_npi=8
    )
    assert all_of_it.changes_outward
    assert not all_of_it.changes_inward
    expected = submit(source=b"SHOP", tons=b"\5\0\2\x08")
    assert all_of_it.outward(smpp.SUBMIT_SM, submit(tons=b"\1\1\1\1")) == expected
    assert all_of_it.outward(smpp.SUBMIT_SM, expected) is expected
    assert all_of_it.outward(smpp.DATA_SM, data(b"4477")) == data(b"4477", b"SHOP", b"\5\0\2\x08")
    assert rules(source_addr_ton=0).outward(smpp.SUBMIT_SM, submit()) == submit(tons=b"\0\0\1\1")


@pytest.mark.parametrize(
    ("strip", "add", "written", "sent"),
    [
        ("+", "", "+4477", "4477"),
        ("+", "", "4477", "4477"),
        ("+", "00", "+4477", "004477"),
        ("+", "00", "4477", "004477"),
        ("", "00", "+4477", "004477"),
        ("", "+", "4477", "+4477"),
        ("", "+", "+4477", "+4477"),
        ("00", "+", "004477", "+4477"),
        ("00", "", "+004477", "4477"),
        ("44", "0", "+4477", "077"),
        ("44", "0", "4477", "077"),
        ("44", "", "+4477", "77"),
        ("+44", "0", "+4477", "077"),
        ("+44", "", "4477", "4477"),
        ("44", "", "3377", "3377"),
        ("44", "", "+3377", "+3377"),
        ("", "99", "4477", "994477"),
        ("44", "", "44", "44"),
        ("44", "9", "44", "44"),
        ("+", "", "+", "+"),
        ("", "9", "1" * 19, "9" + "1" * 19),
        ("", "99", "1" * 19, "1" * 19),
        ("44", "001", "44" + "1" * 18, "44" + "1" * 18),
    ],
)
def test_prefixes(strip: str, add: str, written: str, sent: str) -> None:
    one = rules(strip_prefix=strip, add_prefix=add)
    assert destination_of(one.outward(smpp.SUBMIT_SM, submit(written.encode()))) == sent
    expected = submit(sent.encode())
    assert one.outward(smpp.SUBMIT_SM, submit(written.encode())) == expected


def test_a_data_sm_has_longer_addresses() -> None:
    one = rules(add_prefix="99")
    assert one.outward(smpp.DATA_SM, data(b"1" * 62)) == data(b"99" + b"1" * 62)
    assert one.outward(smpp.DATA_SM, data(b"1" * 63)) == data(b"1" * 63)


def test_every_destination_of_a_submit_multi() -> None:
    one = rules(source_addr="S", dest_addr_ton=2, strip_prefix="+", add_prefix="9")
    assert one.outward(smpp.SUBMIT_MULTI, multi(b"+44", b"33", b"1" * 20)) == multi(
        b"944", b"933", b"1" * 20, source=b"S", ton=2
    )
    many = [b"%d" % (4477000 + n) for n in range(254)]
    changed = one.outward(smpp.SUBMIT_MULTI, multi(*many))
    assert read_submit_multi(changed).destination_addr == ",".join(f"9{m.decode()}" for m in many)


def test_a_receipt_is_asked_for_where_none_is() -> None:
    one = rules(registered_delivery=1)
    assert one.asks_receipt
    assert one.outward(smpp.SUBMIT_SM, submit()) == submit(asked=1)
    assert one.outward(smpp.SUBMIT_SM, submit(asked=0x10)) == submit(asked=0x11)
    assert one.outward(smpp.DATA_SM, data(b"44")) == data(b"44", asked=1)
    assert one.outward(smpp.SUBMIT_MULTI, multi(b"44")) == multi(b"44", asked=1)
    for asked in (1, 2, 3, 0x12):
        body = submit(asked=asked)
        assert one.outward(smpp.SUBMIT_SM, body) is body
    intermediate = rules(registered_delivery=0x10)
    assert not intermediate.asks_receipt
    assert intermediate.outward(smpp.SUBMIT_SM, submit()) == submit(asked=0x10)


def test_operations_name_the_message_by_the_addresses_that_the_carrier_knows() -> None:
    one = rules(source_addr="S", source_addr_ton=5, strip_prefix="+", registered_delivery=1)

    def cancel(source: bytes, destination: bytes) -> bytes:
        return b"\0id\0" + source + b"\0\1\1" + destination + b"\0"

    def replace(source: bytes, asked: int) -> bytes:
        return b"id\0" + source + b"\0\0\0" + bytes((asked, 0, 4)) + b"text"

    ours, theirs = b"\1\0" + b"12345", b"\5\0" + b"S"
    assert one.outward(smpp.QUERY_SM, b"id\0" + ours + b"\0") == b"id\0" + theirs + b"\0"
    assert one.outward(smpp.CANCEL_SM, cancel(ours, b"+44")) == cancel(theirs, b"44")
    assert one.outward(smpp.CANCEL_SM, cancel(ours, b"")) == cancel(theirs, b"")
    assert one.outward(smpp.REPLACE_SM, replace(ours, 0)) == replace(theirs, 1)


@pytest.mark.parametrize("command_id", [*(0, 0x04, 0x103, 0x21, 0x03, 0x05, 0x102), 0xFFFFFFFF])
@given(body=st.binary(max_size=80))
def test_what_cannot_be_read_is_not_touched(command_id: int, body: bytes) -> None:
    one = rules(source_addr="S", strip_prefix="+", add_prefix="00", registered_delivery=1)
    assert isinstance(one.outward(command_id, body), bytes)
    inward = one.inward(command_id, body)
    assert isinstance(inward, bytes)
    assert isinstance(one.undone(body, body), bytes)
    if command_id not in (0x04, 0x103, 0x21, 0x03):
        assert one.outward(command_id, body) is body
    if b"\0" not in body:
        assert one.outward(command_id, body) is body
        assert inward is body


def test_a_submit_multi_that_is_cut_off_is_not_touched() -> None:
    one = rules(add_prefix="9")
    body = multi(b"44", b"33")
    for end in range(body.index(TEXT)):
        assert one.outward(smpp.SUBMIT_MULTI, body[:end]) is not None
        assert one.outward(smpp.SUBMIT_MULTI, body[:end]) == body[:end]


ADDRESSES = st.from_regex(rb"\A\+?[0-9A-Za-z]{1,20}\Z").filter(lambda a: len(a) <= 20)
PREFIXES = st.sampled_from(["", "+", "0", "00", "44", "+44", "9", "1234567890"])
OCTETS = st.none() | st.integers(0, 255)


@given(
    PREFIXES, PREFIXES, OCTETS, OCTETS, OCTETS, ADDRESSES, st.binary(max_size=30),
    st.integers(0, 255), st.sampled_from([(SUBMIT, smpp.SUBMIT_SM), (DATA, smpp.DATA_SM)]),
)  # fmt: skip
def test_all_other_octets_stay(
    strip: str, add: str, ton: int | None, npi: int | None, registered: int | None,
    address: bytes, rest: bytes, octet: int, kind: tuple[Layout, int],
) -> None:  # fmt: skip
    layout, command_id = kind
    values = [b"%b" % address[:5] if field.octets else bytes((octet,)) for field in layout.fields]
    values[layout.index["destination_addr"]] = address
    body = b"".join(
        v + b"\0" if f.octets else v for f, v in zip(layout.fields, values, strict=True)
    )
    one = rules(
        source_addr_ton=ton, dest_addr_npi=npi, strip_prefix=strip, add_prefix=add,
        registered_delivery=registered,
    )  # fmt: skip
    changed = one.outward(command_id, body + rest)
    after, end = layout.split(changed)
    assert changed[end:] == rest
    may_differ = {
        "source_addr_ton", "destination_addr_npi", "destination_addr", "registered_delivery",
    }  # fmt: skip
    for name, number in layout.index.items():
        if name not in may_differ:
            assert after[number] == values[number], name
    assert after[layout.index["source_addr_ton"]] == bytes((octet if ton is None else ton,))
    assert 1 <= len(after[layout.index["destination_addr"]]) <= (64 if layout is DATA else 20)
    asked = after[layout.index["registered_delivery"]][0]
    assert asked == octet if octet & 3 else asked == octet | (registered or 0)


# ----------------------------------------------------------------------------------- inward


@pytest.mark.parametrize(
    ("strip", "add", "received", "seen"),
    [
        ("+", "", "4477", "+4477"),
        ("+", "", "+4477", "+4477"),
        ("", "00", "004477", "4477"),
        ("", "00", "4477", "4477"),
        ("+", "00", "004477", "+4477"),
        ("44", "0", "077", "4477"),
        ("44", "0", "+077", "4477"),
        ("44", "0", "3377", "3377"),
        ("", "+", "+4477", "4477"),
        ("", "+", "4477", "4477"),
        ("00", "+", "+4477", "004477"),
        ("+", "", "SHOP", "SHOP"),
        ("+", "", "", ""),
        ("", "99", "99", "99"),
        ("+", "", "1" * 20, "1" * 20),
    ],
)
def test_the_prefix_comes_back(strip: str, add: str, received: str, seen: str) -> None:
    """The sender of a deliver_sm is the destination of what it is about."""
    one = rules(strip_prefix=strip, add_prefix=add, dest_addr_ton=3)
    for ton in (0, 1, 2):
        tons = bytes((ton, 1, 1, 1))
        body = submit(b"12345", received.encode(), tons)
        expected = submit(b"12345", seen.encode(), tons)
        changed = one.inward(smpp.DELIVER_SM, body)
        assert changed == expected
        assert (changed is body) == (received == seen)
    body = data(b"1", received.encode())
    expected_seen = f"{strip}{received}" if len(received) == 20 else seen
    assert one.inward(smpp.DATA_SM, body) == data(b"1", expected_seen.encode())


def test_a_name_and_a_short_number_of_the_network_have_no_prefix() -> None:
    one = rules(strip_prefix="+")
    for ton in (3, 4, 5, 6, 255):
        body = submit(b"1", b"4477", bytes((ton, 0, 1, 1)))
        assert one.inward(smpp.DELIVER_SM, body) is body


def test_an_alert_too() -> None:
    alert = b"\1\1%b\0\1\1" + b"12345\0" + pack_tlv(0x0422, b"\0")
    assert rules(strip_prefix="+").inward(smpp.ALERT_NOTIFICATION, alert % b"44") == alert % b"+44"


DIGITS = st.from_regex(rb"\A[1-9][0-9]{3,11}\Z")


@given(DIGITS, st.sampled_from([("+", ""), ("+", "00"), ("00", "+"), ("", "99"), ("44", "0")]))
def test_what_a_client_writes_comes_back(number: bytes, prefixes: tuple[str, str]) -> None:
    one = rules(strip_prefix=prefixes[0], add_prefix=prefixes[1])
    written = prefixes[0].encode() + number
    sent = read_data_sm(one.outward(smpp.DATA_SM, data(written))).destination_addr
    assert one.inward(smpp.DATA_SM, data(b"1", sent.encode())) == data(b"1", written)


# ------------------------------------------------------------------------ submit_multi_resp


def refused(*addresses: bytes, rest: bytes = b"") -> bytes:
    return (
        b"id\0" + bytes((len(addresses),))
        + b"".join(b"\1\1" + a + b"\0" + b"\0\0\0\x0b" for a in addresses) + rest
    )  # fmt: skip


def test_refused_destinations_are_named_as_the_client_wrote_them() -> None:
    one = rules(strip_prefix="+", add_prefix="00")
    message = multi(b"+44", b"33", b"1" * 20)
    response = refused(b"0033", b"0044", b"1" * 20, b"77", rest=pack_tlv(0x1400, b"x"))
    undone = one.undone(message, response)
    assert undone == refused(b"33", b"+44", b"1" * 20, b"77", rest=pack_tlv(0x1400, b"x"))
    assert refused_destinations(undone) == ["33", "+44", "1" * 20, "77"]


@pytest.mark.parametrize(
    "response", [b"", b"id", b"id\0", b"id\0\0", b"id\0\1", refused(b"0044")[:8], b"id\0\xff\1"]
)
def test_a_response_that_is_cut_off_stays(response: bytes) -> None:
    one = rules(add_prefix="00")
    assert one.undone(multi(b"44"), response) == response
    assert one.undone(b"", refused(b"0044")) == refused(b"0044")
