"""smpp-proxy upstream …: carriers and modems, beside what the configuration says of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption
from proxy.store import upstream_reports, upstreams
from proxy.store.outcomes import Refused
from proxy.store.sql import Row

app = common.new_app("Upstreams: pause and resume them, and say what they cost.")

UpstreamArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The upstream's name in the configuration.")
]
COLUMNS = {
    "name": "name",
    "kind": "kind",
    "state": "state",
    "links": "links",
    "window": "window",
    "backlog": "waiting",
    "signal": "signal",
    "sim": "SIM usage",
    "cost_tariff": "cost tariff",
    "paused": "paused",
    "why": "why",
}
MANAGED = ("name", "cost_tariff", "paused")
"""What pause, resume and cost print."""


@app.command("list")
def list_all(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List every upstream that a proxy ever had, with what the running proxies report of it.

    SIM usage is in short messages: each part of a long one counts.
    """
    settings = common.settings_for(ctx, config)

    async def work(conn: Connection) -> list[Row]:
        return await upstream_reports.overview(conn, settings)

    rows = common.with_database(settings, work)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table([_shown(row) for row in rows], COLUMNS)


def _shown(row: Row) -> Row:
    signal = row["signal_dbm"]
    return {
        **row,
        "window": window(row),
        "signal": None if signal is None else f"{signal} dBm",
        "sim": sim_usage(row),
        "why": _why(row),
    }


def _why(row: Row) -> str | None:
    """Why it takes few messages or none, as far as somebody says."""
    slowed = f"slowed to {row['rate']:g} messages a second" if row["slowed"] else None
    return "; ".join(reason for reason in (row["why"], slowed) if reason) or None


def window(row: Row) -> str:
    """Requests without an answer, of how many there may be."""
    return f"{row['window_used']}/{row['window_max']}" if row["window_max"] else ""


def sim_usage(row: Row) -> str:
    """Short messages that a SIM has sent, of how many it may: "12/100 this hour, 80 today"."""
    used, limits = row["used"] or {}, row["limits"] or {}
    return ", ".join(
        f"{number}{f'/{limits[period]}' if limits.get(period) else ''} {words}"
        for period, words in (("hour", "this hour"), ("day", "today"), ("month", "this month"))
        if (number := used.get(period)) is not None
    )


@app.command("pause")
def pause(
    ctx: typer.Context,
    name: UpstreamArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an upstream no new messages; it stays connected, and receipts still come."""
    _set_paused(ctx, config, name, True, as_json)


@app.command("resume")
def resume(
    ctx: typer.Context,
    name: UpstreamArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a paused upstream messages again."""
    _set_paused(ctx, config, name, False, as_json)


@app.command("cost")
def cost(
    ctx: typer.Context,
    *,
    name: UpstreamArgument,
    tariff: Annotated[
        str | None, typer.Argument(metavar="[TARIFF]", help="By which the carrier is paid.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Its cost is not known.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what an upstream costs, so that messages know their margin."""
    if (tariff is None) != none:
        raise typer.BadParameter("give a TARIFF, or --none")

    async def change(conn: Connection) -> upstreams.Changed | Refused:
        return await upstreams.set_upstream_cost(conn, name, tariff, by=common.actor())

    _change(ctx, config, name, change, as_json)


def _set_paused(
    ctx: typer.Context, config: Path | None, name: str, paused: bool, as_json: bool
) -> None:
    async def change(conn: Connection) -> upstreams.Changed | Refused:
        return await upstreams.set_upstream_paused(conn, name, paused, by=common.actor())

    _change(ctx, config, name, change, as_json)


def _change(
    ctx: typer.Context,
    config: Path | None,
    name: str,
    change: Callable[[Connection], Awaitable[upstreams.Changed | Refused]],
    as_json: bool,
) -> None:
    """Change the upstream and print it as it is then."""

    async def work(conn: Connection) -> Row:
        outcome = await change(conn)
        if isinstance(outcome, Refused):
            common.refuse(outcome.reason)
        row = await upstreams.upstream(conn, name)
        assert row is not None  # upstreams are never removed
        return row

    row = common.with_database(common.settings_for(ctx, config), work, partitions=True)
    if as_json:
        output.print_json(row)
    else:
        output.print_record(row, MANAGED)
