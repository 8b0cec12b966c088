"""smpp-proxy price: what a message would cost, and why."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption, NameArgument
from proxy.commands.tariffs import credits_of
from proxy.config import StatusSettings
from proxy.credit.tariff import Price
from proxy.credit.tariff_csv import NOT_SOLD, time_text
from proxy.smpp.vocabulary import status_name
from proxy.store import pricing
from proxy.store.outcomes import Refused
from proxy.store.pricing import PriceExplained
from proxy.store.sql import Row

COST_COLUMNS = {
    "upstream": "upstream",
    "tariff": "cost tariff",
    "prefix": "prefix",
    "service": "service",
    "cost": "cost",
    "margin": "margin",
}


def price(
    ctx: typer.Context,
    *,
    name: NameArgument,
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION", help="An address, with or without +.")
    ],
    segments: Annotated[
        int, typer.Option("--segments", min=1, max=1_000_000, help="How many of the message.")
    ] = 1,
    service: Annotated[
        str, typer.Option("--service", metavar="S", help="sms, binary, or a service_type.")
    ] = "sms",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain what a message would cost an account, what the carriers take, and what is left."""
    settings = common.settings_for(ctx, config)

    async def work(conn: Connection) -> PriceExplained | Refused:
        return await pricing.explain_price(conn, name, destination, segments, service, time.time())

    found = common.with_database(settings, work)
    if isinstance(found, Refused):
        common.refuse(found.reason)
    row = _explained_json(found, settings.status)
    if as_json:
        output.print_json(row)
    else:
        _print_explained(found, row, service)


def _explained_json(found: PriceExplained, status: StatusSettings) -> Row:
    number = None if found.refusal is None else getattr(status, found.refusal)
    return {
        "account": found.account,
        "tariff": found.tariff,
        "destination": found.destination,
        "service": found.service,
        "segments": found.segments,
        "match": _price_json(found.price),
        "total": credits_of(found.total_micro),
        "refusal": found.refusal,
        "command_status": number,
        "upstreams": [
            {
                "upstream": cost.upstream,
                "paused": cost.paused,
                "tariff": cost.tariff,
                "match": _price_json(cost.price),
                "cost": credits_of(cost.cost_micro),
                "margin": credits_of(cost.margin_micro),
            }
            for cost in found.costs
        ],
    }


def _price_json(match: Price | None) -> Row | None:
    """The row of a tariff that counts, if one does."""
    if match is None:
        return None
    return {
        "prefix": match.prefix,
        "service": match.service,
        "price": credits_of(match.price_micro),
        "valid_from": _moment(match.valid_from_s),
        "valid_to": _moment(match.valid_to_s),
    }


def _moment(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)


def _print_explained(found: PriceExplained, row: Row, asked_service: str) -> None:
    shown = {key: row[key] for key in ("account", "tariff", "destination", "service", "segments")}
    if asked_service.lower() != found.service:
        shown["service"] = f"{found.service} (the tariff has no prices for {asked_service})"
    match = row["match"]
    if match is not None:
        shown["matching prefix"] = match["prefix"] or "(any)"
        shown["matching service"] = match["service"] or "(any)"
        shown["price a segment"] = NOT_SOLD if match["price"] is None else match["price"]
        shown["valid from"] = time_text(match["valid_from"])
        shown["valid to"] = time_text(match["valid_to"])
    if found.refusal is None:
        shown["total"] = row["total"]
    else:
        why = "no price matches" if found.refusal == "no_price" else "not sold"
        number = row["command_status"]
        shown["refused"] = f"{why}: {status_name(number)} (0x{number:08X})"
    output.print_record(shown, list(shown))
    if found.costs:
        output.say("")
        output.print_table([_cost_shown(cost) for cost in row["upstreams"]], COST_COLUMNS)


def _cost_shown(cost: Row) -> Row:
    match = cost["match"]
    return {
        "upstream": f"{cost['upstream']} (paused)" if cost["paused"] else cost["upstream"],
        "tariff": cost["tariff"],
        "prefix": match and (match["prefix"] or "(any)"),
        "service": match and (match["service"] or "(any)"),
        "cost": "not known" if cost["cost"] is None else cost["cost"],
        "margin": cost["margin"],
    }
