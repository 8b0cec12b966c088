"""The GSM 7-bit default alphabet and its packing, and which alphabet a data coding scheme names.

3GPP TS 23.038: section 4 the data coding schemes, 6.1.2.1 the packing, 6.2.1 the alphabet.  A
septet is kept one in an octet, as SMPP carries it, and packed only in the TPDU.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from aiosmpplib.codec import (
    ESCAPE,
    GSM_BASIC_DECODE_MAP,
    GSM_BASIC_ENCODE_MAP,
    GSM_EXTENDED_DECODE_MAP,
    GSM_EXTENDED_ENCODE_MAP,
)

REPLACEMENT: Final = "?"
"""What a character becomes that the alphabet does not have."""

_SEPTETS_OF: Final[dict[str, bytes]] = {
    **{char: bytes((code,)) for char, code in GSM_BASIC_ENCODE_MAP.items()},
    **{char: bytes((ESCAPE, code)) for char, code in GSM_EXTENDED_ENCODE_MAP.items()},
}
_REPLACEMENT_SEPTET: Final = _SEPTETS_OF[REPLACEMENT]
_IN_SEPTETS: Final = bytes(range(0x80)) + _REPLACEMENT_SEPTET * 0x80


class Alphabet(Enum):
    """How the user data of a TPDU is coded."""

    GSM7 = 7
    OCTETS = 8
    """8-bit data, and everything compressed: nothing here looks inside."""
    UCS2 = 16
    """In fact UTF-16: phones send and show surrogate pairs."""


def alphabet_of(dcs: int) -> Alphabet:
    """The alphabet that a TP-Data-Coding-Scheme names (3GPP TS 23.038 section 4), 0 to 255.

    Reserved groups and alphabets are the default alphabet, as the section asks of a receiver.
    """
    if dcs < 0x80:  # 00xx general, 01xx to be deleted: bit 5 compressed, bits 3 and 2 alphabet
        if dcs & 0x20:
            return Alphabet.OCTETS
        return (Alphabet.GSM7, Alphabet.OCTETS, Alphabet.UCS2, Alphabet.GSM7)[dcs >> 2 & 3]
    if dcs < 0xE0:  # reserved, or message waiting in the default alphabet
        return Alphabet.GSM7
    if dcs < 0xF0:  # message waiting in UCS-2
        return Alphabet.UCS2
    return Alphabet.OCTETS if dcs & 0x04 else Alphabet.GSM7  # with a message class


def septets_in(octets: bytes) -> bytes:
    """As many septets: an octet over 0x7F is none, and becomes a question mark.

    Clients that send ISO 8859-1 as data_coding 0 meet this.  Their letters can't be told from
    a mistake, so that they are replaced where everyone sees it, and not guessed.
    """
    return octets.translate(_IN_SEPTETS)


def encode_gsm(text: str, *, replace: bool = False) -> bytes | None:
    """The septets of a text, one an octet, with escapes.

    None when the alphabet does not have every character, unless these are to be replaced.
    """
    septets = [_SEPTETS_OF.get(char) for char in text]
    if replace:
        return b"".join(_REPLACEMENT_SEPTET if found is None else found for found in septets)
    return None if None in septets else b"".join(filter(None, septets))


def decode_gsm(septets: bytes) -> str:
    """The text of septets, one an octet.  Never raises.

    As section 6.2.1.1 asks: an escape before a code that the extension table does not have shows
    the character of the default table, two escapes, or one at the end, a space.
    """
    chars: list[str] = []
    escaped = False
    for code in septets:
        if escaped:
            basic = GSM_BASIC_DECODE_MAP.get(code, " ")
            chars.append(GSM_EXTENDED_DECODE_MAP.get(code, basic))
            escaped = False
        elif code == ESCAPE:
            escaped = True
        else:
            chars.append(GSM_BASIC_DECODE_MAP.get(code, REPLACEMENT))
    return "".join(chars) + " " * escaped


def decode_text(text: bytes, dcs: int) -> str | None:
    """The text of user data without its header, for people to read; None for 8-bit data.

    A broken surrogate pair, or half a unit, shows as U+FFFD.
    """
    alphabet = alphabet_of(dcs)
    if alphabet is Alphabet.OCTETS:
        return None
    if alphabet is Alphabet.UCS2:
        return text.decode("utf-16-be", "replace")
    return decode_gsm(text)


def pack_septets(septets: bytes, fill_bits: int = 0) -> bytes:
    """Septets as a stream of bits, the lowest first, behind 0 to 6 fill bits (all zero)."""
    bits = 0
    for septet in reversed(septets):
        bits = bits << 7 | septet
    octets = (7 * len(septets) + fill_bits + 7) // 8
    return (bits << fill_bits).to_bytes(octets, "little")


def unpack_septets(octets: bytes, count: int, fill_bits: int = 0) -> bytes:
    """`count` septets, one an octet, from behind the fill bits; bits that are not there are 0."""
    bits = int.from_bytes(octets, "little") >> fill_bits
    return bytes(bits >> 7 * i & 0x7F for i in range(count))
