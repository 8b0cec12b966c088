"""The user data header, 3GPP TS 23.040 section 9.2.3.24."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.smpp.udh import without_header


@pytest.mark.parametrize(
    ("user_data", "text"),
    [
        (b"\x05\x00\x03\x2a\x02\x01hello", b"hello"),
        (b"\x06\x08\x04\x00\x2a\x02\x01hello", b"hello"),
        (b"\x00hello", b"hello"),
        (b"\x04abcd", b""),
        (b"\x05abcd", b"\x05abcd"),  # longer than what there is
        (b"", b""),
    ],
)
def test_without_header(user_data: bytes, text: bytes) -> None:
    assert without_header(user_data) == text


@given(st.binary(max_size=300))
def test_what_is_left_is_the_end_of_the_user_data(user_data: bytes) -> None:
    assert user_data.endswith(without_header(user_data))
