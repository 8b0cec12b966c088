from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paced import Outcome, at_random, bucket, calendar, play, sliding

from proxy.routing.throttle import AdaptiveRate


def slowed(took: int, rate_per_s: float | None = None, now: float = 10.0) -> AdaptiveRate:
    """One that was cut when the carrier had taken so many in the last second."""
    one = AdaptiveRate(rate_per_s, now=0)
    if took:
        one.answered(took, 0, 0.1, now - 0.5)
    assert one.answered(0, 1000, 0.1, now)
    return one


def tried(one: AdaptiveRate, taken: int, refused: int, now: float) -> bool:
    """Answers to what went out after the last cut, a second from `now`."""
    cut = one.answered(0, 0, 0.0, now)
    return one.answered(taken, refused, 0.0, now + 1.1) or cut


def test_without_a_rate_there_is_no_limit() -> None:
    one = AdaptiveRate(None, now=0)
    assert (one.limited, one.slowed, one.rate_per_s) == (False, False, None)


def test_a_configured_rate_is_kept() -> None:
    one = AdaptiveRate(100, now=0)
    assert (one.limited, one.slowed, one.rate_per_s) == (True, False, 100)
    assert one.available(0) == 10
    one.take(10)
    assert one.available(0) == 0
    assert one.wait_s() == pytest.approx(0.01)
    assert one.available(0.011) == 1
    assert one.available(1000) == 10, "rest is not saved up"


def test_a_complaint_among_ten_answers_slows_nobody_down() -> None:
    one = AdaptiveRate(None, now=0)
    for second in range(1000):
        assert not one.answered(90, 10, 0.1, second)
    assert not one.limited
    assert any(one.answered(85, 15, 0.1, 1000 + second) for second in range(3))


def test_a_few_complaints_now_and_then_do_not_add_up() -> None:
    one = AdaptiveRate(None, now=0)
    for minute in range(100):
        assert not one.answered(0, 3, 0.1, 60 * minute)


def test_it_slows_to_a_little_less_than_the_carrier_took() -> None:
    one = slowed(100)
    assert one.limited
    assert one.slowed
    assert one.rate_per_s == pytest.approx(90)
    assert slowed(100, 50).rate_per_s == pytest.approx(45), "never above what was allowed before"


def test_nothing_goes_out_while_a_burst_is_less_than_a_second_ago() -> None:
    one = slowed(100)  # these were taken at 9.5 s
    assert one.available(10.49) == 0
    assert one.wait_s() == pytest.approx(0.01 + 1 / 90)
    assert one.available(10.52) == 1
    steady = AdaptiveRate(None, now=0)
    for hundredth in range(100):
        steady.answered(1, 0, 0.1, 9 + hundredth / 100)
    steady.answered(0, 50, 0.1, 10)
    assert 0.1 < steady.wait_s() < 10.1 + 0.15, "what was taken steadily makes it wait little"
    assert steady.available(10.15) >= 1


def test_what_was_taken_longer_ago_does_not_count() -> None:
    one = AdaptiveRate(None, now=0)
    one.answered(500, 0, 0, 9)
    one.answered(10, 0, 0, 9.5)
    one.answered(10, 400, 0, 10)
    assert one.rate_per_s == pytest.approx(18)


def test_it_stays_above_one_a_second_or_what_is_configured() -> None:
    assert slowed(0).rate_per_s == 1
    assert slowed(1, 10).rate_per_s == 1
    one = AdaptiveRate(0.25, now=0)
    assert not one.answered(0, 100, 0.1, 10), "there is no less"
    assert one.rate_per_s == 0.25


def test_what_was_written_before_the_cut_does_not_count() -> None:
    one = slowed(100)
    assert not one.answered(0, 1000, 5, 12)
    assert one.rate_per_s == pytest.approx(90)
    assert tried(one, 40, 20, 12)
    assert one.rate_per_s == pytest.approx(90 * 40 / 60 * 0.9)


def test_when_most_of_the_new_rate_is_refused_it_goes_down_before_the_second_is_over() -> None:
    one = slowed(500)
    one.answered(0, 0, 0.01, 10.6)
    assert one.answered(1, 19, 0.01, 10.61)
    assert one.rate_per_s == pytest.approx(450 * 0.1 * 0.9)


def test_what_stays_the_same_at_a_lower_rate_is_not_about_the_rate() -> None:
    one = AdaptiveRate(None, now=0)
    assert one.answered(350, 150, 0.1, 10)
    assert one.rate_per_s == pytest.approx(315)
    assert tried(one, 220, 95, 11)
    assert one.rate_per_s == pytest.approx(315 * 0.9 * 220 / 315)
    assert not tried(one, 139, 59, 13), "and now it knows"
    assert one.rate_per_s == pytest.approx(500), "what went out before"
    for tenth in range(200):
        assert not one.answered(35, 15, 0.1, 15 + tenth / 10)
    assert any(one.answered(35, 15, 0.1, 45 + tenth / 10) for tenth in range(10)), (
        "it is looked at anew after half a minute"
    )


def test_what_becomes_less_at_a_lower_rate_is_about_the_rate() -> None:
    one = AdaptiveRate(None, now=0)
    one.answered(350, 150, 0.1, 10)
    assert not tried(one, 300, 0, 11)
    assert one.rate_per_s == pytest.approx(315)


def test_it_climbs_slowly_then_faster_up_to_the_configured_rate() -> None:
    one = slowed(100, 2000)
    assert not tried(one, 90, 0, 10.6)
    seen = []
    for tenth in range(200):
        one.available(11.7 + tenth / 10)
        seen.append(one.rate_per_s or 0)
    assert seen == sorted(seen)
    assert 95 < seen[10] < 99
    assert 2 * seen[40] < seen[60]
    assert seen[-1] == 2000
    assert not one.slowed


def test_without_a_configured_rate_there_is_no_limit_in_the_end() -> None:
    one = slowed(100)
    now = 11.0
    while one.limited:
        now += 0.1
        count = one.available(now)
        one.take(count if one.limited else 0)
        assert now < 60
    assert now - 11 > 5, "gently"
    assert count > 1_000_000, "who asked at the moment when it ended is not left waiting"
    slow = slowed(0)
    now = 11.0
    while slow.limited:
        now += 1
        slow.refresh(now)
        assert now < 80


STEPS = st.lists(
    st.tuples(st.floats(0, 3), st.integers(0, 200), st.integers(0, 200), st.floats(0, 2)),
    max_size=100,
)


@given(st.none() | st.floats(0.1, 5000), STEPS)
def test_it_keeps_its_bounds(
    rate_per_s: float | None, steps: list[tuple[float, int, int, float]]
) -> None:
    one = AdaptiveRate(rate_per_s, now=0)
    floor = min(1.0, rate_per_s or 1.0)
    now = 0.0
    for step, taken, refused, seconds in steps:
        now += step
        one.refresh(now)
        before = one.rate_per_s
        if one.answered(taken, refused, seconds, now):
            assert before is None or (one.rate_per_s or math.inf) < before
        assert len(one._answers) <= 60
        if one.limited:
            count = one.available(now)
            assert count >= 0
            if one.limited:
                assert count <= max(1.0, (one.rate_per_s or 0) / 10)
                one.take(count)
                assert one.wait_s() <= 1.001 + 1 / floor
        rate = one.rate_per_s
        assert rate is None or floor <= rate < math.inf
        assert rate_per_s is None or (rate is not None and rate <= rate_per_s)


@given(st.floats(1.1, 5000), st.integers(0, 1000))
def test_after_the_wait_the_next_one_may_go(rate_per_s: float, took: int) -> None:
    one = slowed(took, rate_per_s)
    one.available(10)
    assert one.available(10 + one.wait_s() + 1e-6) >= 1


# ------------------------------------------------------------- with carriers, on a clock of ours


@pytest.mark.parametrize("latency_s", [0.05, 0.5])
@pytest.mark.parametrize("kind", [sliding, calendar, bucket])
@pytest.mark.parametrize("limit", [5, 50, 500])
def test_a_limit_is_used_and_little_is_refused(
    limit: int, kind: Callable[..., Callable[[float], bool]], latency_s: float
) -> None:
    """Ten times what the carrier takes is offered for a minute."""
    seen = play(AdaptiveRate(None, now=0), kind(limit), 10 * limit, 60, latency_s)
    assert sum(seen.taken) >= 0.8 * limit * 60
    assert seen.share_refused(since=3) <= (0.12 if limit == 5 else 0.1)
    assert seen.thrice <= 0.003 * sum(seen.taken)
    assert sum(seen.refused[:3]) <= 1000 + limit, "the first window, and little more"


def test_a_limit_is_used_also_by_a_slow_carrier() -> None:
    seen = play(AdaptiveRate(None, now=0), sliding(50), 500, 60, latency_s=1.5)
    assert sum(seen.taken) >= 0.8 * 50 * 60
    assert seen.share_refused(since=4) <= 0.1


@pytest.mark.parametrize("since", [0, 5])
@pytest.mark.parametrize("configured", [None, 500.0])
@pytest.mark.parametrize(("share", "least"), [(0.01, 0.97), (0.05, 0.95), (0.1, 0.8), (0.3, 0.5)])
def test_refusals_at_random_do_not_drive_it_down(
    share: float, least: float, configured: float | None, since: int
) -> None:
    for seed in range(3):
        pace = AdaptiveRate(configured, now=0)
        seen = play(pace, at_random(share, seed, since), 500, 60)
        # What was refused is offered again, so a little less than this is possible with a rate.
        possible = sum(500 * (1 - share if second >= since else 1) for second in range(60))
        assert sum(seen.taken) >= least * possible
        if share <= 0.05:
            assert not pace.slowed


def test_refusals_at_random_never_wear_it_down() -> None:
    """Ten minutes: what is forgotten each half minute is found again."""
    seen = play(AdaptiveRate(500.0, now=0), at_random(0.3, seed=7, since=5), 500, 600, tick_s=0.05)
    for minute in range(10):
        assert sum(seen.taken[60 * minute : 60 * minute + 60]) >= 0.8 * 0.7 * 500 * 60


@pytest.mark.parametrize("configured", [None, 500.0])
@pytest.mark.parametrize("since", [0, 5])
def test_one_that_refuses_everything_is_asked_now_and_then(
    since: int, configured: float | None
) -> None:
    def takes(now: float) -> bool:
        return not since <= now < since + 20

    seen = play(AdaptiveRate(configured, now=0), takes, 500, since + 50)
    assert sum(seen.refused[since : since + 2]) <= 150
    assert max(seen.refused[since + 2 : since + 20]) <= 5
    assert min(seen.taken[since + 40 : since + 50]) >= 450
    assert min(seen.taken[since + 20 : since + 40]) >= 1


@pytest.mark.parametrize("kind", [sliding, calendar, bucket])
def test_it_follows_a_limit_that_changes(kind: Callable[..., Callable[[float], bool]]) -> None:
    seen = play(
        AdaptiveRate(None, now=0), kind(lambda now: 20 if 20 <= now < 40 else 500), 1000, 80
    )
    assert sum(seen.refused[20:23]) <= 200
    assert sum(seen.taken[23:40]) >= 0.8 * 20 * 17
    assert Outcome(seen.taken[23:40], seen.refused[23:40], 0).share_refused(0) <= 0.3
    assert sum(seen.taken[50:80]) >= 0.8 * 500 * 30
    assert Outcome(seen.taken[53:80], seen.refused[53:80], 0).share_refused(0) <= 0.1
