"""smpp-proxy tariff …: what a segment costs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption
from proxy.credit import tariff_csv
from proxy.credit.money import text_from_micro
from proxy.credit.price_rows import Differences, PriceRow
from proxy.credit.tariff_csv import TariffCsvError, price_text, time_text
from proxy.store import tariffs
from proxy.store.outcomes import Refused
from proxy.store.sql import Row

app = common.new_app("Tariffs: what a segment costs, by destination and service.")

TariffArgument = Annotated[str, typer.Argument(metavar="TARIFF", help="The tariff's name.")]

COLUMNS = {
    "name": "name",
    "prices": "prices",
    "accounts": "accounts",
    "upstreams": "cost of upstream",
    "version": "version",
    "changed_at": "changed at",
}
CHANGE_COLUMNS = {
    "what": "",
    "prefix": "prefix",
    "service": "service",
    "price": "price",
    "valid_from": "valid from",
    "valid_to": "valid to",
}
SHOWN_MAX = 100
"""How many differences people are shown; --json has them all."""


@app.command("import")
def import_file(
    ctx: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV file; - for stdin.")],
    name: Annotated[str, typer.Option("--name", metavar="N", help="The tariff's name.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be different.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the prices of a CSV file those of a tariff, all of them; a new name, a new tariff.

    The columns, named in the first line: prefix (empty: every destination), service (sms, binary
    or a service_type; empty: every service), price (credits a segment, or "not sold"),
    valid_from and valid_to (ISO 8601 dates or times, UTC; the price ends when valid_to begins).
    Only prefix and price must be there.  The longest prefix that matches counts.
    """
    settings = common.settings_for(ctx, config)
    try:
        rows = tariff_csv.read(_octets(file))
    except TariffCsvError as error:
        _refuse_file(file, error, as_json)

    async def work(conn: Connection) -> tariffs.Imported | Refused:
        return await tariffs.import_prices(conn, name, rows, by=common.actor(), dry_run=dry_run)

    outcome = common.with_database(settings, work, partitions=not dry_run)
    if isinstance(outcome, Refused):
        common.refuse(outcome.reason)
    if as_json:
        output.print_json(_imported_json(outcome))
        return
    _print_differences(outcome.differences)
    _say_imported(outcome)


def _octets(file: Path) -> bytes:
    """What is in the file, or enough of it to see that it is too much."""
    try:
        if str(file) == "-":
            return sys.stdin.buffer.read(tariff_csv.OCTETS_MAX + 1)
        with file.open("rb") as opened:
            return opened.read(tariff_csv.OCTETS_MAX + 1)
    except OSError as error:
        common.refuse(f"{file} cannot be read: {error.strerror or error}")


def _refuse_file(file: Path, error: TariffCsvError, as_json: bool) -> NoReturn:
    if as_json:
        output.print_json({"file": str(file), "errors": error.errors})
    else:
        for line in error.errors:
            output.note(line)
    count = len(error.errors)
    at_least = "at least " if count >= tariff_csv.ERRORS_MAX else ""
    common.refuse(f"{file} is not imported: {at_least}{count} error{'s' if count > 1 else ''}")


def _say_imported(outcome: tariffs.Imported) -> None:
    found = outcome.differences
    if not found.any and not outcome.created:
        output.say(f"Tariff {outcome.name}: no difference, {found.unchanged:,} prices unchanged")
        return
    counts = (
        f"{len(found.added):,} added, {len(found.changed):,} changed, "
        f"{len(found.ended):,} ended, {found.unchanged:,} unchanged"
    )
    new = "new tariff" if outcome.created else "tariff"
    if outcome.dry_run:
        output.say(f"Dry run, nothing was changed.  In {new} {outcome.name}: {counts}")
    else:
        output.say(f"Imported into {new} {outcome.name}: {counts}")


def _print_differences(found: Differences) -> None:
    lines = [line for _, line in zip(range(SHOWN_MAX), _lines(found), strict=False)]
    if lines:
        output.print_table(lines, CHANGE_COLUMNS)
        count = len(found.added) + len(found.changed) + len(found.ended)
        if count > len(lines):
            output.say(f"… and {count - len(lines):,} more, which --json shows")
        output.say("")


def _lines(found: Differences) -> Iterator[Row]:
    """What people are shown of each difference; times as in the file."""
    for old, new in found.changed:
        shown = _shown("changed", new)
        for key, value in _shown("changed", old).items():
            if shown[key] != value:
                shown[key] = f"{value or '…'} → {shown[key] or '…'}"
        yield shown
    for what, rows in (("added", found.added), ("ended", found.ended)):
        for row in rows:
            yield _shown(what, row)


def _shown(what: str, row: PriceRow) -> Row:
    return {
        "what": what,
        "prefix": row.prefix or "(any)",
        "service": row.service or "(any)",
        "price": price_text(row.price_micro),
        "valid_from": time_text(row.valid_from),
        "valid_to": time_text(row.valid_to),
    }


def _imported_json(outcome: tariffs.Imported) -> Row:
    found = outcome.differences
    return {
        "tariff": outcome.name,
        "created": outcome.created,
        "dry_run": outcome.dry_run,
        "added": [_row_json(row) for row in found.added],
        "changed": [
            {"old": _row_json(change.old), "new": _row_json(change.new)} for change in found.changed
        ],
        "ended": [_row_json(row) for row in found.ended],
        "unchanged": found.unchanged,
    }


def _row_json(row: PriceRow) -> Row:
    """A price of null is "not sold"."""
    return {
        "prefix": row.prefix,
        "service": row.service,
        "price": credits_of(row.price_micro),
        "valid_from": row.valid_from,
        "valid_to": row.valid_to,
    }


def credits_of(micro: int | None) -> Decimal | None:
    """Micro-credits as the exact number of credits that JSON shows."""
    return None if micro is None else Decimal(text_from_micro(micro))


@app.command("export")
def export(
    ctx: typer.Context,
    name: TariffArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a tariff as CSV, as `tariff import` reads it."""

    async def work(conn: Connection) -> list[PriceRow] | Refused:
        return await tariffs.export_prices(conn, name)

    outcome = common.with_database(common.settings_for(ctx, config), work)
    if isinstance(outcome, Refused):
        common.refuse(outcome.reason)
    if as_json:
        output.print_json([_row_json(row) for row in outcome])
    else:
        sys.stdout.write(tariff_csv.write(outcome))
        sys.stdout.flush()


@app.command("list")
def list_all(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List all tariffs, and who uses them."""
    rows = common.with_database(common.settings_for(ctx, config), tariffs.list_tariffs)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(rows, COLUMNS)


@app.command("remove")
def remove(
    ctx: typer.Context,
    name: TariffArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a tariff that no account and no upstream uses.

    Where messages name its prices, it stays as a tariff without prices.
    """

    async def work(conn: Connection) -> tariffs.Removed | tariffs.Emptied | Refused:
        return await tariffs.remove_tariff(conn, name, by=common.actor())

    outcome = common.with_database(common.settings_for(ctx, config), work, partitions=True)
    if isinstance(outcome, Refused):
        common.refuse(outcome.reason)
    gone = isinstance(outcome, tariffs.Removed)
    if as_json:
        output.print_json({"tariff": name, "removed": gone, "prices": outcome.prices})
    elif gone:
        output.say(f"Tariff {name} is removed, with {outcome.prices:,} prices")
    else:
        output.say(
            f"Tariff {name} stays, because messages name its prices; "
            f"it has none any more ({outcome.prices:,} ended)"
        )
