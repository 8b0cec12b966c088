"""A clock for what asks for the time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """A time that stands until it is moved."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **values: float) -> None:
        self.now += timedelta(**values)
