"""`route test`: which way a message would take now, and why.

It is worked out from the configuration and the database, as a proxy would: it needs none, and
says of the upstreams what the running proxies report.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from proxy.config import Settings
from proxy.credit.money import text_from_micro
from proxy.credit.tariff import SERVICE_BINARY, SERVICE_SMS
from proxy.routing.table import Route, build_routes
from proxy.smpp.segments import BINARY
from proxy.store import nodes, pricing, queue_pages, upstreams
from proxy.store.outcomes import Refused
from proxy.store.pricing import PriceExplained
from proxy.store.sql import Row
from proxy.store.upstream_reports import together

ADDRESS_MAX: Final = 20
"""Octets of an address: SMPP 3.4 section 5.2.9, without the NUL."""

ORDERS: Final = {
    "failover": "the first that can, in this order",
    "weighted": "each is first as often as its weight says",
    "round_robin": "each is first in its turn",
    "least_cost": "the cheapest first; one whose cost is not known comes last",
}
"""What a policy does, in words."""


def routes(settings: Settings) -> list[Row]:
    """The routes of the configuration, in order, with their conditions in words."""
    table = build_routes(settings.routes_or_default, _names(settings), lambda _: False)
    return [
        {
            "name": route.name,
            "conditions": str(route.conditions),
            "upstreams": list(route.upstreams),
            "policy": route.policy,
            "weights": None if route.weights is None else list(route.weights),
            "mode": route.mode,
            "when_down": "queue" if route.queue_when_down else "refuse",
        }
        for route in table.routes
    ]


async def explain(
    conn: Any,
    settings: Settings,
    account: str,
    destination_addr: str,
    source_addr: str = "",
    data_coding: int = 0,
    at_s: float | None = None,
) -> Row | Refused:
    """The way of a message of one segment at a moment (Unix time; None: now).

    Refused when there is no such account.  The row has what was asked, and
      tried      every route that is looked at: name, matched, why (not)
      route      the name of the one that takes it, None: none does; policy, order, mode
      queued     whether the queue takes it now, and why_queued
      upstreams  in the order in which they are tried now, each with how it does, and its cost
      proxies    how many proxies report
      tariff, price, refusal   what the account pays; why that can't be said
    """
    now_s = time.time()
    at_s = now_s if at_s is None else at_s
    service = SERVICE_BINARY if data_coding in BINARY else SERVICE_SMS
    # Prices of the past are not read any more.
    priced = await pricing.explain_price(
        conn, account, destination_addr, 1, service, max(at_s, now_s)
    )
    if isinstance(priced, Refused):
        return priced
    statuses = await nodes.statuses(conn)
    table = build_routes(settings.routes_or_default, _names(settings), lambda _: False)
    message = (account, source_addr, destination_addr, data_coding, at_s)
    row: Row = {
        "account": account,
        "destination": destination_addr,
        "source": source_addr,
        "data_coding": data_coding,
        "at": datetime.fromtimestamp(at_s, UTC),
        "tried": [
            {"route": one.route.name, "matched": one.matched, "why": one.why}
            for one in table.explain(*message)
        ],
        **dict.fromkeys(("route", "policy", "order", "mode", "queued", "why_queued")),
        "upstreams": [],
        "proxies": len(statuses),
        "tariff": priced.tariff,
        "price": _credits(priced.total_micro),
        "refusal": priced.refusal,
    }
    route = table.find(*message)
    if route is not None:
        row |= {"route": route.name, "policy": route.policy, "mode": route.mode}
        row["order"] = ORDERS[route.policy]
        seen = together(await upstreams.list_upstreams(conn), statuses, settings)
        row["upstreams"] = _ways(settings, route, priced, {one["name"]: one for one in seen})
        row["why_queued"] = await _why_queued(conn, route, row)
        row["queued"] = row["why_queued"] is not None
    return row


def _names(settings: Settings) -> dict[str, str]:
    return {one.name: one.name for one in settings.upstream}


def _ways(
    settings: Settings, route: Route[str], priced: PriceExplained, known: dict[str, Row]
) -> list[Row]:
    """The upstreams of a route, in the order in which a message tries them now."""
    kinds = {one.name: one.kind for one in settings.upstream}
    costs = {cost.upstream: cost for cost in priced.costs}

    def cost_micro(name: str) -> int | None:
        return costs[name].cost_micro if name in costs else None

    ways = []
    for name in route.ways(cost_micro):
        seen = known.get(name, {})
        ways.append(
            {
                "upstream": name,
                "kind": kinds[name],
                "state": seen.get("state", "unknown"),
                "why": seen.get("why"),
                "paused": seen.get("paused", False),
                "links": seen.get("links", 0),
                "window_used": seen.get("window_used", 0),
                "window_max": seen.get("window_max", 0),
                "backlog": seen.get("backlog", 0),
                "weight": route.weights and route.weights[route.upstreams.index(name)],
                "cost_tariff": costs[name].tariff if name in costs else None,
                "cost": _credits(cost_micro(name)),
            }
        )
    # As flow/forward.py does: healthy ones first, then who is bound at least.
    return sorted(ways, key=_rank)


def _rank(way: Row) -> int:
    if way["state"] in {"up", "partly up", "unknown"}:
        return 0
    return 1 if way["state"] == "resting" else 2


async def _why_queued(conn: Any, route: Route[str], row: Row) -> str | None:
    """Why the queue takes its messages now; None: it does not."""
    if route.mode == "queued":
        return "its mode"
    if not route.queue_when_down:
        return None
    if row["proxies"] and all(_rank(way) == 2 for way in row["upstreams"]):
        return "its upstreams are down"
    if await queue_pages.waits_for(conn, route.name):
        return "others wait there since its upstreams were down"
    return None


def _credits(micro: int | None) -> Any:
    return None if micro is None else Decimal(text_from_micro(micro))
