"""The carriers: bound or not, on each proxy; pause, resume, what they cost."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from proxy.admin.console.render import sentence
from proxy.admin.console.visit import Visit
from proxy.store import console, nodes, upstreams
from proxy.store.outcomes import Refused


async def overview(visit: Visit) -> list[dict[str, Any]]:
    """Every upstream with its state and, under "proxies", how each proxy sees it."""
    rows = await upstreams.list_upstreams(visit.conn)
    configured = {one.name for one in visit.console.context.settings.upstream}
    seen: dict[str, list[dict[str, Any]]] = {}
    for status in await nodes.statuses(visit.conn):
        for upstream in status.status.get("upstreams", ()):
            seen.setdefault(upstream["name"], []).append({"node": status.node, **upstream})
    shown = []
    for row in rows:
        proxies = seen.get(row["name"], [])
        if proxies or row["name"] in configured:
            shown.append({**row, "proxies": proxies, "state": _state(row["paused"], proxies)})
    return shown


def _state(paused: bool, proxies: list[dict[str, Any]]) -> str:
    if paused:
        return "paused"
    bound = sum(1 for one in proxies if one["links"])
    if not proxies:
        return "unknown"
    return "up" if bound == len(proxies) else "partly up" if bound else "down"


async def index(visit: Visit) -> Response:
    """All of them."""
    return visit.page(
        "upstreams.html",
        live="upstreams_live.html",
        upstreams=await overview(visit),
        tariffs=await console.tariff_names(visit.conn),
    )


async def change(visit: Visit) -> Response:
    """Pause, resume, or set the tariff of what it costs."""
    name, what = visit.part("name"), visit.value("do")
    if what in {"pause", "resume"}:
        outcome = await upstreams.set_upstream_paused(
            visit.conn, name, what == "pause", by=visit.who.name
        )
        notice = f"{name} is {'paused' if what == 'pause' else 'in use again'}."
    elif what == "cost":
        tariff = visit.value("tariff")
        outcome = await upstreams.set_upstream_cost(
            visit.conn, name, tariff or None, by=visit.who.name
        )
        notice = f"Costs of {name}: {tariff or 'not known'}."
    else:
        raise HTTPException(400, "Pause, resume or cost?")
    if isinstance(outcome, Refused):
        raise HTTPException(400, sentence(outcome.reason))
    return visit.go("/upstreams", notice)
