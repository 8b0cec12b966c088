"""When the periods of a plan begin and end, and when credits expire: calendars and time zones.

A period is a calendar day, an ISO week (from Monday) or a calendar month in an account's time
zone.  It begins with the first moment whose local date is its first day or later: usually
midnight, but some zones put their clocks forward over midnight, or skip a whole day, and some
put them back over it.  So periods follow each other without a gap, and each moment is in one.
Zones are named as in the IANA database (the system's, else the tzdata package's).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

Every = Literal["day", "week", "month"]
EVERY: Final[tuple[Every, ...]] = get_args(Every)

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_NO_PLACE: Final = {"localtime", "Factory", "posixrules"}
"""Names in zone directories that mean another zone on another machine."""


@dataclass(frozen=True, slots=True)
class Period:
    """One day, week or month."""

    first_day: date
    """Its name, in the account's time zone: the day, the Monday, the first of the month."""
    starts_at: datetime
    """The first moment, in UTC."""
    ends_at: datetime
    """The first moment of the next period, in UTC."""


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones() - _NO_PLACE)


def valid_timezone(name: str) -> bool:
    """Whether this is the name of a time zone, such as "Europe/Berlin" or "UTC"."""
    return name in _zone_names()


def period_of(every: Every, now: datetime, timezone: str) -> Period:
    """The period that a moment is in.

    Raises ValueError for an unknown time zone or a moment without one.
    """
    zone = _zone(timezone)
    if now.tzinfo is None:
        raise ValueError(f"{now} has no time zone")
    first = _first_day(every, now.astimezone(zone).date())
    after = _next_first_day(every, first)
    # The clock was put back over midnight: the date is the old one again, the period is not.
    if now >= _start_of_day(after, zone):
        first, after = after, _next_first_day(every, after)
    return Period(first, _start_of_day(first, zone), _start_of_day(after, zone))


def periods_between(
    every: Every, since: datetime, now: datetime, timezone: str
) -> Iterator[Period]:
    """The periods from that of `since` to that of `now`, in order; none when `now` is before."""
    period = period_of(every, since, timezone)
    while period.starts_at <= now:
        yield period
        period = period_of(every, period.ends_at, timezone)


def period_name(every: Every, first_day: date) -> str:
    """A period as people name it: 2026-11-22, 2026-W47 or 2026-11."""
    if every == "month":
        return f"{first_day:%Y-%m}"
    if every == "week":
        year, week, _ = first_day.isocalendar()
        return f"{year}-W{week:02d}"
    return first_day.isoformat()


def start_of_day(day: date, timezone: str) -> datetime:
    """The first moment of a local day, in UTC.  Raises ValueError for an unknown time zone."""
    return _start_of_day(day, _zone(timezone))


def expiry_of(until: date, timezone: str) -> datetime:
    """When something expires, in UTC, that can be used until then: credits, a token.

    A date means through that day in the time zone.  A datetime is exact; one without a zone is
    local.  Raises ValueError for an unknown time zone or a time after the year 9999.
    """
    zone = _zone(timezone)
    try:
        if not isinstance(until, datetime):
            return _start_of_day(until + _DAY, zone)
        local = until if until.tzinfo is not None else until.replace(tzinfo=zone)
        return local.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{until} is too far away") from None


def expiry_text(expires_at: datetime, timezone: str) -> str:
    """An expiry as people say it: 2026-12-31, through that day in the time zone, else the time."""
    zone = _zone(timezone)
    local = expires_at.astimezone(zone)
    if expires_at == _start_of_day(local.date(), zone):
        return (local.date() - _DAY).isoformat()
    return f"{local:%Y-%m-%d %H:%M:%S}" if local.second else f"{local:%Y-%m-%d %H:%M}"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone") from None


def _first_day(every: Every, day: date) -> date:
    if every == "month":
        return day.replace(day=1)
    return day - day.weekday() * _DAY if every == "week" else day


def _next_first_day(every: Every, first: date) -> date:
    if every == "month":
        return (first + 31 * _DAY).replace(day=1)
    return first + (7 * _DAY if every == "week" else _DAY)


def _start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The first moment whose local time is the day's midnight or later."""
    midnight = datetime.combine(day, time())
    # Of two such moments fold=0 means the first.
    start = midnight.replace(tzinfo=zone).astimezone(UTC)
    if _local(start, zone) == midnight:
        return start
    # The clocks are put forward over midnight, between these two: when exactly?
    before = midnight.replace(tzinfo=zone, fold=1).astimezone(UTC)
    while start - before > _SECOND:
        middle = before + (start - before) // (2 * _SECOND) * _SECOND
        if _local(middle, zone) < midnight:
            before = middle
        else:
            start = middle
    return start


def _local(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)
