"""Time-ordered 64-bit ids, minted before the first write.

An id is the microseconds since 2026-01-01 UTC shifted left by 10 bits, plus the number of the
node that minted it: unique without asking anybody, sorted by time, and the partition key of the
tables that grow.  The same arithmetic is in SQL: id_from_time() and time_from_id().
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

EPOCH_S: Final = 1_767_225_600
NODE_BITS: Final = 10
NODE_MAX: Final = (1 << NODE_BITS) - 1
ID_MAX: Final = 2**63 - 1
COMMAND_NODE: Final = 0
"""The node of commands, which hold no lock: their rows are serialised by the account's."""


class IdMint:
    """Mints ids for one node; never the same one twice, never going back in time."""

    __slots__ = ("_clock_ns", "_last_us", "node")

    def __init__(self, node: int, clock_ns: Callable[[], int] = time.time_ns) -> None:
        if not 0 <= node <= NODE_MAX:
            raise ValueError(f"node {node} is not between 0 and {NODE_MAX}")
        self.node = node
        self._clock_ns = clock_ns
        self._last_us = 0

    def mint(self, count: int) -> range:
        """The next `count` ids, ascending."""
        now_us = self._clock_ns() // 1000 - EPOCH_S * 1_000_000
        first = max(now_us, self._last_us + 1)
        self._last_us = first + count - 1
        step = 1 << NODE_BITS
        start = (first << NODE_BITS) | self.node
        return range(start, start + count * step, step)


def time_of_id(minted: int) -> float:
    """Seconds since the Unix epoch at which an id was minted."""
    return EPOCH_S + (minted >> NODE_BITS) / 1e6


def id_at_time(unix_s: float) -> int:
    """The smallest id of a moment."""
    return int((unix_s - EPOCH_S) * 1e6) << NODE_BITS


def id_of_text(text: str) -> int | None:
    """The id that somebody wrote; None for what can't be one."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(ID_MAX))):
        return None
    found = int(text)
    return found if found <= ID_MAX else None
