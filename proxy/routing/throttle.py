"""A rate limit as a pure token bucket."""

from __future__ import annotations


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
