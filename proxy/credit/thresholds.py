"""Low-balance thresholds: "100" credits left to spend, or "24h" to empty at the current pace.

The threshold zero (nothing left to spend) is every account's and is never listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from proxy.credit.money import micro_from_text, text_from_micro

HOURS_MAX: Final = 8_760
"""A year: a longer forecast from the pace of an hour means nothing."""

THRESHOLDS_MAX: Final = 20
"""How many thresholds an account may have."""

_HOURS: Final = re.compile(r"([0-9]{1,20})[hH]", re.ASCII)

ThresholdKind = Literal["absolute", "hours"]


class Threshold(NamedTuple):
    """When to warn: at or below so many credits, or at or below so many hours to empty."""

    kind: ThresholdKind
    amount: int
    """Micro-credits ("absolute") or whole hours ("hours"), at least 1."""

    @property
    def text(self) -> str:
        """The one form that is kept in the database: "100", "0.5", "24h"."""
        return f"{self.amount}h" if self.kind == "hours" else text_from_micro(self.amount)


def parse_threshold(text: str) -> Threshold:
    """Read a threshold such as "100", "0.5" or "24h".

    Raises ValueError, with a sentence for people, when it is neither an amount of credits nor
    whole hours, or is not above zero.
    """
    text = text.strip()
    hours = _HOURS.fullmatch(text)
    if hours is not None:
        amount = int(hours[1])
        if not 1 <= amount <= HOURS_MAX:
            raise ValueError(f"{text!r} is not between 1h and {HOURS_MAX}h")
        return Threshold("hours", amount)
    try:
        micro = micro_from_text(text)
    except ValueError as error:
        if str(error).endswith("is not a number"):
            reason = "is neither an amount of credits such as 100 nor hours such as 24h"
            raise ValueError(f"{text!r} {reason}") from None
        raise
    if micro <= 0:
        raise ValueError(f"{text!r} is not above zero; at zero a warning always comes")
    return Threshold("absolute", micro)


def parse_thresholds(text: str) -> tuple[Threshold, ...]:
    """Read a list such as "100,24h": largest amount first, then hours; each once.

    An empty text is no threshold.  Raises ValueError as `parse_threshold` does, and when there
    are more than twenty.
    """
    return in_order(parse_threshold(part) for part in text.split(",") if part.strip())


def in_order(thresholds: Iterable[Threshold]) -> tuple[Threshold, ...]:
    """Each once: amounts of credits before hours, large before small."""
    ordered = sorted(set(thresholds), key=lambda one: (one.kind, -one.amount))
    if len(ordered) > THRESHOLDS_MAX:
        raise ValueError(f"an account can have at most {THRESHOLDS_MAX} thresholds")
    return tuple(ordered)
