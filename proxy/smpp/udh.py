"""The user data header in front of a short message, 3GPP TS 23.040 section 9.2.3.24; read only.

One octet of length, then information elements: identifier, length, data. It is there when
esm_class has ESM_UDHI set (SMPP 3.4 section 5.2.12).
"""

from __future__ import annotations


def without_header(user_data: bytes) -> bytes:
    """The text behind the header; all of it when the header claims to be longer than that."""
    end = user_data[0] + 1 if user_data else 0
    return user_data[end:] if end <= len(user_data) else user_data
