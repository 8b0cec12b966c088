"""smpp-proxy route …: which way messages go, and why."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption
from proxy.commands.upstreams import window
from proxy.credit.times import check_year, utc_time
from proxy.flow import route_test
from proxy.smpp.vocabulary import status_name
from proxy.store.outcomes import Refused
from proxy.store.sql import Row

app = common.new_app("Routes: list them, and try which way a message would take.")

COLUMNS = {
    "name": "name",
    "conditions": "takes",
    "upstreams": "upstreams",
    "policy": "policy",
    "mode": "mode",
}
TRIED_COLUMNS = {"route": "route", "takes": "takes it", "why": "why"}
WAY_COLUMNS = {
    "upstream": "upstream",
    "kind": "kind",
    "state": "state",
    "links": "links",
    "window": "window",
    "backlog": "waiting",
    "cost": "cost",
    "why": "why",
}
_MAY_TAKE = {"up", "partly up", "resting", "unknown"}
"""States of upstreams that take messages, as far as is known."""


@app.command("list")
def list_all(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the routes of the configuration file, in the order in which they are looked at."""
    rows = route_test.routes(common.settings_for(ctx, config))
    if as_json:
        output.print_json(rows)
    else:
        output.print_table([_shown(row) for row in rows], COLUMNS)


def _shown(row: Row) -> Row:
    names = row["upstreams"]
    if row["weights"] is not None:
        names = [f"{name} ({n})" for name, n in zip(names, row["weights"], strict=True)]
    mode = row["mode"]
    if row["when_down"] == "queue":
        mode += ", queued when down"
    return {**row, "upstreams": names, "mode": mode}


def _parse_address(text: str) -> str:
    if not text or len(text.encode()) > route_test.ADDRESS_MAX or "," in text:
        raise typer.BadParameter(f"one address of at most {route_test.ADDRESS_MAX} octets, please")
    return text


def _parse_octet(text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= 255:
        raise typer.BadParameter(f"{text!r} is not a number from 0 to 255, such as 8 or 0x08")
    return number


def _parse_moment(text: str) -> datetime:
    try:
        when = utc_time(text, None)
        check_year(when)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not a time such as 2026-01-31T22:30") from None
    return when


@app.command("test")
def test(
    ctx: typer.Context,
    *,
    account: Annotated[
        str, typer.Option("--account", metavar="NAME", help="Whose message it would be.")
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to", parser=_parse_address, metavar="ADDRESS", help="Its destination address."
        ),
    ],
    sender: Annotated[
        str | None,
        typer.Option("--from", parser=_parse_address, metavar="ADDRESS", help="Its sender."),
    ] = None,
    data_coding: Annotated[
        int, typer.Option("--data-coding", parser=_parse_octet, metavar="N", help="Else 0.")
    ] = "0",  # type: ignore[assignment]  # read by the parser
    at: Annotated[
        datetime | None,
        typer.Option(
            "--at", parser=_parse_moment, metavar="TIME", help="An ISO 8601 time; else now."
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain which way a message of one segment would take: its route, upstreams and cost.

    By the configuration file as it is now.  Nothing is sent.  Ends with status 1 when no route
    takes it.
    """
    settings = common.settings_for(ctx, config)
    at_s = None if at is None else at.timestamp()

    async def work(conn: Connection) -> Row | Refused:
        return await route_test.explain(
            conn, settings, account, to, sender or "", data_coding, at_s
        )

    found = common.with_database(settings, work)
    if isinstance(found, Refused):
        common.refuse(found.reason)
    if as_json:
        output.print_json(found)
    else:
        _print_explained(found, settings.status.no_upstream)
    if found["route"] is None:
        common.refuse(f"no route takes it: {status_name(settings.status.no_route)}")


def _print_explained(found: Row, no_upstream: int) -> None:
    tried = [
        {**one, "takes": "yes" if one["matched"] else "no", "why": one["why"]}
        for one in found["tried"]
    ]
    output.print_table(tried, TRIED_COLUMNS)
    if found["route"] is None:
        return
    output.say("")
    shown = {
        "route": found["route"],
        "mode": _mode(found),
        "policy": f"{found['policy']}: {found['order']}",
        "account pays": _price(found),
    }
    if not found["proxies"]:
        shown["proxies"] = "no proxy reports"
    elif not found["queued"] and not any(one["state"] in _MAY_TAKE for one in found["upstreams"]):
        refused = status_name(no_upstream)
        shown["now"] = f"refused, since none of its upstreams takes messages: {refused}"
    output.print_record(shown, list(shown))
    output.say("")
    output.print_table([_way(one, found["proxies"]) for one in found["upstreams"]], WAY_COLUMNS)


def _mode(found: Row) -> str:
    if found["queued"]:
        return f"queued ({found['why_queued']}): the client is answered before it is sent"
    return "direct: the client waits for the upstream's answer"


def _price(found: Row) -> str:
    if found["refusal"] is not None:
        why = "no price matches" if found["refusal"] == "no_price" else "not sold"
        return f"nothing, it is refused: {why} (tariff {found['tariff']})"
    return f"{found['price']:f} a segment (tariff {found['tariff']})"


def _way(one: Row, proxies: int) -> Row:
    name = one["upstream"]
    unknown = proxies and one["state"] == "unknown"
    return {
        **one,
        "upstream": f"{name} ({one['weight']})" if one["weight"] else name,
        "window": window(one),
        "why": "no running proxy has it" if unknown else one["why"],
        "cost": "not known" if one["cost"] is None else one["cost"],
    }
