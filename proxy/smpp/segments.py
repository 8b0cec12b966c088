"""How many short messages a text is: what the carrier sends, and so what is charged.

One short message carries 140 octets of user data (3GPP TS 23.040 section 9.2.3.24.1): 160
septets, 140 octets or 70 16-bit units. Each part of a longer text gives 6 of those octets to the
header that joins them, which leaves 153, 134 or 67.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from aiosmpplib.codec import ESCAPE, GSM_EXTENDED_ENCODE_MAP, GSM7BitCodec

_ONE_SEPTETS, _PART_SEPTETS = 160, 153
_ONE_OCTETS, _PART_OCTETS = 140, 134
_ONE_UNITS, _PART_UNITS = 70, 67

_ESC: Final = bytes((ESCAPE,))

_Coding: TypeAlias = tuple[int, Callable[[bytes], int]]


def _octet_parts(text: bytes) -> int:
    """Parts of 8-bit data, which may be cut anywhere."""
    if len(text) <= _ONE_OCTETS:
        return 1
    return -(-len(text) // _PART_OCTETS)


def _septet_parts(text: bytes) -> int:
    """Parts of unpacked GSM 03.38 septets, one an octet (3GPP TS 23.038 section 6.2.1).

    An escape and the character after it stay together. Parts start between characters, so at a
    cut after a run of escapes (ESC ESC is a character too: the way to a further table) the last
    of them is a character's first half exactly when the run is odd.
    """
    if len(text) <= _ONE_SEPTETS:
        return 1
    if _ESC not in text:
        return -(-len(text) // _PART_SEPTETS)
    parts = 1
    start = 0
    while len(text) - start > _PART_SEPTETS:
        part = text[start : start + _PART_SEPTETS]
        escapes = _PART_SEPTETS - len(part.rstrip(_ESC))
        start += _PART_SEPTETS - escapes % 2
        parts += 1
    return parts


def _unit_parts(text: bytes) -> int:
    """Parts of UCS-2 or UTF-16 in network order; an odd trailing octet takes a unit.

    The halves of a surrogate pair stay together: phones show a lone half as rubbish, and the
    software that splits texts for carriers knows it.
    """
    units = (len(text) + 1) // 2
    if units <= _ONE_UNITS:
        return 1
    parts = 1
    start = 0
    while units - start > _PART_UNITS:
        start += _PART_UNITS
        # Before the cut a high half, behind it a low one (RFC 2781 section 2.1).
        if text[2 * start - 2] & 0xFC == 0xD8 and text[2 * start] & 0xFC == 0xDC:
            start -= 1
        parts += 1
    return parts


# For bytes.translate: ESC in place of an octet that GSM 03.38 escapes, else a blank. ISO 8859-1
# begins with ASCII and has nothing in its second half that is escaped, so this serves both.
_WIDTHS: Final = bytes(ESCAPE if chr(o) in GSM_EXTENDED_ENCODE_MAP else 0x20 for o in range(256))
_LATIN_1_IN_GSM: Final = bytes(o for o in range(256) if GSM7BitCodec.is_gsm_text(chr(o)))


def _ascii_parts(text: bytes) -> int:
    """Parts of a text whose characters are carried as GSM 7-bit, substituted or escaped."""
    return _septet_parts(text.translate(_WIDTHS).replace(_ESC, _ESC + b" "))


def _latin_1_parts(text: bytes) -> int:
    """Parts of ISO 8859-1: GSM 7-bit when that has all the characters, else UCS-2."""
    if text.translate(None, _LATIN_1_IN_GSM):
        return _unit_parts(text.decode("latin-1").encode("utf-16-be"))
    return _ascii_parts(text)


def _unicode_parts(codec: str) -> Callable[[bytes], int]:
    """Parts of a text in this Python codec, carried as UCS-2; as 8-bit if it cannot be read."""

    def parts(text: bytes) -> int:
        try:
            units = text.decode(codec).encode("utf-16-be")
        except UnicodeDecodeError:
            return _octet_parts(text)
        return _unit_parts(units)

    return parts


# How each alphabet is counted, and up to how many octets it is one short message for certain:
# an ASCII octet takes at most two septets, and one of the last kind at most one 16-bit unit.
_GSM: Final[_Coding] = (_ONE_SEPTETS, _septet_parts)
_OCTETS: Final[_Coding] = (_ONE_OCTETS, _octet_parts)
_UCS2: Final[_Coding] = (2 * _ONE_UNITS, _unit_parts)
_OF_SMPP: Final[dict[int, _Coding]] = {
    0x00: _GSM,
    0x01: (_ONE_SEPTETS // 2, _ascii_parts),
    0x03: (_ONE_UNITS, _latin_1_parts),
    0x05: (_ONE_UNITS, _unicode_parts("iso2022_jp")),
    0x06: (_ONE_UNITS, _unicode_parts("iso8859_5")),
    0x07: (_ONE_UNITS, _unicode_parts("iso8859_8")),
    0x08: _UCS2,
    0x0A: (_ONE_UNITS, _unicode_parts("iso2022_jp")),
    0x0D: (_ONE_UNITS, _unicode_parts("iso2022_jp_1")),  # the one with JIS X 0212 (RFC 2237)
    0x0E: (_ONE_UNITS, _unicode_parts("euc_kr")),
}


def _coding(data_coding: int) -> _Coding:
    """SMPP 3.4 section 5.2.19 below 0x10, from there on 3GPP TS 23.038 section 4."""
    if data_coding < 0x10:
        return _OF_SMPP.get(data_coding, _OCTETS)
    if data_coding < 0x80:  # 00xx and 01xx: bit 5 compressed, bits 3 and 2 the alphabet
        if data_coding & 0x20:
            return _OCTETS
        return (_GSM, _OCTETS, _UCS2, _GSM)[data_coding >> 2 & 3]
    if data_coding < 0xE0:  # reserved, or message waiting in the default alphabet
        return _GSM
    if data_coding < 0xF0:  # message waiting in UCS-2
        return _UCS2
    return _OCTETS if data_coding & 0x04 else _GSM  # with a message class


_CODINGS: Final = tuple(map(_coding, range(256)))
BINARY: Final = frozenset(code for code, coding in enumerate(_CODINGS) if coding is _OCTETS)
"""The data_codings of 8-bit data."""


def count_segments(text: bytes, data_coding: int) -> int:
    """How many short messages the carrier sends for a text that it has to split itself.

    Args:
        text: short_message or message_payload as it came, without a user data header; a part
            that the client split off itself (a UDH or sar_* TLVs) is one segment and not for
            this function.
        data_coding: 0 to 255.

    Returns:
        At least 1, also for an empty text.
    """
    one, parts = _CODINGS[data_coding]
    return 1 if len(text) <= one else parts(text)
