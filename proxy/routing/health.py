"""How well an upstream does, and whether others should be preferred to it for a while.

healthy → resting → on trial → healthy.  It rests when too many answers of the last half minute
were failures, when answers take too long, or when its links break again and again; a rest takes
`out_s`, and twice as long each time that the trial behind it fails, up to ten times.  On trial it
is let in gently: one message at a time, then 2, 4, 8 … as each round ends well.

Only what speaks about the carrier counts as a failure: silence, and the statuses of
`status_rules.ABOUT_CARRIER`.  A bad address says nothing about it, and throttling is the business
of the rate.  All times are seconds of one monotonic clock that the caller reads.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final

from proxy.config import HealthSettings

WINDOW_S: Final = 30.0
"""How far back it looks."""
_BUCKET_S: Final = 5.0
ANSWERS_MIN: Final = 10
"""Fewer than this many answers show no rate."""
_LOSSES_MAX: Final = 3
_SAME_LOSS_S: Final = 1.0
"""Links that break within this time broke together: a carrier that restarts takes all of them."""
_BAD_MIN: Final = 3
_REST_FACTOR_MAX: Final = 10
_TRIAL_MAX: Final = 64
"""After a good round of so many at once it is healthy again."""


class State(Enum):
    """Where an upstream stands."""

    HEALTHY = "healthy"
    RESTING = "resting"
    TRIAL = "on trial"


class _Bucket:
    """What happened in a few seconds."""

    __slots__ = ("answers", "began", "failures", "heard", "seconds")

    def __init__(self, began: float) -> None:
        self.began = began
        self.answers = 0
        """With those that did not come."""
        self.failures = 0
        self.heard = 0
        self.seconds = 0.0
        """Of all that were heard, together."""


class Health:
    """Advice only: an upstream that is alone gets its messages whatever is said here."""

    __slots__ = (
        "_bad",
        "_bad_since",
        "_buckets",
        "_losses",
        "_rest_s",
        "_rests_until",
        "_round",
        "_round_failures",
        "_round_size",
        "_settings",
        "_since",
        "state",
        "why",
    )

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self.state = State.HEALTHY
        self.why = ""
        """Why it rests or is on trial, in words; empty while it is healthy."""
        self._buckets: deque[_Bucket] = deque()
        self._losses: deque[float] = deque(maxlen=_LOSSES_MAX)
        self._bad = 0
        """Failures since the last good answer, and since when."""
        self._bad_since = 0.0
        self._since = float("-inf")
        """When this state began."""
        self._rest_s = 0.0
        self._rests_until = 0.0
        self._round_size = 1
        self._round = 0
        self._round_failures = 0

    # ---------------------------------------------------------------------- what happened

    def answered(self, ok: int, refused: int, silent: int, seconds: float, now: float) -> None:
        """Answers that came at once, and ones that did not come in time.

        `ok` of them say that the carrier works (it took the message, or refused it for the
        message's sake), `refused` that it does not, `silent` are missing.  `seconds` is how long
        ago the oldest of them was sent.
        """
        failures = refused + silent
        if self.state is State.RESTING and not self._rest_is_over(now):
            return
        if self.state is State.TRIAL and now - seconds < self._since:
            return  # sent before: it says how things were then
        bucket = self._bucket(now)
        bucket.answers += ok + failures
        bucket.failures += failures
        bucket.heard += ok + refused
        bucket.seconds += (ok + refused) * seconds
        if ok:
            self._bad = 0
        elif failures:
            self._bad_since = self._bad_since if self._bad else now
            self._bad += failures
        if self.state is State.TRIAL:
            self._tried(ok, failures, now)
        if self.state is not State.RESTING:
            why = self._complaint(now)
            if why:
                self._rest(why, now)

    def lost(self, now: float) -> None:
        """A link broke."""
        if self._losses and now - self._losses[-1] < _SAME_LOSS_S:
            return
        self._losses.append(now)
        if self.state is State.TRIAL:
            self._rest("a link was lost on trial", now)
        elif (
            self.state is State.HEALTHY
            and len(self._losses) == _LOSSES_MAX
            and now - self._losses[0] <= WINDOW_S
        ):
            self._rest(f"{_LOSSES_MAX} links were lost in {WINDOW_S:.0f} s", now)

    # ---------------------------------------------------------------------- what is advised

    def usable(self, now: float) -> bool:
        """Healthy, or on trial."""
        return self.state is not State.RESTING or self._rest_is_over(now)

    def allowance(self, now: float) -> int | None:
        """How many messages may be in flight; None: any number, 0: it rests."""
        if self.state is State.HEALTHY:
            return None
        return self._round_size if self.usable(now) else 0

    def error_rate(self, now: float) -> float:
        """The share of failures in the last half minute, 0 to 1."""
        answers = sum(bucket.answers for bucket in self._recent(now))
        return sum(bucket.failures for bucket in self._buckets) / answers if answers else 0.0

    def response_s(self, now: float) -> float | None:
        """The mean time to an answer in the last half minute; None: there was none."""
        heard = sum(bucket.heard for bucket in self._recent(now))
        return sum(bucket.seconds for bucket in self._buckets) / heard if heard else None

    # ----------------------------------------------------------------------------- inside

    def _recent(self, now: float) -> deque[_Bucket]:
        while self._buckets and self._buckets[0].began <= now - WINDOW_S:
            self._buckets.popleft()
        return self._buckets

    def _bucket(self, now: float) -> _Bucket:
        buckets = self._recent(now)
        if not buckets or now - buckets[-1].began >= _BUCKET_S:
            buckets.append(_Bucket(now))
        return buckets[-1]

    def _complaint(self, now: float) -> str:
        """What speaks against it; empty: nothing."""
        if self._bad >= _BAD_MIN and now - self._bad_since >= WINDOW_S:
            # Of a carrier that hardly has traffic, or one message in its window, or both.
            return f"no good answer for {now - self._bad_since:.0f} s"
        answers = sum(bucket.answers for bucket in self._recent(now))
        if answers < ANSWERS_MIN:
            return ""
        failures = sum(bucket.failures for bucket in self._buckets)
        if failures >= self._settings.error_rate * answers:
            return f"{failures} of {answers} answers were failures"
        seconds, limit_s = self.response_s(now), self._settings.response_s
        if limit_s and seconds is not None and seconds > limit_s:
            return f"answers take {seconds:.1f} s"
        return ""

    def _rest(self, why: str, now: float) -> None:
        out_s = self._settings.out_s
        if self.state is State.HEALTHY and now - self._since >= self._rest_s:
            self._rest_s = out_s  # it did well for longer than it had to rest
        else:
            self._rest_s = min(2 * self._rest_s, _REST_FACTOR_MAX * out_s)
        self._rests_until = now + self._rest_s
        self.why = why
        self._begin(State.RESTING, now)

    def _rest_is_over(self, now: float) -> bool:
        if now < self._rests_until:
            return False
        self._round_size, self._round, self._round_failures = 1, 0, 0
        # From its end on, not from when somebody looked: what was sent since then counts.
        self._begin(State.TRIAL, self._rests_until)
        return True

    def _tried(self, ok: int, failures: int, now: float) -> None:
        self._round += ok + failures
        self._round_failures += failures
        # In a small round the first failure ends the trial; a carrier that always has a few
        # (and is healthy with them) could never pass a large one otherwise.
        bearable = self._settings.error_rate * max(self._round_size, self._round)
        if self._round_failures and self._round_failures >= bearable:
            self._rest(f"{self.why.removesuffix(_AGAIN)}{_AGAIN}", now)
        elif self._round >= self._round_size:
            self._round, self._round_failures = 0, 0
            if self._round_size >= _TRIAL_MAX:
                self.why = ""
                self._begin(State.HEALTHY, now)
            else:
                self._round_size *= 2

    def _begin(self, state: State, at: float) -> None:
        """What was counted before is forgotten: each state is judged by itself."""
        self.state = state
        self._since = at
        self._buckets.clear()
        self._losses.clear()
        self._bad = 0


_AGAIN: Final = ", and its trial failed"
