"""Hours of a route: over midnight, by the clocks of a time zone, worked out once a minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.routing import hours as module
from proxy.routing.hours import Clock, Hours

ZONES = ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"]


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("08:00-18:00", ["08:00:00", "17:59:59"], ["07:59:59", "18:00:00", "00:00:00"]),
        ("22:00-06:00", ["22:00:00", "00:00:00", "05:59:59"], ["06:00:00", "21:59:59"]),
        ("18:00-24:00", ["18:00:00", "23:59:59"], ["00:00:00", "17:59:59"]),
        ("18:00-00:00", ["18:00:00", "23:59:59"], ["00:00:00", "17:59:59"]),
        ("00:00-24:00", ["00:00:00", "12:00:00", "23:59:59"], []),
        ("00:00-00:01", ["00:00:59"], ["00:01:00", "23:59:59"]),
    ],
)
def test_from_the_first_up_to_the_second(hours: str, inside: list[str], outside: list[str]) -> None:
    one = Hours(hours, Clock("UTC"))
    assert [time for time in inside if not one.hold(at(f"2026-03-01T{time}"))] == []
    assert [time for time in outside if one.hold(at(f"2026-03-01T{time}"))] == []


@pytest.mark.parametrize("hours", ["08:00-08:00", "00:00-00:00", "24:00-08:00", "8-9", ""])
def test_hours_that_are_none(hours: str) -> None:
    with pytest.raises(ValueError, match="should"):
        Hours(hours, Clock("UTC"))


def test_by_the_clocks_of_the_zone_before_and_after_they_change() -> None:
    # Berlin: on 2026-03-29 02:00 becomes 03:00, on 2026-10-25 03:00 becomes 02:00.
    one = Hours("08:00-18:00", Clock("Europe/Berlin"))
    assert one.hold(at("2026-03-28T07:00:00"))
    assert not one.hold(at("2026-03-28T06:59:59"))
    assert one.hold(at("2026-03-29T06:00:00"))
    assert not one.hold(at("2026-03-29T16:00:00"))
    night = Hours("02:00-03:00", Clock("Europe/Berlin"))
    spring = [night.hold(at("2026-03-29T00:00:00") + 60 * minute) for minute in range(180)]
    assert not any(spring), "that hour is not there"
    autumn = [night.hold(at("2026-10-25T00:00:00") + 60 * minute) for minute in range(180)]
    assert autumn == [True] * 120 + [False] * 60, "that hour is there twice"


@given(
    st.integers(0, 1439),
    st.integers(0, 1440),
    st.sampled_from(ZONES),
    st.lists(st.integers(946_684_800, 4_000_000_000), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.5, 59.999]),
)
def test_as_the_wall_clock_says(
    begin: int, end: int, zone: str, times: list[int], fraction: float
) -> None:
    if begin == end % 1440 and (begin, end) != (0, 1440):
        end = (end + 1) % 1440
    text = f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
    one = Hours(text, Clock(zone))
    for time_s in times:
        local = datetime.fromtimestamp(time_s, UTC).astimezone(ZoneInfo(zone))
        day = [(begin + minute) % 1440 for minute in range((end - begin) % 1440 or 1440)]
        expected = local.hour * 60 + local.minute in day
        assert one.hold(time_s) == expected
        # What it remembers is of a minute, whichever second was asked first.
        assert one.hold(time_s // 60 * 60 + fraction) == expected


def test_it_is_worked_out_once_a_minute_for_all_hours_of_a_zone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    class Counted(datetime):
        @classmethod
        def fromtimestamp(cls, *args: object) -> datetime:  # type: ignore[override]
            asked.append(args[0])  # type: ignore[arg-type]
            return datetime.fromtimestamp(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "datetime", Counted)
    clock = Clock("UTC")
    several = [Hours("08:00-18:00", clock), Hours("22:00-06:00", clock)]
    start_s = at("2026-03-01T17:59:00")
    held = [one.hold(start_s + second) for second in range(120) for one in several]
    assert len(asked) == 2
    assert held == [True, False] * 60 + [False, False] * 60


def test_a_clock_that_goes_back_is_followed() -> None:
    one = Hours("08:00-18:00", Clock("UTC"))
    noon = at("2026-03-01T12:00:00")
    assert one.hold(noon)
    assert not one.hold(noon + timedelta(hours=8).total_seconds())
    assert one.hold(noon)


def test_it_reads_as_it_is_written() -> None:
    assert str(Hours("22:00-06:00", Clock("Asia/Tokyo"))) == "22:00-06:00 Asia/Tokyo"
