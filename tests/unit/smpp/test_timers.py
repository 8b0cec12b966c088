from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.smpp.timers import Action, Limits, LinkTimes, next_action

LIMITS = Limits(session_init_s=10, enquire_link_s=30, inactivity_s=100, response_s=5)
TIMES = st.floats(0, 200)


def times(**values: float | None) -> LinkTimes:
    return replace(LinkTimes(opened=0, received=0, active=0), **values)


@pytest.mark.parametrize(
    ("now", "action"),
    [(0, Action.NONE), (9.9, Action.NONE), (10, Action.CLOSE_UNBOUND), (99, Action.CLOSE_UNBOUND)],
)
def test_a_session_has_so_long_to_bind(now: float, action: Action) -> None:
    # Talking does not help, only binding does.
    assert next_action(times(received=now), LIMITS, bound=False, now=now) is action
    assert next_action(times(received=now), LIMITS, bound=True, now=now) is Action.NONE


@pytest.mark.parametrize(
    ("now", "action"), [(29.9, Action.NONE), (30, Action.ENQUIRE), (60, Action.ENQUIRE)]
)
def test_a_silent_link_is_asked(now: float, action: Action) -> None:
    assert next_action(times(), LIMITS, bound=True, now=now) is action


def test_a_link_that_talks_is_not_asked() -> None:
    assert next_action(times(received=40), LIMITS, bound=True, now=60) is Action.NONE


def test_no_answer_to_the_question_closes() -> None:
    asked = times(enquired=30.0)
    assert next_action(asked, LIMITS, bound=True, now=34.9) is Action.NONE
    assert next_action(asked, LIMITS, bound=True, now=35) is Action.CLOSE_SILENT


def test_any_octet_since_the_question_shows_that_the_peer_lives() -> None:
    asked = times(enquired=30.0, received=33)
    assert next_action(asked, LIMITS, bound=True, now=37.9) is Action.NONE
    assert next_action(asked, LIMITS, bound=True, now=38) is Action.CLOSE_SILENT


def test_a_link_without_messages_is_closed_although_it_talks() -> None:
    talking = times(received=99, active=0)
    assert next_action(talking, LIMITS, bound=True, now=99.9) is Action.NONE
    assert next_action(talking, LIMITS, bound=True, now=100) is Action.CLOSE_INACTIVE
    busy = times(received=99, active=50)
    assert next_action(busy, LIMITS, bound=True, now=100) is Action.NONE


def test_a_link_that_talks_but_never_answers_the_question_is_inactive_all_the_same() -> None:
    asked = times(enquired=30.0, received=99, active=0)
    assert next_action(asked, LIMITS, bound=True, now=100) is Action.CLOSE_INACTIVE


def test_a_limit_of_zero_switches_its_timer_off() -> None:
    off = Limits(session_init_s=0, enquire_link_s=0, inactivity_s=0, response_s=5)
    assert next_action(times(), off, bound=False, now=1e9) is Action.NONE
    assert next_action(times(), off, bound=True, now=1e9) is Action.NONE


@given(TIMES, TIMES, TIMES, st.none() | TIMES, st.booleans(), TIMES, TIMES)
def test_only_time_passing_never_calls_a_close_off(
    opened: float, received: float, active: float, enquired: float | None, bound: bool,
    now: float, later: float,
) -> None:  # fmt: skip
    link = LinkTimes(opened, received, active, enquired)
    first = next_action(link, LIMITS, bound=bound, now=now)
    then = next_action(link, LIMITS, bound=bound, now=now + later)
    assert link == LinkTimes(opened, received, active, enquired), "a pure function"
    if first not in (Action.NONE, Action.ENQUIRE):
        assert then not in (Action.NONE, Action.ENQUIRE)
    if not bound:
        assert first in (Action.NONE, Action.CLOSE_UNBOUND)
