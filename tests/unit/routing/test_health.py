from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import HealthSettings
from proxy.routing.health import ANSWERS_MIN, WINDOW_S, Health, State

OUT_S = 30.0


def health(**values: Any) -> Health:
    return Health(HealthSettings(**values))


def resting(now: float = 0.0, **values: Any) -> Health:
    """One that has just failed altogether."""
    one = health(**values)
    one.answered(0, ANSWERS_MIN, 0, 0, now)
    assert one.state is State.RESTING
    return one


def pass_trial(one: Health, now: float) -> None:
    """Good answers, as many as it lets in."""
    assert one.usable(now)
    for _ in range(7):
        one.answered(one.allowance(now) or 0, 0, 0, 0, now)
    assert one.state is State.HEALTHY


def test_it_begins_healthy() -> None:
    one = health()
    assert one.usable(0)
    assert one.allowance(0) is None
    assert (one.error_rate(0), one.response_s(0), one.why) == (0, None, "")


def test_half_of_ten_answers_is_too_much_and_a_few_show_nothing() -> None:
    one = health()
    one.answered(4, 5, 0, 0, 0)
    assert one.usable(0), "nine are too few"
    one.answered(1, 0, 0, 0, 0)
    assert not one.usable(0)
    assert one.why == "5 of 10 answers were failures"
    assert one.allowance(0) == 0
    below = health()
    below.answered(51, 49, 0, 0, 0)
    assert below.usable(0)
    assert below.error_rate(0) == pytest.approx(0.49)


def test_silence_counts_as_refusals_do() -> None:
    one = health(error_rate=0.2)
    one.answered(8, 1, 0, 0, 0)
    one.answered(0, 0, 1, 30, 0)
    assert one.why == "2 of 10 answers were failures"


def test_what_is_older_than_the_window_is_forgotten() -> None:
    one = health()
    one.answered(0, 9, 0, 1, 0)
    one.answered(1, 0, 0, 1, WINDOW_S - 1)
    assert one.why == "9 of 10 answers were failures"
    other = health()
    other.answered(1, 9 - 4, 0, 1, 0)
    assert other.error_rate(WINDOW_S - 0.1) > 0
    assert (other.error_rate(WINDOW_S), other.response_s(WINDOW_S)) == (0, None)
    other.answered(3, 4, 0, 1, WINDOW_S)
    assert other.usable(WINDOW_S), "7 answers, not 13"


def test_a_carrier_with_little_traffic_that_answers_nothing_is_found() -> None:
    """With one message in its window, 30 s each: never ten in half a minute."""
    one = health()
    for now in (0, 30):
        one.answered(0, 0, 1, 30, now)
        assert one.usable(now)
    one.answered(0, 0, 1, 30, 60)
    assert one.why == "no good answer for 60 s"
    other = health()
    for now in (0, 30, 60, 90):
        other.answered(1, 0, 0, 0.1, now)
        other.answered(0, 0, 1, 30, now)
    assert other.usable(90)


def test_slow_answers() -> None:
    one = health(response_s=2)
    one.answered(9, 0, 0, 2.5, 0)
    assert one.usable(0)
    assert one.response_s(0) == pytest.approx(2.5)
    one.answered(1, 0, 0, 2.5, 0)
    assert one.why == "answers take 2.5 s"
    fast = health(response_s=2)
    fast.answered(10, 0, 0, 2.0, 0)
    assert fast.usable(0)
    off = health()
    off.answered(100, 0, 0, 29, 0)
    assert off.usable(0)


def test_links_that_break_again_and_again() -> None:
    one = health()
    for now in (0, 10, 20):
        assert one.usable(now)
        one.lost(now)
    assert one.why == "3 links were lost in 30 s"
    rare = health()
    for now in (0, 20, 40, 60):
        rare.lost(now)
    assert rare.usable(60)


def test_a_carrier_that_restarts_loses_all_links_once() -> None:
    one = health()
    for link in range(32):
        one.lost(link * 0.01)
    assert one.usable(1)


def test_it_rests_then_is_let_in_gently() -> None:
    one = resting(now=100)
    assert not one.usable(100 + OUT_S - 0.01)
    assert one.usable(100 + OUT_S)
    assert one.state is State.TRIAL
    sizes = []
    now = 131.0
    while (size := one.allowance(now)) is not None:
        sizes.append(size)
        one.answered(size, 0, 0, 0.1, now)
        now += 0.2
    assert sizes == [1, 2, 4, 8, 16, 32, 64]
    assert (one.state, one.why) == (State.HEALTHY, "")


def test_a_round_is_as_many_answers_as_it_has() -> None:
    one = resting()
    one.answered(1, 0, 0, 0, OUT_S)
    assert one.allowance(OUT_S) == 2
    one.answered(1, 0, 0, 0, OUT_S)
    assert one.allowance(OUT_S) == 2
    one.answered(1, 0, 0, 0, OUT_S)
    assert one.allowance(OUT_S) == 4


def test_the_first_failure_ends_the_trial_and_the_next_rest_is_longer() -> None:
    one = resting()
    now, rests = 0.0, []
    for _ in range(6):
        began = now
        while not one.usable(now):
            now += 1
        rests.append(now - began)
        one.answered(0, 1, 0, 0.5, now + 0.5)
        now += 0.5
        assert one.state is State.RESTING
    assert [round(rest / OUT_S) for rest in rests] == [1, 2, 4, 8, 10, 10]
    assert one.why == "10 of 10 answers were failures, and its trial failed"


def test_a_lost_link_or_silence_ends_the_trial() -> None:
    one = resting()
    assert one.usable(OUT_S)
    one.lost(OUT_S)
    assert one.state is State.RESTING
    other = resting()
    other.answered(0, 0, 1, 0, OUT_S)
    assert other.state is State.RESTING
    assert not other.usable(2 * OUT_S)


def test_a_large_round_bears_the_failures_that_a_healthy_one_bears() -> None:
    """A carrier that refuses one in twenty is healthy; it must be able to come back."""
    one = resting()
    now = OUT_S
    for _ in range(3):  # 1, 2, 4
        one.answered(one.allowance(now) or 0, 0, 0, 0, now)
    while one.state is State.TRIAL:
        size = one.allowance(now) or 0
        one.answered(size - size // 8, size // 8, 0, 0, now)
    assert one.state is State.HEALTHY
    strict = resting(error_rate=0.01)
    strict.answered(1, 0, 0, 0, OUT_S)
    strict.answered(1, 1, 0, 0, OUT_S)
    assert strict.state is State.RESTING


def test_one_that_is_alone_gets_more_than_it_should_and_is_judged_by_the_share() -> None:
    one = resting()
    for _ in range(7):
        one.answered(90, 10, 0, 0, OUT_S)
    assert one.state is State.HEALTHY


def test_what_was_sent_before_the_trial_says_nothing_about_it() -> None:
    one = resting()
    assert one.usable(OUT_S)
    one.answered(0, 0, 20, 30, OUT_S + 5)  # silence of what was written at 5 s
    assert one.usable(OUT_S + 5)
    one.answered(0, 0, 1, 4, OUT_S + 5)
    assert not one.usable(OUT_S + 5)


def test_nobody_has_to_look_for_the_trial_to_begin() -> None:
    one = resting()
    one.answered(1, 0, 0, 3, OUT_S + 5)
    assert one.allowance(OUT_S + 5) == 2


def test_answers_while_it_rests_change_nothing() -> None:
    one = resting()
    one.answered(1000, 0, 0, 0, 1)
    one.answered(0, 1000, 0, 0, 2)
    one.lost(3)
    assert not one.usable(OUT_S - 1)
    assert one.usable(OUT_S)


def test_a_long_time_of_health_is_rewarded() -> None:
    one = resting()
    one.answered(0, 1, 0, 0, OUT_S)  # the second rest: 60 s
    pass_trial(one, 3 * OUT_S)
    one.answered(0, ANSWERS_MIN, 0, 0, 3 * OUT_S + 10)
    assert not one.usable(3 * OUT_S + 10 + 119), "soon ill again: 120 s"
    pass_trial(one, 3 * OUT_S + 10 + 120)
    later = 1000.0
    one.answered(0, ANSWERS_MIN, 0, 0, later)
    assert one.usable(later + OUT_S)


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 20), st.integers(0, 30), st.integers(0, 30), st.integers(0, 5),
        st.floats(0, 40), st.booleans(),
    ),
    max_size=60,
)  # fmt: skip


@given(EVENTS)
def test_whatever_happens_it_comes_back_and_keeps_little(events: list[Any]) -> None:
    one = health(response_s=5)
    now = 0.0
    for step, ok, refused, silent, seconds, lost in events:
        now += step
        one.answered(ok, refused, silent, seconds, now)
        if lost:
            one.lost(now)
        allowed = one.allowance(now)
        assert one.usable(now) == (allowed != 0)
        assert bool(one.why) == (one.state is not State.HEALTHY)
        assert 0 <= one.error_rate(now) <= 1
        assert len(one._buckets) <= 7
    now += 10 * OUT_S
    if one.state is not State.HEALTHY:
        pass_trial_from(one, now)


def pass_trial_from(one: Health, now: float) -> None:
    assert one.usable(now)
    for _ in range(10):
        one.answered(one.allowance(now) or 0, 0, 0, 0, now)
    assert one.state is State.HEALTHY


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 50)), max_size=100))
def test_good_answers_never_make_it_rest(answers: list[tuple[float, int]]) -> None:
    one = health()
    now = 0.0
    for step, ok in answers:
        now += step
        one.answered(ok, 0, 0, 0.01, now)
        assert one.state is State.HEALTHY
