"""Rate limits as pure token buckets: a fixed one, and one that gives way to a carrier."""

from __future__ import annotations

from collections import deque
from typing import Final

_ANY: Final = 1 << 30
_GRAIN_S: Final = 0.02
_TOLERATED: Final = 0.1
"""One complaint among ten answers is about something else: one handset, one network."""
_ALARM: Final = 1.5
_FIRST_ALARM: Final = 8.0
_ALARM_SHARE: Final = 0.03
"""Complaints above what is tolerated until it counts: so few once it is slowed down, so many
before (the first answers of a burst say little), and at least this share of a second's."""
_FORGET_S: Final = 10.0
_CUT_TO: Final = 0.9
_MOST: Final = 0.6
"""A larger share than this is not tolerated, whatever its cause."""
_ENOUGH: Final = 20
"""Answers that say enough of a new rate."""
_QUIET_S: Final = 2.0
_MIXED_S: Final = 3.0
"""How long fewer are waited for: when they all say the same, and when they do not."""
_TRIAL_MAX_S: Final = 5.0
_LEARNT_S: Final = 30.0
_CLIMB: Final = 0.05


class Throttle:
    """At most `rate_per_s` a second, in bursts of at most a tenth of a second's worth or `burst`.

    Times are seconds of one monotonic clock.
    """

    __slots__ = ("_at", "_burst", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, now: float, burst: float | None = None) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst or max(1.0, rate_per_s / 10)
        self._tokens = self._burst
        self._at = now

    def available(self, now: float) -> int:
        """How many may go now."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate_per_s)
        self._at = now
        return int(self._tokens)

    def take(self, count: int) -> None:
        """Use what `available` offered."""
        self._tokens -= count

    def wait_s(self) -> float:
        """Seconds until the next one may go."""
        return max(0.0, (1.0 - self._tokens) / self._rate_per_s)


class AdaptiveRate:
    """A rate that gives way when a carrier says that it is too fast, and comes back by itself.

    ESME_RTHROTTLED and ESME_RMSGQFUL say either that all is too fast, or something of one
    destination or one handset.  The first ends when less is sent, the second does not: that is
    how they are told apart.

    - A tenth of the answers or fewer: nothing happens.
    - More: the rate becomes 0.9 of what the carrier took in the last second, so the more it
      refused the deeper.  What it took is counted by its answers, not by what was written: after
      a burst that was refused for the most part, the next attempt is right at once.  Nothing
      goes out only while the carrier has more behind it, within a second, than the new rate.
    - The new rate is tried for a second, longer if there are few answers.  Most are refused: down
      again at once.  Too many are: down to 0.9 of what was taken.  About as many are in the next
      trial, too: it has nothing to do with the rate, so it returns to what it was, and that share
      is tolerated for half a minute.  So refusals at random can't drive it down step by step.
    - Then it climbs, by a twentieth a second at first (the limit is near, as a rule), faster and
      faster up to doubling (it was far); more slowly when the carrier answers late.
    - A carrier that refuses everything gets one a second (or what is configured, if less).

    The configured rate is never exceeded.  Without one there is no limit again from ten times the
    rate that the carrier took, and at least 100 a second.

    Times are seconds of one monotonic clock; rates are messages a second.
    """

    __slots__ = (
        "_allowed",
        "_answers",
        "_at",
        "_climbs_since",
        "_complaints",
        "_configured",
        "_cut_at",
        "_failed_share",
        "_free_from",
        "_learnt",
        "_learnt_until",
        "_rate",
        "_rate_before",
        "_refused_at",
        "_response_s",
        "_tokens",
        "_trial_refused",
        "_trial_since",
        "_trial_taken",
        "_trying",
    )

    def __init__(self, rate_per_s: float | None, now: float) -> None:
        self._configured = rate_per_s
        self._rate = rate_per_s
        """At present; None: no limit."""
        self._tokens = 0.0 if rate_per_s is None else _burst(rate_per_s)
        self._at = now
        """Until when the tokens are counted; ahead of the clock in a pause, which has none."""
        self._allowed = now
        """When `available` was asked last."""
        self._free_from = 0.0
        self._answers: deque[tuple[float, int, int]] = deque()
        """When, how many were taken, how many refused: in the last second."""
        self._complaints = 0.0
        """Those above what is tolerated, as a running sum that does not fall below zero."""
        self._refused_at = now
        self._response_s = 0.0
        """How long the last answer took: so late the next rate is heard of."""
        self._cut_at = float("-inf")
        self._rate_before = 0.0
        """What went out in the second before it was cut; 0 when that was far too much."""
        self._failed_share = 0.0
        """What the trial before refused, where that was too much; 0 before the first trial."""
        self._trying = False
        """The rate after a cut is tried; `_trial_…` counts answers to what went out since."""
        self._trial_since = now
        self._trial_taken = 0
        self._trial_refused = 0
        self._learnt = 0.0
        """The share that is refused whatever the rate; known for a while."""
        self._learnt_until = float("-inf")
        self._climbs_since = now

    @property
    def limited(self) -> bool:
        """Whether `available` and `take` have to be asked at all; `available` may end it."""
        return self._rate is not None

    @property
    def slowed(self) -> bool:
        """Below what is configured, because the carrier wants it so."""
        return self._rate != self._configured

    @property
    def rate_per_s(self) -> float | None:
        """What may go out now; None: any number."""
        return self._rate

    def answered(self, taken: int, refused: int, seconds: float, now: float) -> bool:
        """Answers: of so many `refused` the carrier says that it is too fast, of `taken` not.

        The oldest was written `seconds` ago.  What was written before the last cut does not
        count against the new rate.  Returns whether the rate was cut.
        """
        self._note(taken, refused, now)
        if not refused and not self._trying and not self._complaints:
            return False
        since_cut = now - seconds > self._cut_at
        self._response_s = seconds
        if self._trying:
            if not since_cut:
                return False
            self._trial_since = min(self._trial_since, now)
            self._trial_taken += taken
            self._trial_refused += refused
            return self._judge(now)
        if not since_cut:
            refused = 0
        tolerated = _TOLERATED + self._unrelated(now)
        if now - self._refused_at > _FORGET_S:
            self._complaints = 0.0
        complaints = self._complaints + refused * (1 - tolerated) - taken * tolerated
        self._complaints = max(0.0, complaints)
        if not refused:
            return False
        self._refused_at = now
        return self._look_at_complaints(now)

    def available(self, now: float) -> int:
        """How many may go now."""
        self._advance(now)
        self._allowed = now
        return _ANY if self._rate is None else int(self._tokens)

    def take(self, count: int) -> None:
        """Use what `available` offered."""
        self._tokens -= count

    def wait_s(self) -> float:
        """Seconds from the last `available` until the next one may go."""
        pause_s = max(0.0, self._at - self._allowed)
        return pause_s + max(0.0, 1.0 - self._tokens) / (self._rate or float("inf"))

    def refresh(self, now: float) -> None:
        """Let the rate grow to what it is at `now`."""
        self._advance(now)

    # -------------------------------------------------------------------------- down

    def _look_at_complaints(self, now: float) -> bool:
        taken, refused = self._of_last_second(now)
        least = _ALARM if self.slowed else _FIRST_ALARM
        least += 10 * self._unrelated(now)
        if self._complaints < max(least, _ALARM_SHARE * (taken + refused)):
            return False
        self._advance(now)
        took = taken / (1 - self._unrelated(now))
        if self._rate is not None:
            took = min(took, self._rate)
        self._rate_before = float(taken + refused)
        self._failed_share = 0.0
        return self._cut(took, now)

    def _judge(self, now: float) -> bool:
        """What the trial of a new rate says by now; returns whether it was cut again."""
        self._advance(now)  # so that it climbs from now, not from when `available` was asked last
        taken, refused = self._trial_taken, self._trial_refused
        number, rate = taken + refused, self._rate
        if not number or rate is None:
            return False
        unrelated, share = self._unrelated(now), refused / number
        took = rate * max(1 - share, 0.1) / (1 - unrelated)
        if number >= _ENOUGH and share > _MOST:  # a whole second would say the same
            self._failed_share = self._rate_before = 0.0
            return self._cut(took, now)
        passed_s = now - self._trial_since
        needs_s = _MIXED_S if taken and refused else _QUIET_S
        if passed_s < 1 or (number < _ENOUGH and passed_s < needs_s):
            return False
        if share > unrelated + _TOLERATED and (refused > 1 or not taken):
            before, self._failed_share = self._failed_share, share
            if share > _MOST:
                self._failed_share = self._rate_before = 0.0
            if not before * 0.4 <= share <= min(before * 2.5, _MOST):
                return self._cut(took, now)
            rate = max(rate, self._rate_before)
            self._rate = rate if self._configured is None else min(rate, self._configured)
        self._learnt, self._learnt_until = share, now + _LEARNT_S
        self._climb_from(now)
        return False

    def _cut(self, took: float, now: float) -> bool:
        """Go down to a little less than the carrier took, and try that; False: it is the least."""
        before = self._rate
        self._rate = rate = max(_CUT_TO * took, min(1.0, self._configured or 1.0))
        self._free_from = max(10 * took, 100.0)
        self._cut_at = now
        self._complaints = 0.0
        self._tokens = 0.0
        # A carrier that counts a sliding second refuses all until its burst is a second ago.
        self._at = now
        above = self._of_last_second(now)[0] - rate
        for at, taken, _ in self._answers:
            if above <= 0:
                break
            above -= taken
            self._at = max(now, at + 1)
        self._trying = True
        self._trial_since = float("inf")
        self._trial_taken = self._trial_refused = 0
        return before is None or rate < before

    def _unrelated(self, now: float) -> float:
        """The share of the answers that are complaints whatever the rate."""
        return self._learnt if now < self._learnt_until else 0.0

    # ---------------------------------------------------------------------------- up

    def _advance(self, now: float) -> None:
        if self._rate is None or now <= self._at:
            return
        passed_s = now - self._at
        self._at = now
        self._tokens = min(_burst(self._rate), self._tokens + passed_s * self._rate)
        if self._rate == self._configured:
            return
        if self._trying:
            # Nothing is sent, or nothing answered.
            if now - self._cut_at > _TRIAL_MAX_S + self._response_s:
                self._climb_from(now)
            return
        doublings = (now - self._climbs_since) / (1 + 2 * self._response_s)
        climb = min(1.0, _CLIMB * 2 ** min(10.0, doublings))
        self._rate += climb * self._rate * passed_s
        if self._configured is not None:
            self._rate = min(self._rate, self._configured)
        elif self._rate >= self._free_from:
            self._rate = None

    def _climb_from(self, now: float) -> None:
        self._trying = False
        self._complaints = 0.0
        self._climbs_since = now

    # ------------------------------------------------------------------------ counting

    def _note(self, taken: int, refused: int, now: float) -> None:
        """Add to what was counted by time, and forget what is older than a second."""
        answers = self._answers
        if answers and now - answers[-1][0] < _GRAIN_S:
            at, before, refused_before = answers[-1]
            answers[-1] = (at, before + taken, refused_before + refused)
        else:
            answers.append((now, taken, refused))
        while answers[0][0] <= now - 1:
            answers.popleft()

    def _of_last_second(self, now: float) -> tuple[int, int]:
        """How many were taken, how many refused."""
        recent = [(taken, refused) for at, taken, refused in self._answers if at > now - 1]
        return sum(taken for taken, _ in recent), sum(refused for _, refused in recent)


def _burst(rate_per_s: float) -> float:
    return max(1.0, rate_per_s / 10)
