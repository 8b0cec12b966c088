"""Home: how things stand, at a glance."""

from __future__ import annotations

from datetime import timedelta

from starlette.responses import Response

from proxy.admin.console import plot
from proxy.admin.console.upstreams import overview
from proxy.admin.console.visit import Visit
from proxy.store import console, nodes


async def show(visit: Visit) -> Response:
    """Traffic, refusals, upstreams, and who is about to run dry."""
    traffic = await console.traffic(visit.conn, visit.now)
    statuses = await nodes.statuses(visit.conn)
    return visit.page(
        "home.html",
        live="home_live.html",
        traffic=traffic,
        accepted=plot.bars(traffic.minutes, traffic.accepted, "messages"),
        refused=plot.bars(traffic.minutes, traffic.refused, "refusals"),
        upstreams=await overview(visit),
        sessions=sum(len(one.status.get("sessions", ())) for one in statuses),
        proxies=len(statuses),
        empties=await console.almost_empty(visit.conn),
        warnings=await console.warnings(visit.conn, visit.now - timedelta(hours=1), 5),
        checks=visit.console.context.readiness(),
    )
