"""Carriers and modems: how they do, on each proxy; pause, resume, what they cost."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from proxy.admin.console.render import sentence
from proxy.admin.console.visit import Visit
from proxy.store import console, upstream_reports, upstreams
from proxy.store.outcomes import Refused


async def overview(visit: Visit) -> list[dict[str, Any]]:
    """Every upstream that is configured or that a proxy reports; under "nodes" each proxy's view.

    A modem comes behind its pool.
    """
    rows = [
        row
        for row in await upstream_reports.overview(visit.conn, visit.console.context.settings)
        if row["nodes"] or row["configured"]
    ]
    return sorted(rows, key=lambda row: (row["pool"] or row["name"], row["pool"] is not None))


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
