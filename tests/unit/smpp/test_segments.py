from __future__ import annotations

import time

import pytest
from aiosmpplib.codec import GSM7BitCodec
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.smpp.segments import count_segments

ESC = 0x1B
EURO = b"\x1be"
EMOJI = "😀".encode("utf-16-be")


# The reference: cut the text into characters, put one after the other into the current part.


def greedy(widths: list[int], one: int, part: int) -> int:
    if sum(widths) <= one:
        return 1
    parts, room = 1, part
    for width in widths:
        if width > room:
            parts, room = parts + 1, part
        room -= width
    return parts


def slow_septets(text: bytes) -> int:
    widths, at = [], 0
    while at < len(text):
        width = 2 if text[at] == ESC and at + 1 < len(text) else 1
        widths.append(width)
        at += width
    return greedy(widths, 160, 153)


def slow_units(text: bytes) -> int:
    text += bytes(len(text) % 2)
    units = [int.from_bytes(text[at : at + 2]) for at in range(0, len(text), 2)]
    widths, at = [], 0
    while at < len(units):
        pair = units[at : at + 2]
        is_pair = len(pair) == 2 and 0xD800 <= pair[0] < 0xDC00 <= pair[1] < 0xE000
        widths.append(2 if is_pair else 1)
        at += widths[-1]
    return greedy(widths, 70, 67)


def slow_octets(text: bytes) -> int:
    return greedy([1] * len(text), 140, 134)


def slow_latin_1(text: bytes) -> int:
    chars = text.decode("latin-1")
    if GSM7BitCodec.is_gsm_text(chars):
        return slow_septets(GSM7BitCodec().encode(chars)[0])
    return slow_units(chars.encode("utf-16-be"))


def runs(*chars: bytes, longest: int) -> st.SearchStrategy[bytes]:
    """Texts of long runs of the first and short runs of the others: cuts fall anywhere."""
    plain, *others = chars
    run = st.integers(0, longest).map(plain.__mul__)
    few = st.lists(st.sampled_from(others), max_size=4).map(b"".join)
    return st.lists(st.builds(bytes.__add__, run, few), max_size=7).map(b"".join)


@given(runs(b"a", b"\x1b", EURO, b"\x80", longest=160))
@example(bytes((ESC,)) * 1000)
@example(b"a" + bytes((ESC,)) * 1000)
def test_gsm_agrees_with_the_reference(text: bytes) -> None:
    assert count_segments(text, 0x00) == slow_septets(text)


@given(runs(b"\0a", b"\xd8\x3d", b"\xde\x00", b"\xe0\x00", EMOJI, b"\xdc", longest=72))
@example(EMOJI * 200)
@example(b"\xd8\x3d" * 200)
@example(b"\0a" + EMOJI * 200)
def test_ucs2_agrees_with_the_reference(text: bytes) -> None:
    assert count_segments(text, 0x08) == slow_units(text)


@given(st.binary(min_size=100, max_size=500))
def test_octets_agree_with_the_reference(text: bytes) -> None:
    assert count_segments(text, 0x04) == slow_octets(text)


@given(runs(b"a", b"{", b"`", b"\x1b", b"\f", b"\xe9", longest=160))
def test_ascii_is_counted_as_the_gsm_codec_encodes_it(text: bytes) -> None:
    encoded, _ = GSM7BitCodec().encode(text.decode("ascii", "replace"), "replace")
    assert count_segments(text, 0x01) == slow_septets(encoded)


@given(runs(b"a", b"{", b"\xe9", b"\xa3", longest=160))
def test_latin_1_in_gsm_is_counted_as_the_gsm_codec_encodes_it(text: bytes) -> None:
    encoded, _ = GSM7BitCodec().encode(text.decode("latin-1"), "strict")
    assert count_segments(text, 0x03) == slow_septets(encoded)


@given(runs(b"a", b"{", b"\xe7", b"\x1b", b"\xe9", longest=80))
def test_latin_1_agrees_with_the_reference(text: bytes) -> None:
    assert count_segments(text, 0x03) == slow_latin_1(text)


@pytest.mark.parametrize("char", range(256))
def test_each_latin_1_character(char: int) -> None:
    for length in (70, 71, 80, 81, 153, 154, 160, 161):
        text = bytes((char,)) * length
        assert count_segments(text, 0x03) == slow_latin_1(text)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [(0, 1), (1, 1), (159, 1), (160, 1), (161, 2), (306, 2), (307, 3), (459, 3), (460, 4)],
)
def test_lengths_in_gsm(octets: int, expected: int) -> None:
    assert count_segments(b"a" * octets, 0x00) == expected


@pytest.mark.parametrize(
    ("octets", "expected"), [(0, 1), (140, 1), (141, 2), (268, 2), (269, 3), (402, 3), (403, 4)]
)
def test_lengths_in_octets(octets: int, expected: int) -> None:
    assert count_segments(b"\x1b" * octets, 0x04) == expected


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (0, 1),
        (1, 1),
        (139, 1),
        (140, 1),
        (141, 2),
        (142, 2),
        (267, 2),
        (268, 2),
        (269, 3),
        (270, 3),
    ],
)
def test_lengths_in_ucs2_where_an_odd_octet_is_a_unit(octets: int, expected: int) -> None:
    assert count_segments(b"a" * octets, 0x08) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"a" * 158 + EURO, 1, id="euro ends at 160"),
        pytest.param(b"a" * 159 + EURO, 2, id="euro at 160"),
        pytest.param(EURO * 80, 1, id="80 euros"),
        pytest.param(EURO * 81, 2, id="81 euros"),
        pytest.param(b"a" * 151 + EURO + b"a" * 153, 2, id="euro ends at 153"),
        pytest.param(b"a" * 152 + EURO + b"a" * 151, 2, id="euro at 153, all fits"),
        pytest.param(b"a" * 152 + EURO + b"a" * 152, 3, id="euro at 153 pushes one over"),
        pytest.param(EURO * 152, 2, id="76 euros a part"),
        pytest.param(EURO * 153, 3, id="one more than 76 a part"),
        pytest.param(b"a" * 151 + b"\x1b\x1b" + b"a" * 153, 2, id="escape pair ends at 153"),
        pytest.param(b"a" * 152 + b"\x1b\x1b" + b"a" * 152, 3, id="escape pair at 153"),
        pytest.param(b"a" * 150 + b"\x1b" * 3 + b"e" + b"a" * 152, 3, id="odd run ends at 153"),
        pytest.param(b"a" * 160 + b"\x1b", 2, id="lone escape at the end"),
    ],
)
def test_an_escape_stays_with_its_character(text: bytes, expected: int) -> None:
    assert count_segments(text, 0x00) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a" * 68 + "😀", 1, id="emoji ends at 70"),
        pytest.param("a" * 69 + "😀", 2, id="emoji at 70"),
        pytest.param("a" * 65 + "😀" + "a" * 67, 2, id="emoji ends at 67"),
        pytest.param("a" * 66 + "😀" + "a" * 65, 2, id="emoji across 67, all fits"),
        pytest.param("a" * 66 + "😀" + "a" * 66, 3, id="emoji across 67 pushes one over"),
        pytest.param("😀" * 66, 2, id="33 emoji a part"),
        pytest.param("😀" * 67, 3, id="one more than 33 a part"),
    ],
)
def test_a_surrogate_pair_stays_together(text: str, expected: int) -> None:
    assert count_segments(text.encode("utf-16-be"), 0x08) == expected


@pytest.mark.parametrize("char", b"^{}\\[~]|")
def test_these_take_two_septets_in_ascii_and_latin_1(char: int) -> None:
    for data_coding in (0x01, 0x03):
        assert count_segments(bytes((char,)) * 80, data_coding) == 1
        assert count_segments(bytes((char,)) * 81, data_coding) == 2


@pytest.mark.parametrize("char", b"`\x1b\t\x80")
def test_what_gsm_lacks_is_one_septet_in_ascii_and_makes_latin_1_ucs2(char: int) -> None:
    assert count_segments(bytes((char,)) * 160, 0x01) == 1
    assert count_segments(b"a" * 69 + bytes((char,)), 0x03) == 1
    assert count_segments(b"a" * 70 + bytes((char,)), 0x03) == 2


@pytest.mark.parametrize(
    ("data_coding", "codec", "char"),
    [
        (0x05, "iso2022_jp", "字"),
        (0x06, "iso8859_5", "џ"),
        (0x07, "iso8859_8", "ש"),
        (0x0A, "iso2022_jp", "字"),
        (0x0D, "iso2022_jp_1", "丂"),  # of JIS X 0212
        (0x0E, "euc_kr", "한"),
    ],
)
def test_national_codings_are_carried_as_ucs2(data_coding: int, codec: str, char: str) -> None:
    for chars, expected in ((70, 1), (71, 2), (134, 2), (135, 3)):
        assert count_segments((char * chars).encode(codec), data_coding) == expected


@pytest.mark.parametrize("data_coding", [0x05, 0x07, 0x0A, 0x0D, 0x0E])
def test_what_a_national_coding_cannot_read_is_octets(data_coding: int) -> None:
    assert count_segments(b"\xff" * 140, data_coding) == 1
    assert count_segments(b"\xff" * 141, data_coding) == 2
    assert count_segments(b"\xff" * 269, data_coding) == 3


@pytest.mark.parametrize("unit", ["d83d", "de00", "e000"])
def test_a_lone_half_may_stand_at_a_cut(unit: str) -> None:
    half = bytes.fromhex(unit)
    assert count_segments(b"\0a" * 66 + half + b"\0a" * 67, 0x08) == 2
    assert count_segments(b"\0a" * 67 + half + b"\0a" * 66, 0x08) == 2


# How long one short message is: 3GPP TS 23.038 section 4, and below 0x10 SMPP 3.4 section 5.2.19.
ALPHABETS = [
    *((dc, 140) for dc in (0x02, 0x04, 0x09, 0x0B, 0x0C, 0x0F)),
    (0x00, 160),
    (0x08, 70),
    *((dc, 160) for dc in (0x10, 0x11, 0x13, 0x1C, 0x1F, 0x40, 0x4C, 0x50, 0x5F)),
    *((dc, 140) for dc in (0x14, 0x16, 0x17, 0x44, 0x57)),
    *((dc, 70) for dc in (0x18, 0x1B, 0x48, 0x5A)),
    *((dc, 140) for dc in (0x20, 0x28, 0x2C, 0x30, 0x3F, 0x60, 0x68, 0x70, 0x7F)),
    *((dc, 160) for dc in (0x80, 0x84, 0x88, 0x9F, 0xA4, 0xBF)),
    *((dc, 160) for dc in (0xC0, 0xC8, 0xCF, 0xD0, 0xD4, 0xDF)),
    *((dc, 70) for dc in (0xE0, 0xE8, 0xE4, 0xEF)),
    *((dc, 160) for dc in (0xF0, 0xF3, 0xF8, 0xFB)),
    *((dc, 140) for dc in (0xF4, 0xF5, 0xF7, 0xFC, 0xFF)),
]


@pytest.mark.parametrize(("data_coding", "one"), ALPHABETS)
def test_the_alphabet_of_a_data_coding(data_coding: int, one: int) -> None:
    char = b"\0a" if one == 70 else b"a"
    part = {160: 153, 140: 134, 70: 67}[one]
    for chars, expected in ((one, 1), (one + 1, 2), (2 * part, 2), (2 * part + 1, 3)):
        assert count_segments(char * chars, data_coding) == expected
    # Only in the GSM alphabet does an escape move a cut; only in UCS-2 a surrogate.
    assert count_segments(b"a" * 152 + EURO + b"a" * 152, data_coding) == 3
    across = "a" * 66 + "😀" + "a" * 66
    assert count_segments(across.encode("utf-16-be"), data_coding) == (3 if one == 70 else 2)


@given(st.binary(max_size=400), st.integers(0, 255))
def test_any_text_in_any_coding_is_at_least_one(text: bytes, data_coding: int) -> None:
    assert count_segments(text, data_coding) >= 1


HOSTILE = [b"a", b"\x1b", b"a\x1b", b"{", b"\xd8\x00\xdc\x00", b"\x1b$B", b"\x1b$B\x1b(B", b"\xff"]


@pytest.mark.parametrize("data_coding", [0x00, 0x01, 0x03, 0x04, 0x05, 0x08, 0x0D, 0x0E])
def test_64_kib_are_counted_in_a_moment(data_coding: int) -> None:
    for pattern in HOSTILE:
        text = (b"a" + pattern * 0x10000)[:0xFFFF]
        before = time.process_time()
        count_segments(text, data_coding)
        assert time.process_time() - before < 0.05
