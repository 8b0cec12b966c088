"""Small plots as SVG: where the bars of a row of numbers stand, for the template to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

WIDTH: Final = 600
HEIGHT: Final = 120
_GAP: Final = 2.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A line across, or a time below."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """What a template needs to draw it."""

    width: int
    height: int
    bars: list[Bar]
    levels: list[Tick]
    times: list[Tick]
    summary: str


def bars(minutes: Sequence[datetime], counts: Sequence[int], what: str) -> Plot:
    """A bar a minute; `what` names what is counted, as in "12 messages"."""
    top = nice_top(max(counts, default=0))
    step = WIDTH / max(len(counts), 1)
    drawn = []
    for i, (minute, count) in enumerate(zip(minutes, counts, strict=True)):
        # A minute with anything in it is seen.
        height = max(count / top * HEIGHT, 1.5) if count else 0.0
        label = f"{minute:%H:%M}  {count:,} {what}"
        drawn.append(
            Bar(
                round(i * step, 2),
                round(HEIGHT - height, 2),
                round(step - _GAP, 2),
                round(height, 2),
                label,
            )
        )
    times = [
        Tick(round(i * step, 2), f"{minute:%H:%M}")
        for i, minute in enumerate(minutes)
        if minute.minute % 15 == 0 and i <= len(minutes) - 6  # else the last leaves the picture
    ]
    summary = (
        f"{sum(counts):,} {what} in {len(counts)} minutes, at most {max(counts, default=0):,}"
        " in one"
    )
    levels = [Tick(0, f"{top:,}"), Tick(HEIGHT / 2, f"{top / 2:,g}")]
    return Plot(WIDTH, HEIGHT, drawn, levels, times, summary)


def nice_top(largest: int) -> int:
    """The round number that the axis ends at."""
    if largest <= 2:
        return 2
    magnitude = 1
    while True:
        for factor in (2, 4, 6, 10):
            if factor * magnitude >= largest:
                return factor * magnitude
        magnitude *= 10
