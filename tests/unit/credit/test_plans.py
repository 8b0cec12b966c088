"""The periods of plans and the moments when credits expire, in many time zones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.credit.plans import (
    EVERY,
    Every,
    Period,
    expiry_of,
    expiry_text,
    period_name,
    period_of,
    periods_between,
    start_of_day,
    valid_timezone,
)

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # put forward over midnight until 2018
    "America/St_Johns",  # put back from 00:01 to 23:01 until 2011
    "America/Toronto",  # put forward from 23:30 to 00:30 in 1919
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Apia",  # had no 30 December 2011
    "Pacific/Kwajalein",  # had no 21 August 1993
    "Pacific/Chatham",
    "America/Havana",
    "Asia/Gaza",
]
MOMENTS = st.datetimes(datetime(1915, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))
everies = st.sampled_from(EVERY)
zones = st.sampled_from(ZONES)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def day(text: str, timezone: str) -> Period:
    """The period of the local day."""
    return period_of("day", start_of_day(date.fromisoformat(text), timezone), timezone)


def test_the_words_for_periods() -> None:
    assert get_args(Every) == EVERY == ("day", "week", "month")


PERIODS: list[tuple[Every, str, str, str, str, str]] = [
    # every, now, time zone, first day, starts and ends (UTC)
    ("day", "2026-11-22T12:00", "UTC", "2026-11-22", "2026-11-22T00:00", "2026-11-23T00:00"),
    ("day", "2026-11-22T00:00", "UTC", "2026-11-22", "2026-11-22T00:00", "2026-11-23T00:00"),
    ("day", "2026-11-22T23:00", "Asia/Tokyo", "2026-11-23", "2026-11-22T15:00", "2026-11-23T15:00"),
    ("day", "2028-02-29T12:00", "UTC", "2028-02-29", "2028-02-29T00:00", "2028-03-01T00:00"),
    ("week", "2026-11-22T23:59", "UTC", "2026-11-16", "2026-11-16T00:00", "2026-11-23T00:00"),
    ("week", "2026-11-23T00:00", "UTC", "2026-11-23", "2026-11-23T00:00", "2026-11-30T00:00"),
    ("week", "2027-01-01T00:00", "UTC", "2026-12-28", "2026-12-28T00:00", "2027-01-04T00:00"),
    ("month", "2026-12-31T23:59", "UTC", "2026-12-01", "2026-12-01T00:00", "2027-01-01T00:00"),
    ("month", "2027-02-01T00:00", "UTC", "2027-02-01", "2027-02-01T00:00", "2027-03-01T00:00"),
    ("month", "2028-02-29T00:00", "UTC", "2028-02-01", "2028-02-01T00:00", "2028-03-01T00:00"),
    ("month", "2026-10-31T23:30", "CET", "2026-11-01", "2026-10-31T23:00", "2026-11-30T23:00"),
    ("month", "2026-03-15T00:00", "CET", "2026-03-01", "2026-02-28T23:00", "2026-03-31T22:00"),
    ("month", "2026-11-01T03:59", "EST5EDT", "2026-10-01", "2026-10-01T04:00", "2026-11-01T04:00"),
    ("month", "2026-11-01T04:00", "EST5EDT", "2026-11-01", "2026-11-01T04:00", "2026-12-01T05:00"),
]


@pytest.mark.parametrize("case", PERIODS)
def test_a_period(case: tuple[Every, str, str, str, str, str]) -> None:
    every, now, timezone, first_day, starts_at, ends_at = case
    expected = Period(date.fromisoformat(first_day), utc(starts_at), utc(ends_at))
    assert period_of(every, utc(now), timezone) == expected


@pytest.mark.parametrize(
    ("text", "timezone", "hours", "starts_at"),
    [
        ("2026-03-29", "Europe/Berlin", 23, "2026-03-28T23:00"),
        ("2026-10-25", "Europe/Berlin", 25, "2026-10-24T22:00"),
        ("2026-10-04", "Australia/Lord_Howe", 23.5, "2026-10-03T13:30"),
        # There was no midnight: 23:59:59 was followed by 01:00:00.
        ("2017-10-15", "America/Sao_Paulo", 23, "2017-10-15T03:00"),
        ("2018-11-04", "America/Sao_Paulo", 23, "2018-11-04T03:00"),
        ("2025-03-30", "Asia/Beirut", 23, "2025-03-29T22:00"),
        ("2025-04-25", "Africa/Cairo", 23, "2025-04-24T22:00"),
        # Put back from midnight to 23:00: that evening is an hour longer.
        ("2018-02-17", "America/Sao_Paulo", 25, "2018-02-17T02:00"),
        ("2025-10-25", "Asia/Beirut", 25, "2025-10-24T21:00"),
        # From 00:01 to 23:01: the minute was Sunday, and what came after it was Saturday again;
        # the day that has begun goes on.
        ("2010-11-07", "America/St_Johns", 25, "2010-11-07T02:30"),
        ("2010-11-06", "America/St_Johns", 24, "2010-11-06T02:30"),
        # From 23:30 to 00:30: the day begins at half past midnight.
        ("1919-03-31", "America/Toronto", 23.5, "1919-03-31T04:30"),
    ],
)
def test_days_when_the_clock_changes(
    text: str, timezone: str, hours: float, starts_at: str
) -> None:
    period = day(text, timezone)
    assert period.first_day == date.fromisoformat(text)
    assert period.starts_at == utc(starts_at)
    assert (period.ends_at - period.starts_at) / HOUR == hours


def test_a_day_that_did_not_exist_is_no_period() -> None:
    before = period_of("day", utc("2011-12-29T12:00"), "Pacific/Apia")
    assert before.first_day == date(2011, 12, 29)
    assert before.ends_at == utc("2011-12-30T10:00")
    after = period_of("day", before.ends_at, "Pacific/Apia")
    assert after.first_day == date(2011, 12, 31) and after.starts_at == before.ends_at
    days = periods_between("day", utc("2011-12-29T12:00"), utc("2012-01-01T12:00"), "Pacific/Apia")
    assert [p.first_day.day for p in days] == [29, 31, 1, 2]
    # Its last moment is the one when the next day begins.
    assert start_of_day(date(2011, 12, 30), "Pacific/Apia") == before.ends_at


@given(everies, MOMENTS, zones)
@example("day", utc("2010-11-07T02:45"), "America/St_Johns")
@example("day", utc("2011-12-30T10:00"), "Pacific/Apia")
@example("month", utc("2010-11-01T02:30"), "America/St_Johns")
def test_every_moment_is_in_one_period(every: Every, now: datetime, timezone: str) -> None:
    period = period_of(every, now, timezone)
    assert period.starts_at <= now < period.ends_at
    for inside in (
        period.starts_at,
        period.ends_at - SECOND,
        period.ends_at - timedelta.resolution,
    ):
        assert period_of(every, inside, timezone) == period
    assert period_of(every, period.ends_at, timezone).starts_at == period.ends_at
    before = period_of(every, period.starts_at - timedelta.resolution, timezone)
    assert before.ends_at == period.starts_at and before.first_day < period.first_day
    # Its name says when it is, as far as the clock knows.
    age = now.astimezone(ZoneInfo(timezone)).date() - period.first_day
    assert timedelta(days=-1) <= age <= timedelta({"day": 0, "week": 6, "month": 30}[every])
    assert every != "week" or period.first_day.weekday() == 0
    assert every != "month" or period.first_day.day == 1


@given(everies, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=120)), zones)
def test_periods_tile_the_time_line(
    every: Every, since: datetime, length: timedelta, timezone: str
) -> None:
    now = since + length
    periods = list(periods_between(every, since, now, timezone))
    assert periods[0].starts_at <= since < periods[0].ends_at
    assert periods[-1].starts_at <= now < periods[-1].ends_at
    for one, other in pairwise(periods):
        assert one.ends_at == other.starts_at and one.first_day < other.first_day
    names = [period_name(every, period.first_day) for period in periods]
    assert len(set(names)) == len(names)


@given(MOMENTS, zones)
def test_a_day_begins_with_the_first_moment_of_its_date(now: datetime, timezone: str) -> None:
    zone = ZoneInfo(timezone)
    local = now.astimezone(zone).date()
    start = start_of_day(local, timezone)
    assert start.astimezone(zone).date() >= local
    assert (start - SECOND).astimezone(zone).date() < local


def test_weeks_and_months_are_made_of_days() -> None:
    for every in ("week", "month"):
        period = period_of(every, utc("2026-03-29T12:00"), "Europe/Berlin")
        days = list(
            periods_between("day", period.starts_at, period.ends_at - SECOND, "Europe/Berlin")
        )
        assert (days[0].starts_at, days[-1].ends_at) == (period.starts_at, period.ends_at)
        assert len(days) == {"week": 7, "month": 31}[every]


def test_no_period_is_due_before_it_began() -> None:
    assert (
        list(periods_between("day", utc("2026-01-02T00:00"), utc("2026-01-01T00:00"), "UTC")) == []
    )


def test_how_periods_are_named() -> None:
    assert period_name("day", date(2026, 11, 22)) == "2026-11-22"
    assert period_name("week", date(2026, 11, 16)) == "2026-W47"
    assert period_name("week", date(2026, 12, 28)) == "2026-W53"
    assert period_name("week", date(2027, 1, 4)) == "2027-W01"
    assert period_name("month", date(2026, 11, 1)) == "2026-11"


def test_time_zones() -> None:
    for name in [*ZONES, "GMT", "Etc/GMT+5", "Asia/Calcutta"]:
        assert valid_timezone(name), name
    for name in ["", "Berlin", "europe/berlin", "Europe", "../UTC", "/etc/passwd", "UTC+1", "CEST",
                 "localtime", "posixrules", "Europe/Berlin ", "UTC\0"]:  # fmt: skip
        assert not valid_timezone(name), name
    for name in ["", "Berlin", "Europe", "../UTC", "/etc/passwd", "UTC\0"]:
        with pytest.raises(ValueError, match="is not a time zone"):
            period_of("day", utc("2026-01-01T00:00"), name)
    with pytest.raises(ValueError, match="has no time zone"):
        period_of("day", datetime(2026, 1, 1), "UTC")


def test_a_date_means_through_that_day() -> None:
    assert expiry_of(date(2026, 12, 31), "UTC") == utc("2027-01-01T00:00")
    assert expiry_of(date(2026, 12, 31), "America/New_York") == utc("2027-01-01T05:00")
    assert expiry_of(date(2028, 2, 28), "UTC") == utc("2028-02-29T00:00")
    assert expiry_of(date(2025, 4, 24), "Africa/Cairo") == utc("2025-04-24T22:00")


def test_a_time_is_exact() -> None:
    assert expiry_of(utc("2026-12-31T18:00"), "Europe/Berlin") == utc("2026-12-31T18:00")
    assert expiry_of(datetime(2026, 12, 31, 18), "Europe/Berlin") == utc("2026-12-31T17:00")
    with pytest.raises(ValueError, match="too far"):
        expiry_of(date.max, "UTC")
    with pytest.raises(ValueError, match="too far"):
        expiry_of(datetime.max, "America/New_York")


@given(st.dates(date(1995, 1, 1), date(2098, 1, 1)), zones)
def test_an_expiry_is_said_as_it_was_meant(until: date, timezone: str) -> None:
    if (until, timezone) == (date(2011, 12, 30), "Pacific/Apia"):
        return
    assert expiry_text(expiry_of(until, timezone), timezone) == until.isoformat()


def test_how_an_exact_expiry_is_said() -> None:
    assert expiry_text(utc("2026-12-31T17:00"), "Europe/Berlin") == "2026-12-31 18:00"
    assert expiry_text(utc("2026-12-31T17:00:05"), "UTC") == "2026-12-31 17:00:05"
