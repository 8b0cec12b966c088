"""Whether a time is within the hours of a route, by the clocks of its time zone."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from proxy.config.routes import minutes_of


class Clock:
    """The minute of the day in one time zone, worked out at most once a minute."""

    __slots__ = ("_at", "_minute", "_zone", "timezone")

    def __init__(self, timezone: str) -> None:
        self.timezone = timezone
        self._zone = ZoneInfo(timezone)
        self._at: int | None = None
        self._minute = 0

    def minute(self, now_s: float) -> int:
        """0 to 1439, at a Unix time.  Zones change their clocks on whole minutes."""
        at = int(now_s // 60)
        if at != self._at:
            local = datetime.fromtimestamp(at * 60, self._zone)
            self._at, self._minute = at, local.hour * 60 + local.minute
        return self._minute


class Hours:
    """From a time of the day up to, and without, another; over midnight when that is earlier."""

    __slots__ = ("_begin", "_clock", "_end", "_over_midnight", "_text")

    def __init__(self, text: str, clock: Clock) -> None:
        self._text = text
        self._begin, self._end = minutes_of(text)
        self._over_midnight = self._begin > self._end
        self._clock = clock

    def hold(self, now_s: float) -> bool:
        """Whether they hold at a Unix time."""
        minute = self._clock.minute(now_s)
        if self._over_midnight:
            return minute >= self._begin or minute < self._end
        return self._begin <= minute < self._end

    def __str__(self) -> str:
        return f"{self._text} {self._clock.timezone}"
