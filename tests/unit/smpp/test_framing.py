from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.smpp.framing import Framer, Pdu, pack_pdu

MAX = 100
U32 = st.integers(0, 0xFFFFFFFF)
PDUS = st.lists(st.tuples(U32, U32, U32, st.binary(max_size=MAX - 16)), max_size=8)


def octets_of(pdus: list[Pdu]) -> bytes:
    return b"".join(pack(">IIII", 16 + len(p[3]), *p[:3]) + p[3] for p in pdus)


def feed_in_pieces(framer: Framer, stream: bytes, cuts: list[int]) -> list[Pdu]:
    """What comes out when the stream comes in pieces that end at `cuts`."""
    at, found = 0, []
    for cut in [*sorted(cuts), len(stream)]:
        found += framer.feed(stream[at:cut])
        at = cut
    return found


def test_a_pdu_is_packed_as_the_specification_says() -> None:
    assert pack_pdu(0x80000004, 0x45, 7, b"ab") == bytes.fromhex(
        "00000012 80000004 00000045 00000007 6162"
    )


@given(PDUS, st.data())
def test_any_cut_of_a_stream_gives_the_same_pdus(pdus: list[Pdu], data: st.DataObject) -> None:
    stream = octets_of(pdus)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    framer = Framer(MAX)
    assert feed_in_pieces(framer, stream, cuts) == pdus
    assert framer.error is None


@given(PDUS)
def test_octet_by_octet_gives_the_same_pdus(pdus: list[Pdu]) -> None:
    stream = octets_of(pdus)
    framer = Framer(MAX)
    assert feed_in_pieces(framer, stream, list(range(len(stream)))) == pdus


@given(PDUS)
def test_packing_is_the_inverse_of_framing(pdus: list[Pdu]) -> None:
    assert b"".join(pack_pdu(*pdu) for pdu in pdus) == octets_of(pdus)
    assert Framer(MAX).feed(octets_of(pdus)) == pdus


@given(PDUS, st.binary(max_size=15))
def test_what_is_not_whole_yet_waits(pdus: list[Pdu], beginning: bytes) -> None:
    framer = Framer(MAX)
    head = pack(">IIII", 40, 4, 0, 9)[: len(beginning)]
    assert framer.feed(octets_of(pdus) + head) == pdus
    rest = pack(">IIII", 40, 4, 0, 9)[len(beginning) :] + b"x" * 24
    assert framer.feed(rest) == [(4, 0, 9, b"x" * 24)]


@pytest.mark.parametrize("length", [0, 1, 15, MAX + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("whole", [True, False])
def test_an_impossible_length_ends_the_stream_with_a_generic_nack(length: int, whole: bool) -> None:
    good = (0x15, 0, 1, b"")
    bad = pack(">IIII", length, 4, 0, 77)
    stream = octets_of([good]) + bad + octets_of([good])
    framer = Framer(MAX)
    cuts = [] if whole else list(range(len(stream)))
    assert feed_in_pieces(framer, stream, cuts) == [good]
    assert framer.error == bytes.fromhex("00000010 80000000 00000002 0000004d")
    assert framer.feed(octets_of([good])) == []


@pytest.mark.parametrize("length", [16, 17, MAX])
def test_the_limits_themselves_are_allowed(length: int) -> None:
    framer = Framer(MAX)
    pdu = (4, 0, 1, b"x" * (length - 16))
    assert framer.feed(octets_of([pdu])) == [pdu]
    assert framer.error is None


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
def test_garbage_gives_the_same_however_it_is_cut(garbage: bytes, cuts: list[int]) -> None:
    whole, cut = Framer(MAX), Framer(MAX)
    expected = whole.feed(garbage)
    assert feed_in_pieces(cut, garbage, [min(c, len(garbage)) for c in cuts]) == expected
    assert cut.error == whole.error
