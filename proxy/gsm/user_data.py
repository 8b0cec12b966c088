"""TP-User-Data and its length: header, fill bits, text (3GPP TS 23.040 section 9.2.3.24).

On the inside it is what SMPP carries: the octets of the header, if there is one, then the text,
with septets one an octet.
"""

from __future__ import annotations

from typing import Final

from proxy.gsm.alphabet import Alphabet, alphabet_of, pack_septets, unpack_septets
from proxy.gsm.errors import TpduError

OCTETS_MAX: Final = 140
SEPTETS_MAX: Final = 160


def header_octets(user_data: bytes, udhi: bool) -> int:
    """How long the header is, with its length octet; 0: there is none.

    Raises TpduError for one that is longer than the user data.
    """
    if not udhi:
        return 0
    if not user_data or user_data[0] >= len(user_data):
        raise TpduError("the user data header is cut off")
    return user_data[0] + 1


def header_elements(header: bytes) -> list[tuple[int, bytes]] | None:
    """The information elements (identifier, data) of a header that begins with its length.

    None when they do not fill it exactly: then it is to be ignored as a whole.
    """
    elements: list[tuple[int, bytes]] = []
    at = 1
    while at + 2 <= len(header):
        end = at + 2 + header[at + 1]
        elements.append((header[at], header[at + 2 : end]))
        at = end
    return elements if at == len(header) else None


def header_of(elements: list[tuple[int, bytes]]) -> bytes:
    """A header of these elements; nothing for none.  Raises TpduError when it can't be one."""
    octets = b"".join(bytes((iei, len(data))) + data for iei, data in elements)
    if len(octets) >= OCTETS_MAX:
        raise TpduError("the user data header is too long")
    return bytes((len(octets),)) + octets if octets else b""


def header_septets(octets: int) -> int:
    """How many septets a header takes, the fill bits behind it included."""
    return -(-8 * octets // 7)


def fits(header: int, text: int, alphabet: Alphabet) -> bool:
    """A text of so many septets or octets, behind a header of so many octets, is one message."""
    if alphabet is Alphabet.GSM7:
        return header_septets(header) + text <= SEPTETS_MAX
    return header + text <= OCTETS_MAX


def encode_user_data(user_data: bytes, dcs: int, udhi: bool) -> bytes:
    """TP-UDL and TP-UD.  Raises TpduError when it is too long, or a septet is none."""
    alphabet = alphabet_of(dcs)
    end = header_octets(user_data, udhi)
    header, text = user_data[:end], user_data[end:]
    if not fits(end, len(text), alphabet):
        raise TpduError(f"{len(user_data)} octets are too many for one short message")
    if alphabet is not Alphabet.GSM7:
        return bytes((len(user_data),)) + user_data
    if not text.isascii():
        raise TpduError("the text has octets that are no septets")
    septets = header_septets(end)
    packed = pack_septets(text, 7 * septets - 8 * end)
    return bytes((septets + len(text),)) + header + packed


def decode_user_data(octets: bytes, dcs: int, udhi: bool) -> bytes:
    """What TP-UDL and TP-UD say; octets behind it are ignored (some modems send them).

    Raises TpduError for one that is cut off, or longer than a short message can be.
    """
    length = octets[0] if octets else 0
    alphabet = alphabet_of(dcs)
    size = -(-7 * length // 8) if alphabet is Alphabet.GSM7 else length
    user_data = octets[1 : 1 + size]
    if not octets or len(user_data) < size:
        raise TpduError("the user data is cut off")
    if size > OCTETS_MAX:
        raise TpduError(f"user data of {size} octets is no short message")
    end = header_octets(user_data, udhi)
    if alphabet is not Alphabet.GSM7:
        return user_data
    septets = header_septets(end)
    if septets > length:
        raise TpduError("the user data header is cut off")
    text = unpack_septets(user_data[end:], length - septets, 7 * septets - 8 * end)
    return user_data[:end] + text
