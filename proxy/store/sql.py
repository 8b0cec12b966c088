"""What all queries share: the texts that are too long to stand in Python, and rows as dictionaries.

Those texts are in proxy/store/queries/NAME.sql.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

Row = dict[str, Any]


@cache
def load(name: str) -> str:
    """The text of one query; raises FileNotFoundError for a name that does not exist."""
    return files("proxy.store").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")


def dicts(records: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows as dictionaries."""
    return [dict(record) for record in records]


def clean(text: str, length_max: int) -> str:
    """A text that PostgreSQL takes: no NUL, no lone surrogates, not too long."""
    kept = text[:length_max].replace("\0", "")
    return kept.encode("utf-8", "replace").decode("utf-8")
