from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.smpp.udh import Concatenation, concatenation


@pytest.mark.parametrize(
    ("user_data", "expected"),
    [
        pytest.param("05 00 03 CC 02 01 68 69", Concatenation(0xCC, 2, 1), id="8-bit reference"),
        pytest.param("06 08 04 12 34 03 03 68", Concatenation(0x1234, 3, 3), id="16-bit reference"),
        pytest.param("05 00 03 CC 02 02", Concatenation(0xCC, 2, 2), id="no text"),
        pytest.param("05 00 03 00 FF FF", Concatenation(0, 255, 255), id="the most parts"),
        pytest.param(
            "0B 05 04 0B 84 23 F0 00 03 03 02 01", Concatenation(3, 2, 1), id="behind ports"
        ),
        pytest.param(
            "0B 00 03 03 02 01 05 04 0B 84 23 F0", Concatenation(3, 2, 1), id="before ports"
        ),
        pytest.param(
            "0B 00 03 01 02 01 08 04 00 09 03 02", Concatenation(9, 3, 2), id="the last counts"
        ),
        pytest.param(
            "0A 00 03 01 02 01 00 03 02 02 03", Concatenation(1, 2, 1), id="a bad one is ignored"
        ),
        pytest.param("06 05 04 0B 84 23 F0", None, id="ports only"),
        pytest.param("", None, id="empty"),
        pytest.param("00", None, id="empty header"),
        pytest.param("00 68 69", None, id="empty header and text"),
        pytest.param("05 00 03 CC 02", None, id="header beyond the data"),
        pytest.param("04 00 03 CC 02 01", None, id="element beyond the header"),
        pytest.param("03 00 03 CC", None, id="element beyond the data"),
        pytest.param("06 00 03 CC 02 01 00", None, id="an octet too many in the header"),
        pytest.param("04 00 02 CC 02", None, id="element too short"),
        pytest.param("06 00 04 CC 02 01 00", None, id="element too long"),
        pytest.param("05 08 03 CC 02 01", None, id="16-bit element too short"),
        pytest.param("05 00 03 CC 02 00", None, id="part 0"),
        pytest.param("05 00 03 CC 00 00", None, id="of 0 parts"),
        pytest.param("05 00 03 CC 02 03", None, id="part beyond the total"),
    ],
)
def test_concatenation(user_data: str, expected: Concatenation | None) -> None:
    assert concatenation(bytes.fromhex(user_data)) == expected


@given(st.binary())
def test_garbage_never_raises(user_data: bytes) -> None:
    found = concatenation(user_data)
    assert found is None or 1 <= found.part <= found.total <= 255


@given(
    st.integers(0, 0xFFFF),
    st.integers(1, 255),
    st.data(),
    st.lists(st.tuples(st.integers(0x10, 0xFF), st.binary(max_size=4)), max_size=4),
    st.binary(max_size=4),
)
def test_it_is_found_among_other_elements(
    reference: int,
    total: int,
    data: st.DataObject,
    others: list[tuple[int, bytes]],
    text: bytes,
) -> None:
    part = data.draw(st.integers(1, total))
    elements = [bytes((iei, len(value))) + value for iei, value in others]
    at = data.draw(st.integers(0, len(elements)))
    elements.insert(at, b"\x08\x04" + reference.to_bytes(2) + bytes((total, part)))
    header = b"".join(elements)
    expected = Concatenation(reference, total, part)
    assert concatenation(bytes((len(header),)) + header + text) == expected
