"""Credits: exact decimals for people, integer micro-credits inside."""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact
from typing import Final

MICRO: Final = 1_000_000
"""Micro-credits in one credit."""

MAX_MICRO: Final = 10**18
"""The largest amount accepted; a sum of a few still fits PostgreSQL's bigint."""

_AMOUNT: Final = re.compile(r"[+-]?[0-9]{1,80}(\.[0-9]{0,80})?", re.ASCII)
_EXACT: Final = Context(prec=200, traps=[Inexact])
"""More digits than any amount has; what does not fit is an error and not rounded."""


def micro_from_text(text: str) -> int:
    """Read an amount of credits such as "12", "-3.5" or "0.000001".

    Raises ValueError, with a sentence for people, when it is not a number, has more than six
    decimals, or is out of range.
    """
    # Decimal also takes "1e3", "1_000" and "inf": a slip of the finger is not an amount.
    if not _AMOUNT.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is not a number")
    amount = Decimal(text.strip())
    if amount.copy_abs() > MAX_MICRO // MICRO:
        raise ValueError(f"{text!r} is out of range")
    try:
        micro = _EXACT.multiply(amount, MICRO)
    except Inexact:
        micro = None
    if micro is None or micro != micro.to_integral_value():
        raise ValueError(f"{text!r} has more than six decimals")
    return int(micro)


def text_from_micro(micro: int) -> str:
    """Micro-credits as the shortest exact decimal: 2500000 is "2.5"."""
    whole, part = divmod(abs(micro), MICRO)
    text = f"{whole}.{part:06d}".rstrip("0").rstrip(".")
    return f"-{text}" if micro < 0 else text
