from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.credit.money import MAX_MICRO
from proxy.credit.thresholds import (
    HOURS_MAX,
    THRESHOLDS_MAX,
    Threshold,
    parse_threshold,
    parse_thresholds,
)

THRESHOLDS = st.builds(Threshold, st.just("absolute"), st.integers(1, MAX_MICRO)) | st.builds(
    Threshold, st.just("hours"), st.integers(1, HOURS_MAX)
)


@given(THRESHOLDS)
def test_there_and_back(threshold: Threshold) -> None:
    assert parse_threshold(threshold.text) == threshold


@pytest.mark.parametrize(
    ("text", "threshold", "kept"),
    [
        ("100", Threshold("absolute", 100_000_000), "100"),
        (" 0.50 ", Threshold("absolute", 500_000), "0.5"),
        ("0.000001", Threshold("absolute", 1), "0.000001"),
        ("24h", Threshold("hours", 24), "24h"),
        ("024H", Threshold("hours", 24), "24h"),
    ],
)
def test_thresholds_that_people_write(text: str, threshold: Threshold, kept: str) -> None:
    assert parse_threshold(text) == threshold
    assert threshold.text == kept


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is neither an amount of credits such as 100 nor hours such as 24h"),
        ("h", "is neither"),
        ("1.5h", "is neither"),
        ("-1h", "is neither"),
        ("24 h", "is neither"),
        ("1d", "is neither"),
        ("٢h", "is neither"),
        ("0h", "is not between 1h and 8760h"),
        ("8761h", "is not between 1h and 8760h"),
        ("0", "is not above zero; at zero a warning always comes"),
        ("-5", "is not above zero"),
        ("0.0000001", "has more than six decimals"),
        ("9" * 30, "is out of range"),
    ],
)
def test_what_is_no_threshold_is_refused_in_a_sentence(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_threshold(text)


@given(st.text(max_size=30) | st.from_regex(r"\A ?[0-9]{0,20}(\.[0-9]{0,8})?[hH]? ?\Z"))
def test_any_text_is_exactly_a_threshold_or_refused(text: str) -> None:
    try:
        threshold = parse_threshold(text)
    except ValueError:
        return
    if threshold.kind == "hours":
        assert 1 <= threshold.amount <= HOURS_MAX
        assert threshold.amount == int(text.strip()[:-1])
    else:
        assert 0 < threshold.amount <= MAX_MICRO
        assert Decimal(text.strip()) == Decimal(threshold.amount).scaleb(-6)


def test_lists() -> None:
    texts = [threshold.text for threshold in parse_thresholds("24h, 10,100,10.0,48h,")]
    assert texts == ["100", "10", "48h", "24h"]
    assert parse_thresholds("") == ()
    with pytest.raises(ValueError, match="is neither"):
        parse_thresholds("100,soon")
    many = ",".join(str(n) for n in range(1, THRESHOLDS_MAX + 2))
    with pytest.raises(ValueError, match="at most 20 thresholds"):
        parse_thresholds(many)
