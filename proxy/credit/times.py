"""Days and times as people write them: on the command line, in forms, in files.

A day counts to its end: plans.expiry_of() says when that is, in a time zone.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, tzinfo
from typing import Final

YEAR_MIN: Final = 1970
YEAR_MAX: Final = 2199


def day_or_time(text: str) -> date | datetime:
    """A day, or an ISO 8601 time with its zone or without one.

    Raises ValueError, with a sentence for people, for anything else.
    """
    for kind in (date, datetime):
        try:
            return kind.fromisoformat(text)
        except ValueError:
            continue
    raise ValueError(
        f"{text!r} is neither a date nor a time, such as 2026-12-31 or 2026-12-31T18:00"
    )


def utc_time(text: str, zone: tzinfo | None = UTC) -> datetime:
    """An ISO 8601 time, in UTC; one that names no zone is of `zone` (None: of this machine).

    Raises ValueError for anything else, and for what is not in the calendar of UTC.
    """
    when = datetime.fromisoformat(text)
    try:
        return (when if when.tzinfo else when.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is too far away") from None


def check_year(when: date) -> None:
    """Raises ValueError for what fits no other zone, or not the database."""
    if not YEAR_MIN <= when.year <= YEAR_MAX:
        raise ValueError(f"a year from {YEAR_MIN} to {YEAR_MAX}, please")
