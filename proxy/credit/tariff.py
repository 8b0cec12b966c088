"""What a message costs."""

from __future__ import annotations

from typing import Final

from proxy.credit.money import MICRO

SEGMENT_PRICE_MICRO: Final = 1 * MICRO
"""One credit a segment, whatever the destination."""


def price_micro(segments: int) -> int:
    """The price of a message, in micro-credits; segments of all its destinations together."""
    return segments * SEGMENT_PRICE_MICRO
