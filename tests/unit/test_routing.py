from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.routing.inbound import InboundTable
from proxy.routing.throttle import Throttle

DIGITS = st.text("01", max_size=5)

# --------------------------------------------------------------------------------- inbound


def test_an_address_goes_before_a_prefix_and_a_longer_prefix_before_a_shorter() -> None:
    table = InboundTable([("4477*", 1), ("447712", 2), ("44*", 3), ("*", 4), ("SHOP", 5)])
    assert table.find("447712") == 2
    assert table.find("4477123") == 1
    assert table.find("4477") == 1
    assert table.find("441") == 3
    assert table.find("SHOP") == 5
    assert table.find("SHOPS") == 4
    assert table.find("") == 4


def test_an_address_that_nobody_takes_is_nobodys() -> None:
    table = InboundTable([("4477*", 1)])
    assert table.find("447") is None
    assert table.find("") is None
    assert InboundTable([]).find("4477") is None


@given(st.dictionaries(DIGITS, st.integers(1, 9)), st.dictionaries(DIGITS, st.integers(1, 9)))
def test_inbound_is_found_as_by_trying_all(exact: dict[str, int], prefix: dict[str, int]) -> None:
    table = InboundTable([*exact.items(), *((f"{p}*", account) for p, account in prefix.items())])
    for address in ["", "0", "1", "01", "0101", "111111"]:
        matching = [p for p in prefix if address.startswith(p)]
        expected = exact.get(address, prefix[max(matching, key=len)] if matching else None)
        assert table.find(address) == expected


# -------------------------------------------------------------------------------- throttle


def test_a_burst_is_a_tenth_of_a_second_and_at_least_one() -> None:
    assert Throttle(100, now=0).available(0) == 10
    assert Throttle(3, now=0).available(0) == 1
    fast = Throttle(100, now=0)
    assert fast.available(1000) == 10, "rest is not saved up"


def test_what_is_taken_comes_back_with_time() -> None:
    throttle = Throttle(10, now=0)
    throttle.take(throttle.available(0))
    assert throttle.available(0) == 0
    assert throttle.wait_s() == pytest.approx(0.1)
    assert throttle.available(0.05) == 0
    assert throttle.wait_s() == pytest.approx(0.05)
    assert throttle.available(0.1001) == 1
    assert throttle.wait_s() == 0


@given(st.floats(0.5, 5000), st.lists(st.floats(0, 0.5), min_size=1, max_size=100))
def test_the_rate_is_kept_over_any_time(rate_per_s: float, steps: list[float]) -> None:
    throttle = Throttle(rate_per_s, now=0)
    now, sent = 0.0, 0
    for step in steps:
        now += step
        count = throttle.available(now)
        assert count >= 0
        throttle.take(count)
        sent += count
        assert sent <= max(1.0, rate_per_s / 10) + now * rate_per_s + 1e-6


@given(st.floats(0.5, 5000))
def test_after_the_wait_the_next_one_may_go(rate_per_s: float) -> None:
    throttle = Throttle(rate_per_s, now=0)
    throttle.take(throttle.available(0))
    assert throttle.available(throttle.wait_s() * (1 + 1e-9) + 1e-9) >= 1
