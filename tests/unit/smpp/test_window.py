from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.smpp.vocabulary import SEQUENCE_MAX
from proxy.smpp.window import Window


def window_at(sequence: int, maximum: int = 10) -> Window[str]:
    """A window whose last sequence number was this one."""
    window: Window[str] = Window(maximum)
    window._sequence = sequence
    return window


def test_numbers_begin_at_one_and_ascend() -> None:
    window: Window[str] = Window(3)
    assert [window.register(name, 0) for name in "abc"] == [1, 2, 3]
    assert window.free == 0


def test_after_the_highest_number_comes_one() -> None:
    window = window_at(SEQUENCE_MAX - 2)
    assert [window.register(name, 0) for name in "abcd"] == [
        SEQUENCE_MAX - 1, SEQUENCE_MAX, 1, 2,
    ]  # fmt: skip


def test_a_number_that_is_still_open_is_not_given_out_again() -> None:
    window: Window[str] = Window(10)
    assert [window.register(name, 0) for name in "abc"] == [1, 2, 3]
    assert window.answer(2) == "b"
    window._sequence = SEQUENCE_MAX
    assert [window.register(name, 0) for name in "de"] == [2, 4]


def test_an_open_highest_number_is_passed_over() -> None:
    window = window_at(SEQUENCE_MAX - 1)
    assert window.register("a", 0) == SEQUENCE_MAX
    window._sequence = SEQUENCE_MAX - 1
    assert window.register("b", 0) == 1


def test_answers_come_in_any_order_and_once() -> None:
    window: Window[str] = Window(3)
    for name in "abc":
        window.register(name, 0)
    assert window.answer(3) == "c"
    assert window.answer(3) is None
    assert window.answer(1) == "a"
    assert window.answer(99) is None
    assert window.drain() == ["b"]
    assert window.free == 3


def test_only_what_is_overdue_expires_oldest_first() -> None:
    window: Window[str] = Window(5)
    for deadline, name in enumerate("abcd", start=1):
        window.register(name, deadline)
    assert window.answer(2) == "b"
    assert list(window.expire(0.5)) == []
    assert list(window.expire(3)) == [(1, "a"), (3, "c")]
    assert window.answer(1) is None
    assert window.drain() == ["d"]


@pytest.mark.parametrize("start", [0, SEQUENCE_MAX - 3, SEQUENCE_MAX])
@given(answers=st.lists(st.integers(0, 9), max_size=60))
def test_numbers_stay_unique_and_in_range_around_the_wrap(start: int, answers: list[int]) -> None:
    window = window_at(start)
    for number, which in enumerate(answers):
        sequence_number = window.register(str(number), 0)
        assert 1 <= sequence_number <= SEQUENCE_MAX
        assert list(window.open)[-1] == sequence_number
        if not window.free or which % 2:
            waiting = list(window.open)
            assert window.answer(waiting[which % len(waiting)]) is not None


class WindowAgainstAModel(RuleBasedStateMachine):
    """Whatever is done with a window, a plain dict says the same."""

    def __init__(self) -> None:
        super().__init__()
        self.window = window_at(SEQUENCE_MAX - 5, maximum=6)
        self.open: dict[int, tuple[int, int]] = {}
        self.now = 0
        self.name = 0

    @precondition(lambda self: self.window.free > 0)
    @rule(patience=st.just(5))
    def register(self, patience: int) -> None:
        self.name += 1
        sequence_number = self.window.register(str(self.name), self.now + patience)
        assert sequence_number not in self.open
        self.open[sequence_number] = (self.now + patience, self.name)

    @rule(which=st.integers(0, 5))
    def answer(self, which: int) -> None:
        sequence_number = list(self.open)[which] if which < len(self.open) else 12345
        expected = self.open.pop(sequence_number, None)
        answered = self.window.answer(sequence_number)
        assert answered == (None if expected is None else str(expected[1]))

    @rule(step=st.integers(0, 4))
    def expire(self, step: int) -> None:
        self.now += step
        overdue = [(n, str(name)) for n, (at, name) in self.open.items() if at <= self.now]
        assert list(self.window.expire(self.now)) == overdue
        for sequence_number, _ in overdue:
            del self.open[sequence_number]

    @invariant()
    def agrees(self) -> None:
        assert self.window.free == 6 - len(self.open)
        assert list(self.window.open) == list(self.open)


TestWindowAgainstAModel = WindowAgainstAModel.TestCase
