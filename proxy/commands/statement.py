"""smpp-proxy statement: what an account had, what came and went, and for what."""

from __future__ import annotations

import csv
import sys
from collections.abc import AsyncIterator, Iterable
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption, NameArgument
from proxy.commands.credit import COLUMNS as LOG_COLUMNS
from proxy.credit.cells import csv_cell, printable
from proxy.credit.times import day_or_time
from proxy.store import statements
from proxy.store.statements import By, Row, Statement

Format = Literal["table", "csv", "json"]

FIGURES: Final = ("messages", "segments", "price", "released", "cost", "margin")

TABLE_ROWS_MAX: Final = 10_000
"""A table is as wide as its widest row, so all of it has to be in memory; no person reads more."""


def parse_when(text: str) -> date | datetime:
    """A day, a time, or an age such as 7d; days and times without a zone are the account's."""
    try:
        when = day_or_time(text)
        if not isinstance(when, datetime) or when.tzinfo is None:
            return when
    except ValueError:
        pass  # parse_since() says what is wrong
    return common.parse_since(text)


FromOption = Annotated[
    Any,
    typer.Option(
        "--from",
        parser=parse_when,
        metavar="WHEN",
        help="A day such as 2026-11-01, a time such as 2026-11-01T12:00, or an age such as 7d; "
        "else the first of the month.",
    ),
]
ToOption = Annotated[
    Any,
    typer.Option(
        "--to",
        parser=parse_when,
        metavar="WHEN",
        help="The same; a day is included as a whole, a time is not. Else now.",
    ),
]


def statement(
    ctx: typer.Context,
    *,
    name: NameArgument,
    from_: FromOption = None,
    to: ToOption = None,
    by: Annotated[
        By | None, typer.Option("--by", help="How to group usage; else by prefix.")
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Every change of the credits, instead of usage.")
    ] = False,
    format_: Annotated[
        Format | None, typer.Option("--format", help="How to print it; else as a table.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """An account's statement: opening balance, changes by operation, closing balance, usage.

    Days, and times without a zone, are in the account's time zone.

    Usage is of the messages submitted in the period. Released is what they gave back until today;
    cost and margin are of those whose cost is known. Prefix and service are those of the price
    (of the first destination, where there are several).

    --format csv prints one table with a header line: usage, or with --log the changes. Texts that a
    spreadsheet would take for a formula (they begin with = + - @) get a ' in front, and control
    characters are written as in \\x1b; numbers stay numbers. --format json prints one object.

    With --log the balance is carried forward in the order of the rows, from the opening to the
    closing balance.
    """
    if log and by is not None:
        raise typer.BadParameter("--by is about usage, which --log replaces")
    if as_json and format_ not in {None, "json"}:
        raise typer.BadParameter(f"--json and --format {format_}")
    printed: Format = "json" if as_json else format_ or "table"
    groups: By | None = None if log else by or "prefix"

    async def work(conn: Connection) -> None:
        async with statements.snapshot(conn):
            try:
                found = await statements.statement(conn, name, from_, to)
            except ValueError as error:
                common.refuse(str(error))
            if found is None:
                common.refuse(f"there is no account {name!r}")
            if groups is None:
                rows = statements.credit_log(conn, found)
            else:
                rows = statements.usage(conn, found.period, groups)
            await _print(printed, found, groups, rows)

    common.with_database(common.settings_for(ctx, config), work)


async def _print(
    format_: Format, found: Statement, by: By | None, rows: AsyncIterator[Row]
) -> None:
    if format_ == "json":
        await _print_json(found, by, rows)
    elif format_ == "csv":
        await _print_csv(LOG_COLUMNS if by is None else (by, *FIGURES), rows)
    else:
        await _print_tables(found, by, rows)


async def _print_json(found: Statement, by: By | None, rows: AsyncIterator[Row]) -> None:
    """One object, written as the rows come."""
    period = found.period
    head: dict[str, Any] = {
        "account": period.account,
        "timezone": period.timezone,
        "from": period.start,
        "to": period.end,
        "opening": found.opening,
        "totals": {name: total._asdict() for name, total in found.totals.items()},
        "closing": found.closing,
        **({"by": by, "usage": []} if by else {"log": []}),
    }
    sys.stdout.write(output.json_text(head).removesuffix("]}"))
    between = ""
    async for row in rows:
        sys.stdout.write(between + output.json_text(row))
        between = ", "
    output.say("]}")


async def _print_csv(columns: Iterable[str], rows: AsyncIterator[Row]) -> None:
    """One table, written as the rows come; moments are in UTC."""
    keys = list(columns)
    write = csv.writer(sys.stdout, lineterminator="\n").writerow
    write(keys)
    async for row in rows:
        write([csv_cell(row[key]) for key in keys])
    sys.stdout.flush()


async def _print_tables(found: Statement, by: By | None, rows: AsyncIterator[Row]) -> None:
    period = found.period
    shown: list[Row] = []
    async for row in rows:
        if len(shown) == TABLE_ROWS_MAX:
            common.refuse(f"more than {TABLE_ROWS_MAX} rows are no table: use --format csv")
        if by == "prefix" and row[by] == "":
            row[by] = "(any)"
        shown.append(row)
    start, end = (f"{at:%Y-%m-%d %H:%M}" for at in (period.local_start, period.local_end))
    output.say(f"{period.account}, {start} to {end} ({printable(period.timezone)})")
    output.say("")
    lines: list[Row] = [{"what": "opening balance", "rows": None, "credits": found.opening}]
    for operation, total in found.totals.items():
        if total.rows:
            lines.append({"what": operation, "rows": total.rows, "credits": total.change})
    lines.append({"what": "closing balance", "rows": None, "credits": found.closing})
    output.print_table(lines, {"what": "", "rows": "rows", "credits": "credits"})
    output.say("")
    if by is None:
        output.print_table(shown, LOG_COLUMNS)
    else:
        output.print_table(shown, {key: key for key in (by, *FIGURES)})
