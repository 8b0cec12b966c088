"""The user data header in front of a short message, 3GPP TS 23.040 section 9.2.3.24; read only.

One octet of length, then information elements: identifier, length, data. It is there when
esm_class has ESM_UDHI set (SMPP 3.4 section 5.2.12).
"""

from __future__ import annotations

from typing import Final, NamedTuple

# By element identifier: the octets of its reference; the total and the part follow, one each.
_REFERENCE_OCTETS: Final = {0x00: 1, 0x08: 2}


class Concatenation(NamedTuple):
    """Which part of which long message this short message is."""

    reference: int
    """The same in all parts of one long message, 8 or 16 bits."""
    total: int
    """How many parts there are, 1 to 255."""
    part: int
    """The number of this one, 1 to `total`."""


def concatenation(user_data: bytes) -> Concatenation | None:
    """The concatenation element of user data that starts with a header, or None.

    Never raises. As in 3GPP TS 23.040: a header whose elements do not fill it exactly is ignored
    as a whole (9.2.3.24); a part that is 0 or beyond the total is ignored, elements 0x00
    (9.2.3.24.1) and 0x08 (9.2.3.24.8) exclude one another, and of several the last one counts.
    """
    if not user_data:
        return None
    end = user_data[0] + 1
    if end > len(user_data):
        return None
    last: Concatenation | None = None
    at = 1
    while at + 2 <= end:
        iei, length = user_data[at], user_data[at + 1]
        data = user_data[at + 2 : at + 2 + length]
        at += 2 + length
        if at <= end and _REFERENCE_OCTETS.get(iei) == length - 2:
            *_, total, part = data
            if 1 <= part <= total:
                last = Concatenation(int.from_bytes(data[:-2]), total, part)
    return last if at == end else None


def without_header(user_data: bytes) -> bytes:
    """The text behind the header; all of it when the header claims to be longer than that."""
    end = user_data[0] + 1 if user_data else 0
    return user_data[end:] if end <= len(user_data) else user_data
