"""Carriers with limits of all kinds, and an `AdaptiveRate` before them, on a clock of our own."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from proxy.routing.throttle import AdaptiveRate

Takes = Callable[[float], bool]
Limit = int | Callable[[float], int]


def _at(limit: Limit, now: float) -> int:
    return limit if isinstance(limit, int) else limit(now)


def sliding(limit: Limit) -> Takes:
    """So many in any second."""
    took: deque[float] = deque()

    def takes(now: float) -> bool:
        while took and took[0] <= now - 1:
            took.popleft()
        if len(took) >= _at(limit, now):
            return False
        took.append(now)
        return True

    return takes


def calendar(limit: Limit) -> Takes:
    """So many in each second of the clock."""
    second, count = -1, 0

    def takes(now: float) -> bool:
        nonlocal second, count
        if int(now) != second:
            second, count = int(now), 0
        count += 1
        return count <= _at(limit, now)

    return takes


def bucket(limit: Limit) -> Takes:
    """So many a second, and a second's worth at once after a rest."""
    tokens, at = float(_at(limit, 0)), 0.0

    def takes(now: float) -> bool:
        nonlocal tokens, at
        per_s = _at(limit, now)
        tokens, at = min(per_s, tokens + (now - at) * per_s), now
        if tokens < 1:
            return False
        tokens -= 1
        return True

    return takes


def at_random(share: float, seed: int, since: float = 0) -> Takes:
    """Any rate, but this share is refused."""
    chance = random.Random(seed)
    return lambda now: now < since or chance.random() >= share


@dataclass(frozen=True)
class Outcome:
    """How many answers of each kind came in each second."""

    taken: list[int]
    refused: list[int]
    thrice: int
    """Messages that were refused three times, after the first two seconds."""

    def share_refused(self, since: int) -> float:
        refused = sum(self.refused[since:])
        return refused / (refused + sum(self.taken[since:]))


def play(
    pace: AdaptiveRate,
    takes: Takes,
    offered_per_s: float,
    seconds: int,
    latency_s: float = 0.05,
    tick_s: float = 0.01,
) -> Outcome:
    """What a carrier answers; what it refuses is offered again after a second, twice."""
    window, read = 1000, 50
    backlog: deque[int] = deque()
    """How often each waiting message was refused."""
    again: deque[tuple[float, int]] = deque()
    under_way: deque[tuple[float, list[tuple[int, bool]]]] = deque()
    taken, refused = [0] * seconds, [0] * seconds
    thrice, open_requests, due = 0, 0, 0.0
    for tick in range(round(seconds / tick_s)):
        now = tick * tick_s
        while under_way and under_way[0][0] + latency_s <= now:
            written, answers = under_way.popleft()
            open_requests -= len(answers)
            for start in range(0, len(answers), read):
                some = answers[start : start + read]
                bad = [tries + 1 for tries, good in some if not good]
                pace.answered(len(some) - len(bad), len(bad), now - written, now)
                taken[int(now)] += len(some) - len(bad)
                refused[int(now)] += len(bad)
                thrice += sum(tries >= 3 for tries in bad) if now > 2 else 0
                again.extend((now + 1, tries) for tries in bad if tries < 3)
        while again and again[0][0] <= now:
            backlog.append(again.popleft()[1])
        due += offered_per_s * tick_s
        if len(backlog) < 1000:
            backlog.extend([0] * int(due))
        due -= int(due)
        count = min(window - open_requests, len(backlog))
        if pace.limited:
            count = min(count, pace.available(now))
            pace.take(count)
        if count > 0:
            sent = [backlog.popleft() for _ in range(count)]
            under_way.append((now, [(tries, takes(now)) for tries in sent]))
            open_requests += count
    return Outcome(taken, refused, thrice)
