"""The order in which messages try the upstreams of a route."""

from __future__ import annotations

from collections import Counter
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.routes import Policy
from proxy.routing.policy import ways_of
from proxy.routing.table import Route

POLICIES: list[Policy] = ["failover", "weighted", "least_cost", "round_robin"]


def not_asked(upstream: str) -> int | None:
    raise AssertionError(upstream)


def test_failover_is_the_order_of_the_file_and_makes_nothing() -> None:
    route = Route("any", ["a", "b", "c"])
    assert route.ways(not_asked) == ("a", "b", "c")
    assert route.ways(not_asked) is route.upstreams


@pytest.mark.parametrize("policy", POLICIES)
def test_with_one_upstream_all_policies_are_the_same(policy: Policy) -> None:
    route = Route("any", ["a"], policy=policy, weights=[3] if policy == "weighted" else None)
    assert route.ways(not_asked) is route.upstreams


def test_round_robin_takes_turns_and_keeps_the_order_behind() -> None:
    ways = Route("any", ["a", "b", "c"], policy="round_robin").ways
    assert [ways(not_asked) for _ in range(4)] == [
        ("a", "b", "c"),
        ("b", "c", "a"),
        ("c", "a", "b"),
        ("a", "b", "c"),
    ]


@given(st.integers(2, 8), st.integers(0, 100))
def test_round_robin_is_fair_at_any_time(upstreams: int, messages: int) -> None:
    ways = ways_of("round_robin", tuple(range(upstreams)), None)
    firsts = Counter(ways(lambda _: None)[0] for _ in range(messages))
    assert sum(firsts.values()) == messages
    assert max(firsts.values(), default=0) - min(firsts[i] for i in range(upstreams)) <= 1


def test_weighted_spreads_evenly_and_the_heaviest_follow() -> None:
    ways = Route("any", ["a", "b", "c"], policy="weighted", weights=[1, 5, 2]).ways
    orders = [ways(not_asked) for _ in range(8)]
    assert "".join(order[0] for order in orders) == "bcbabbcb"
    assert set(orders) == {("a", "b", "c"), ("b", "c", "a"), ("c", "b", "a")}


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6))
def test_weighted_shares_are_exact_over_each_cycle(weights: list[int]) -> None:
    ways = ways_of("weighted", tuple(range(len(weights))), weights)
    divisor = gcd(*weights)
    cycle = sum(weights) // divisor
    expected = {i: weight // divisor for i, weight in enumerate(weights)}
    for _ in range(3):
        assert Counter(ways(lambda _: None)[0] for _ in range(cycle)) == expected


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6))
def test_weighted_is_never_far_from_its_share_within_a_cycle(weights: list[int]) -> None:
    ways = ways_of("weighted", tuple(range(len(weights))), weights)
    total, times = sum(weights), [0] * len(weights)
    for messages in range(1, total + 1):
        order = ways(lambda _: None)
        assert sorted(order) == list(range(len(weights))), "each once"
        behind = [weights[i] for i in order[1:]]
        assert behind == sorted(behind, reverse=True)
        times[order[0]] += 1
        for weight, count in zip(weights, times, strict=True):
            assert abs(count - messages * weight / total) < len(weights)


def test_weights_have_to_fit() -> None:
    for weights in (None, [1], [1, 2, 3]):
        with pytest.raises(ValueError, match="one weight for each upstream"):
            Route("any", ["a", "b"], policy="weighted", weights=weights)


def test_least_cost_is_cheapest_first_unknown_last_and_ties_as_in_the_file() -> None:
    costs = {"a": None, "b": 7, "c": 0, "d": 7, "e": None, "f": 1}
    route = Route("any", list(costs), policy="least_cost")
    assert "".join(route.ways(costs.__getitem__)) == "cfbdae"
    assert route.ways(lambda _: None) == tuple("abcdef")


@given(st.lists(st.none() | st.integers(0, 3), min_size=2, max_size=6))
def test_least_cost_is_sorted(costs: list[int | None]) -> None:
    order = ways_of("least_cost", tuple(range(len(costs))), None)(lambda i: costs[i])
    key = [(10 if costs[i] is None else costs[i], i) for i in order]
    assert key == sorted(key)
    assert sorted(order) == list(range(len(costs)))
