"""Addresses in TPDUs: a length, the type of address, semi-octets (3GPP TS 23.040 9.1.2.5)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from proxy.gsm.alphabet import decode_gsm, encode_gsm, pack_septets, unpack_septets
from proxy.gsm.errors import TpduError

TON_UNKNOWN: Final = 0
TON_INTERNATIONAL: Final = 1
TON_ALPHANUMERIC: Final = 5
NPI_UNKNOWN: Final = 0
NPI_ISDN: Final = 1
"""E.164/E.163, the plan of telephone numbers."""

SEMI_OCTETS_MAX: Final = 20

# The semi-octets 10 to 14 are * # a b c, as hexadecimal digits a b c d e; 15 fills the last octet.
_TO_HEX: Final = str.maketrans("*#abc", "abcde")
_FROM_HEX: Final = str.maketrans("abcde", "*#abc")
_DIGITS: Final = re.compile(rf"[0-9*#abc]{{0,{SEMI_OCTETS_MAX}}}")


class Number(NamedTuple):
    """A telephone number, or the name of a sender."""

    ton: int
    """Type of number, 0 to 7; the same values as in SMPP."""
    npi: int
    """Numbering plan identification, 0 to 15."""
    digits: str
    """0 to 9, * # a b c, without a "+"; the text of an alphanumeric one (ton 5)."""


def encode_number(number: Number) -> bytes:
    """An address field.  Raises TpduError for what does not fit in 12 octets."""
    if number.ton == TON_ALPHANUMERIC:
        septets = encode_gsm(number.digits)
        if septets is None or 7 * len(septets) > 4 * SEMI_OCTETS_MAX:
            raise TpduError(f"{number.digits!r} can't be an alphanumeric address")
        # Section 9.1.2.5: the length counts the semi-octets that hold something of use.
        semi_octets = -(-7 * len(septets) // 4)
        value = pack_septets(septets)
    else:
        semi_octets = len(number.digits)
        value = _encode_digits(number.digits)
    return bytes((semi_octets, _type_of_address(number))) + value


def decode_number(octets: bytes, at: int) -> tuple[Number, int]:
    """An address field from `at` on, and where the next field begins.  Raises TpduError."""
    if len(octets) < at + 2:
        raise TpduError("an address is cut off")
    semi_octets = octets[at]
    end = at + 2 + (semi_octets + 1) // 2
    if len(octets) < end:
        raise TpduError("an address is cut off")
    return _number(octets[at + 1], octets[at + 2 : end], semi_octets), end


def encode_smsc(number: Number) -> bytes:
    """The address of a service centre as AT commands have it: its length is in octets.

    3GPP TS 27.005 section 3.1 (<pdu>), 24.011 section 8.2.5.2.  Raises TpduError.
    """
    value = _encode_digits(number.digits)
    return bytes((1 + len(value), _type_of_address(number))) + value


def decode_smsc(octets: bytes) -> tuple[Number | None, int]:
    """The address in front of a TPDU, None when there is none, and where the TPDU begins.

    Raises TpduError.
    """
    end = 1 + octets[0] if octets else 1
    if len(octets) < end:
        raise TpduError("the service centre's address is cut off")
    if end <= 2:
        return None, end
    return _number(octets[1], octets[2:end], 2 * (end - 2)), end


def _type_of_address(number: Number) -> int:
    if not (0 <= number.ton <= 7 and 0 <= number.npi <= 15):
        raise TpduError(f"ton {number.ton} and npi {number.npi} don't fit in an address")
    return 0x80 | number.ton << 4 | number.npi


def _number(type_of_address: int, value: bytes, semi_octets: int) -> Number:
    ton, npi = type_of_address >> 4 & 7, type_of_address & 15
    if ton == TON_ALPHANUMERIC:
        return Number(ton, npi, decode_gsm(unpack_septets(value, 4 * semi_octets // 7)))
    text = _swap(value.hex())[:semi_octets]
    return Number(ton, npi, text.partition("f")[0].translate(_FROM_HEX))


def _encode_digits(digits: str) -> bytes:
    if _DIGITS.fullmatch(digits) is None:
        raise TpduError(f"{digits!r} can't be a number")
    text = digits.translate(_TO_HEX)
    return bytes.fromhex(_swap(text + "f" * (len(text) % 2)))


def _swap(text: str) -> str:
    """Every two characters exchanged: the first digit is in the low half of an octet."""
    swapped = [""] * len(text)
    swapped[::2], swapped[1::2] = text[1::2], text[::2]
    return "".join(swapped)
