from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.credit.money import MAX_MICRO, micro_from_text, text_from_micro

AMOUNTS = st.integers(-MAX_MICRO, MAX_MICRO)


@given(AMOUNTS)
def test_there_and_back(micro: int) -> None:
    assert micro_from_text(text_from_micro(micro)) == micro


@given(AMOUNTS)
def test_the_text_is_the_shortest_exact_decimal(micro: int) -> None:
    text = text_from_micro(micro)
    assert Decimal(text) * 1_000_000 == micro
    assert "E" not in text.upper()
    if "." in text:
        assert text[-1] not in "0."


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("12", 12_000_000),
        ("-3.5", -3_500_000),
        ("0.000001", 1),
        (" 7 ", 7_000_000),
        ("+1", 1_000_000),
        ("0", 0),
        ("-0", 0),
        ("1.10000000", 1_100_000),
        ("1000000000000", MAX_MICRO),
        ("-1000000000000.000000", -MAX_MICRO),
    ],
)
def test_amounts_that_people_write(text: str, micro: int) -> None:
    assert micro_from_text(text) == micro


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a number"),
        ("ten", "is not a number"),
        ("1,5", "is not a number"),
        ("0x10", "is not a number"),
        ("nan", "is not a number"),
        ("sNaN", "is not a number"),
        ("inf", "is not a number"),
        ("1000000000000.000001", "is out of range"),
        ("1e999999", "is not a number"),
        ("1e9999999999", "is not a number"),
        ("9" * 70, "is out of range"),
        ("0.0000001", "has more than six decimals"),
        ("1.00000000000000000000000000000000000001", "has more than six decimals"),
        ("0.9999999999999999999999999999999999999", "has more than six decimals"),
        ("1e-9999999", "is not a number"),
        ("1e3", "is not a number"),
        ("1_000", "is not a number"),
    ],
)
def test_what_is_not_an_amount_is_refused_in_a_sentence(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        micro_from_text(text)


@given(st.text(max_size=30) | st.from_regex(r"\A-?[0-9]{1,40}(\.[0-9]{1,40})?(e-?[0-9]{1,8})?\Z"))
def test_any_text_is_exactly_an_amount_or_refused(text: str) -> None:
    try:
        micro = micro_from_text(text)
    except ValueError:
        return
    assert abs(micro) <= MAX_MICRO
    assert Decimal(text.strip()) == Decimal(micro).scaleb(-6)
