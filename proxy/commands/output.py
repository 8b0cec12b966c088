"""How commands print: tables for people, one JSON document for scripts.

stdout holds only what was asked for; everything said beside it goes to stderr.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.credit.cells import printable

PIPE_COLUMNS: Final = 2_000
"""The width of a table that goes to a file or a pipe: nothing is cut there."""


def json_text(value: Any) -> str:
    """A value as JSON on one line: times as ISO 8601, Decimals as exact numbers.

    The standard encoder can only write a Decimal as a float or a string.
    """
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return json.dumps(value.isoformat())
    if isinstance(value, Mapping):
        members = (f"{json.dumps(str(key))}: {json_text(v)}" for key, v in value.items())
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(json_text, value)) + "]"
    return json.dumps(value)


def print_json(value: Any) -> None:
    """One JSON document and a line end."""
    sys.stdout.write(json_text(value) + "\n")
    sys.stdout.flush()


def say(line: str) -> None:
    """A line for people, on stdout."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def note(line: str) -> None:
    """A line beside the result, on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def cell(value: Any) -> str:
    """A value as people read it; times are local."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    return printable(str(value))


def print_table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Rows as a table; `columns` maps the key of a column to its heading, in order."""
    rows = list(rows)
    tty = sys.stdout.isatty()
    table = Table(box=None, pad_edge=False)
    for key, heading in columns.items():
        numeric = any(isinstance(row[key], int | Decimal) for row in rows)
        table.add_column(
            heading,
            justify="right" if numeric and not key.endswith("id") else "left",
            no_wrap=key.endswith(("id", "at")),
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell(row[key])) for key in columns))
    _print(table, tty)


def print_record(record: Mapping[str, Any], keys: Sequence[str]) -> None:
    """One record, a line for each key that has a value."""
    tty = sys.stdout.isatty()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key in keys:
        if cell(record[key]):
            table.add_row(Text(key), Text(cell(record[key])))
    _print(table, tty)


def _print(table: Table, tty: bool) -> None:
    """Print as wide as the terminal is; into a pipe as wide as the table is."""
    if tty:
        Console(highlight=False).print(table)
        return
    console = Console(file=io.StringIO(), highlight=False, width=PIPE_COLUMNS)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())
