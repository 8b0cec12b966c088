"""Days and times as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from proxy.credit.times import check_year, day_or_time, utc_time


@pytest.mark.parametrize("text", ["2026-12-31", "20261231", "2026-W53-4"])
def test_a_day_is_no_moment(text: str) -> None:
    assert day_or_time(text) == date(2026, 12, 31)
    assert not isinstance(day_or_time(text), datetime)


def test_a_time_keeps_its_zone_or_has_none() -> None:
    assert day_or_time("2026-12-31T00:00") == datetime(2026, 12, 31)
    east = timezone(timedelta(hours=2))
    assert day_or_time("2026-12-31T18:00+02:00") == datetime(2026, 12, 31, 18, tzinfo=east)


@pytest.mark.parametrize("text", ["", "soon", "2026-02-31", "2026-12-31T25:00", "7d", "\ud800"])
def test_anything_else_is_said_so(text: str) -> None:
    with pytest.raises(ValueError, match="neither a date nor a time"):
        day_or_time(text)


def test_times_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert utc_time("2026-12-31T18:00") == datetime(2026, 12, 31, 18, tzinfo=UTC)
    assert utc_time("2026-12-31T18:00", east) == datetime(2026, 12, 31, 16, tzinfo=UTC)
    assert utc_time("2026-12-31T18:00-01:00", east) == datetime(2026, 12, 31, 19, tzinfo=UTC)
    for text in ("0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "soon"):
        with pytest.raises(ValueError):
            utc_time(text)


@pytest.mark.parametrize("year", [1969, 2200])
def test_years_that_do_not_fit(year: int) -> None:
    check_year(date(1970, 1, 1))
    check_year(date(2199, 12, 31))
    with pytest.raises(ValueError, match="1970 to 2199"):
        check_year(date(year, 6, 1))
