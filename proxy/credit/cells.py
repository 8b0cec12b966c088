"""Texts that somebody else chose (senders, notes), where a terminal or a spreadsheet reads them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

_FORMULA: Final = tuple("=+-@＝＋－＠")
"""What a spreadsheet takes for the beginning of a formula."""


def printable(text: str) -> str:
    """Text with what a terminal would obey, such as ESC in an address, made visible."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def csv_cell(value: Any) -> str:
    """A value in a CSV file: numbers as they are, and texts that a spreadsheet does not obey."""
    if value is None:
        return ""
    if isinstance(value, str):
        text = printable(value)
        return f"'{text}" if text.startswith(_FORMULA) else text
    if isinstance(value, datetime):
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else str(value)
