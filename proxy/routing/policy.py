"""In which order the next message of a route tries its upstreams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from proxy.config.routes import Policy

U = TypeVar("U")
Cost = Callable[[U], int | None]
"""What an upstream takes for the message, in micro-credits; None: not known."""
Ways = Callable[[Cost[U]], tuple[U, ...]]


def ways_of(policy: Policy, upstreams: tuple[U, ...], weights: Sequence[int] | None) -> Ways[U]:
    """A function that gives the order for one message after the other.

    Whichever is first, the others follow: a message whose upstream is down has somewhere to go.
    """
    if len(upstreams) <= 1 or policy == "failover":
        return lambda _: upstreams
    if policy == "weighted":
        if weights is None or len(weights) != len(upstreams):
            raise ValueError("weighted: one weight for each upstream, please")
        return Weighted(upstreams, weights).next
    if policy == "round_robin":
        return RoundRobin(upstreams).next
    return lambda cost_micro: cheapest_first(upstreams, cost_micro)


class Weighted(Generic[U]):
    """Each upstream is first as often as its weight says, spread evenly; no chance in it.

    Smooth weighted round robin, as in nginx: each one's credit grows by its weight, the one
    with most goes and pays the sum of all.  The others follow, heaviest first.
    """

    __slots__ = ("_credit", "_orders", "_total", "_weights")

    def __init__(self, upstreams: tuple[U, ...], weights: Sequence[int]) -> None:
        self._weights = tuple(weights)
        self._total = sum(weights)
        self._credit = [0] * len(upstreams)
        heaviest_first = sorted(range(len(upstreams)), key=lambda i: -weights[i])
        self._orders = [
            (upstreams[first], *(upstreams[i] for i in heaviest_first if i != first))
            for first in range(len(upstreams))
        ]

    def next(self, _: object) -> tuple[U, ...]:
        """The order for the next message."""
        credit = self._credit
        for i, weight in enumerate(self._weights):
            credit[i] += weight
        first = credit.index(max(credit))
        credit[first] -= self._total
        return self._orders[first]


class RoundRobin(Generic[U]):
    """Each upstream is first in its turn; the others follow in the order of the file."""

    __slots__ = ("_next", "_orders")

    def __init__(self, upstreams: tuple[U, ...]) -> None:
        self._orders = [upstreams[i:] + upstreams[:i] for i in range(len(upstreams))]
        self._next = 0

    def next(self, _: object) -> tuple[U, ...]:
        """The order for the next message."""
        order = self._orders[self._next]
        self._next = (self._next + 1) % len(self._orders)
        return order


def cheapest_first(upstreams: tuple[U, ...], cost_micro: Cost[U]) -> tuple[U, ...]:
    """By what each takes for this message; unknown last, the same in the order of the file."""
    costs = [(cost_micro(upstream), i) for i, upstream in enumerate(upstreams)]
    # Known before unknown (False sorts first), so that None is never compared with a number.
    costs.sort(key=lambda one: (one[0] is None, one[0] or 0, one[1]))
    return tuple(upstreams[i] for _, i in costs)
