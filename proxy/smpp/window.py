"""Requests that were sent and not answered yet, matched by sequence number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from proxy.smpp.vocabulary import SEQUENCE_MAX

T = TypeVar("T")


class Window(Generic[T]):
    """Open requests by sequence number, oldest first; responses may come in any order.

    A request is registered before its octets are written, so that an answer can never come
    before it is known.
    """

    __slots__ = ("_sequence", "max", "open")

    def __init__(self, maximum: int) -> None:
        self.max = maximum
        self.open: dict[int, tuple[float, T]] = {}
        self._sequence = 0

    @property
    def free(self) -> int:
        """How many more requests fit."""
        return self.max - len(self.open)

    def next_sequence(self) -> int:
        """A number that no open request has (1 to 0x7FFFFFFF, section 3.2)."""
        sequence_number = self._sequence % SEQUENCE_MAX + 1
        while sequence_number in self.open:
            sequence_number = sequence_number % SEQUENCE_MAX + 1
        self._sequence = sequence_number
        return sequence_number

    def register(self, request: T, deadline: float) -> int:
        """Takes a slot; returns the sequence number to send."""
        sequence_number = self.next_sequence()
        self.open[sequence_number] = (deadline, request)
        return sequence_number

    def answer(self, sequence_number: int) -> T | None:
        """Frees the slot of an answered request; None when nothing with that number is open."""
        entry = self.open.pop(sequence_number, None)
        return None if entry is None else entry[1]

    def expire(self, now: float) -> Iterator[tuple[int, T]]:
        """Frees the slots whose deadline has passed (deadlines are registered in order)."""
        while self.open:
            sequence_number = next(iter(self.open))
            deadline, request = self.open[sequence_number]
            if deadline > now:
                return
            del self.open[sequence_number]
            yield sequence_number, request

    def drain(self) -> list[T]:
        """Everything that is open, oldest first; the window is empty afterwards."""
        requests = [request for _, request in self.open.values()]
        self.open.clear()
        return requests
