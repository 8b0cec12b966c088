"""How many short messages a SIM may still send: by hour, day and month of UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

HOUR_S: Final = 3600
DAY_S: Final = 86400


class Used(NamedTuple):
    """Short messages of the current hour, day and month."""

    hour: int
    day: int
    month: int


def month_start_s(now_s: float) -> int:
    """When the month of a Unix time began, in UTC."""
    now = datetime.fromtimestamp(now_s, UTC)
    return int(datetime(now.year, now.month, 1, tzinfo=UTC).timestamp())


def _next_month_s(now_s: float) -> int:
    begun = datetime.fromtimestamp(month_start_s(now_s), UTC)
    return month_start_s((begun + timedelta(days=32)).timestamp())


class SimLimits:
    """Counts in memory; what is new is fetched with `unsaved` and written elsewhere.

    Times are Unix seconds that the caller reads from its clock.
    """

    def __init__(self, per_hour: int | None, per_day: int | None, per_month: int | None) -> None:
        self._limits = (per_hour, per_day, per_month)
        self._hours: dict[int, int] = {}
        self._unsaved: dict[int, int] = {}

    @property
    def limited(self) -> bool:
        """There is a limit at all."""
        return any(limit is not None for limit in self._limits)

    def load(self, hours: Mapping[int, int]) -> None:
        """What was counted before this process began."""
        for hour, number in hours.items():
            self._hours[hour] = self._hours.get(hour, 0) + number

    def count(self, now_s: float) -> None:
        """One short message goes out."""
        hour = int(now_s) // HOUR_S * HOUR_S
        if hour not in self._hours:
            first = month_start_s(now_s)
            self._hours = {h: number for h, number in self._hours.items() if h >= first}
            self._hours[hour] = 0
        self._hours[hour] += 1
        self._unsaved[hour] = self._unsaved.get(hour, 0) + 1

    def used(self, now_s: float) -> Used:
        """Of this hour, this day, this month."""
        now = int(now_s)
        hour, day, month = now // HOUR_S * HOUR_S, now // DAY_S * DAY_S, month_start_s(now_s)
        return Used(
            self._hours.get(hour, 0),
            sum(number for h, number in self._hours.items() if h >= day),
            sum(number for h, number in self._hours.items() if h >= month),
        )

    def left(self, now_s: float) -> int | None:
        """How many more may go now; None: there is no limit."""
        room = [
            limit - used
            for limit, used in zip(self._limits, self.used(now_s), strict=True)
            if limit is not None
        ]
        return max(0, min(room)) if room else None

    def ever(self, number: int) -> bool:
        """Whether so many may go at once at any time."""
        return all(limit is None or number <= limit for limit in self._limits)

    def again_at_s(self, now_s: float) -> float:
        """When the longest of the limits that are reached is over; `now_s` when none is."""
        now = int(now_s)
        ends = (now // HOUR_S * HOUR_S + HOUR_S, now // DAY_S * DAY_S + DAY_S, _next_month_s(now_s))
        reached = [
            float(end)
            for limit, used, end in zip(self._limits, self.used(now_s), ends, strict=True)
            if limit is not None and used >= limit
        ]
        return max(reached, default=now_s)

    def unsaved(self) -> dict[int, int]:
        """What was counted since the last call, by hour."""
        taken, self._unsaved = self._unsaved, {}
        return taken

    def keep(self, unsaved: Mapping[int, int]) -> None:
        """It could not be saved: it is to be among the next."""
        for hour, number in unsaved.items():
            self._unsaved[hour] = self._unsaved.get(hour, 0) + number
