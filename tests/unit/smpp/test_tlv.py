from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.smpp.tlv import TlvError, find_tlv, iter_tlvs, pack_tlv, replace_tlv

TLVS = st.lists(st.tuples(st.integers(0, 5) | st.integers(0, 0xFFFF), st.binary(max_size=9)))


def pack(tlvs: list[tuple[int, bytes]]) -> bytes:
    return b"".join(pack_tlv(tag, value) for tag, value in tlvs)


def test_the_octets_are_the_specifications() -> None:
    assert pack_tlv(0x001E, b"42\0") == bytes.fromhex("001e 0003 343200")
    assert pack_tlv(0x130C, b"") == bytes.fromhex("130c 0000")


@given(TLVS, st.binary(max_size=9))
def test_iter_yields_every_tlv_in_order_from_start(
    tlvs: list[tuple[int, bytes]], before: bytes
) -> None:
    octets = before + pack(tlvs)
    found = [(tag, octets[start:end]) for tag, start, end in iter_tlvs(octets, len(before))]
    assert found == tlvs


@given(TLVS, st.integers(0, 5), st.binary(max_size=9))
def test_find_gives_the_first(tlvs: list[tuple[int, bytes]], tag: int, before: bytes) -> None:
    first = next((value for found, value in tlvs if found == tag), None)
    assert find_tlv(before + pack(tlvs), tag, len(before)) == first


@pytest.mark.parametrize("octets", ["04", "0424", "042400", "0424 0001", "0424 0005 31323334"])
def test_a_truncated_stream_is_an_error_after_what_came_before(octets: str) -> None:
    stream = pack_tlv(0x0210, b"\x34") + bytes.fromhex(octets)
    tlvs = iter_tlvs(stream)
    assert next(tlvs) == (0x0210, 4, 5)
    with pytest.raises(TlvError):
        next(tlvs)
    assert find_tlv(stream, 0x0210) == b"\x34"
    with pytest.raises(TlvError):
        find_tlv(stream, 0x0424)
    with pytest.raises(TlvError):
        replace_tlv(stream, 0x0210, b"")


@given(st.binary())
def test_garbage_is_read_to_its_last_octet_or_refused(octets: bytes) -> None:
    try:
        tlvs = list(iter_tlvs(octets))
    except TlvError:
        return
    assert b"".join(pack_tlv(tag, octets[start:end]) for tag, start, end in tlvs) == octets


@given(TLVS, st.integers(0, 5), st.binary(max_size=9), st.binary(max_size=9))
def test_replace_changes_each_such_value_and_nothing_else(
    tlvs: list[tuple[int, bytes]], tag: int, value: bytes, before: bytes
) -> None:
    changed = [(found, value if found == tag else old) for found, old in tlvs]
    replaced = replace_tlv(before + pack(tlvs), tag, value, len(before))
    assert replaced == before + pack(changed)


def test_replace_without_such_a_tlv_gives_the_same_octets() -> None:
    octets = pack_tlv(0x1403, b"x")
    assert replace_tlv(octets, 0x001E, b"new") is octets


@pytest.mark.parametrize(("tag", "value"), [(-1, b""), (0x10000, b""), (1, bytes(0x10000))])
def test_what_does_not_fit_in_a_tlv_is_refused(tag: int, value: bytes) -> None:
    with pytest.raises(TlvError):
        pack_tlv(tag, value)


def test_the_longest_value_fits() -> None:
    assert find_tlv(pack_tlv(0x0424, bytes(0xFFFF)), 0x0424) == bytes(0xFFFF)
