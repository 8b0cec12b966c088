from __future__ import annotations

import pytest
from aiosmpplib.codec import GSM7BitCodec
from hypothesis import given
from hypothesis import strategies as st
from smspdudecoder.codecs import GSM

from proxy.gsm.alphabet import (
    Alphabet,
    alphabet_of,
    decode_gsm,
    decode_text,
    encode_gsm,
    pack_septets,
    septets_in,
    unpack_septets,
)
from proxy.smpp.segments import count_segments

GSM_CHARS = [chr(o) for o in range(0x10000) if GSM7BitCodec.is_gsm_text(chr(o))]
septets = st.binary(max_size=160).map(lambda octets: bytes(o & 0x7F for o in octets))


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("hellohello", "E8329BFD4697D9EC37"),
        ("How are you?", "C8F71D14969741F977FD07"),
        ("1234567", "31D98C56B3DD00"),
        ("12345678", "31D98C56B3DD70"),
        ("2 € par mois", "32D0A60C8287E5A0F63B3D07"),
        ("{åΦΓΛΩΠΨΣΘ€}", "1BD44332A1542C174C6653DEA400"),
        ("", ""),
    ],
)
def test_known_texts(text: str, packed: str) -> None:
    encoded = encode_gsm(text)
    assert encoded is not None
    assert pack_septets(encoded).hex().upper() == packed
    assert decode_gsm(unpack_septets(bytes.fromhex(packed), len(encoded))) == text


@given(st.text(st.sampled_from(GSM_CHARS), max_size=160))
def test_texts_as_other_libraries_code_them(text: str) -> None:
    encoded = encode_gsm(text)
    assert encoded == GSM7BitCodec().encode(text)[0]
    assert pack_septets(encoded).hex().upper() == GSM.encode(text)
    assert decode_gsm(encoded) == text


@given(septets, st.integers(0, 6))
def test_packed_septets_come_back_from_behind_fill_bits(text: bytes, fill_bits: int) -> None:
    packed = pack_septets(text, fill_bits)
    assert len(packed) == (7 * len(text) + fill_bits + 7) // 8
    assert unpack_septets(packed, len(text), fill_bits) == text
    assert int.from_bytes(packed, "little") & ((1 << fill_bits) - 1) == 0


@given(st.binary(max_size=200))
def test_any_octets_are_some_text(octets: bytes) -> None:
    assert len(decode_gsm(octets)) <= len(octets)
    assert septets_in(octets).isascii()
    assert len(septets_in(octets)) == len(octets)


def test_what_is_no_septet_is_replaced_and_shown() -> None:
    assert septets_in(b"a\x80\xffb\x1b\x7f") == b"a??b\x1b\x7f"


@pytest.mark.parametrize(
    ("octets", "text"),
    [(b"\x1b\x65", "€"), (b"\x1ba", "a"), (b"\x1b\x1bx", " x"), (b"x\x1b", "x "), (b"\xe9", "?")],
)
def test_escapes_that_no_table_has(octets: bytes, text: str) -> None:
    assert decode_gsm(octets) == text


def test_characters_that_the_alphabet_lacks() -> None:
    assert encode_gsm("naïve") is None
    assert encode_gsm("naïve €", replace=True) == b"na?ve \x1be"


def test_text_for_people() -> None:
    assert decode_text("Žluťoučký 😀".encode("utf-16-be"), 0x08) == "Žluťoučký 😀"
    assert decode_text(b"\xd8\x3d", 0x18) == "�"
    assert decode_text(b"\x00", 0xF1) == "@"
    assert decode_text(b"\x00", 0x04) is None


@pytest.mark.parametrize(
    ("dcs", "alphabet"),
    [
        (0x00, Alphabet.GSM7), (0x04, Alphabet.OCTETS), (0x08, Alphabet.UCS2),
        (0x0C, Alphabet.GSM7),  # reserved
        (0x10, Alphabet.GSM7), (0x15, Alphabet.OCTETS), (0x18, Alphabet.UCS2),
        (0x20, Alphabet.OCTETS), (0x28, Alphabet.OCTETS),  # compressed
        (0x48, Alphabet.UCS2), (0x64, Alphabet.OCTETS), (0x80, Alphabet.GSM7),
        (0xC8, Alphabet.GSM7), (0xD9, Alphabet.GSM7), (0xE0, Alphabet.UCS2),
        (0xF0, Alphabet.GSM7), (0xF5, Alphabet.OCTETS), (0xFF, Alphabet.OCTETS),
    ],
)  # fmt: skip
def test_data_coding_schemes(dcs: int, alphabet: Alphabet) -> None:
    assert alphabet_of(dcs) is alphabet


@pytest.mark.parametrize("dcs", range(0x10, 0x100))
def test_alphabets_are_those_that_segments_are_counted_by(dcs: int) -> None:
    one = {Alphabet.GSM7: 160, Alphabet.OCTETS: 140, Alphabet.UCS2: 140}[alphabet_of(dcs)]
    assert count_segments(bytes(one), dcs) == 1
    assert count_segments(bytes(one + 1), dcs) == 2
    surrogates = "😀".encode("utf-16-be") * 67  # 67 units end inside the 34th pair
    units = alphabet_of(dcs) is Alphabet.UCS2
    assert count_segments(surrogates, dcs) == (3 if units else 2)
