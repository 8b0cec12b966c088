"""The SQL that is too long to stand in Python, by name: proxy/store/queries/NAME.sql."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def load(name: str) -> str:
    """The text of one query; raises FileNotFoundError for a name that does not exist."""
    return files("proxy.store").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
