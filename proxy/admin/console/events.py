"""The event log, with the warnings on top."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlencode

from starlette.responses import Response

from proxy.admin.console.visit import Visit
from proxy.store import console


async def index(visit: Visit) -> Response:
    """What happened last first; warnings of a day are counted together above."""
    asked = {key: visit.param(key) for key in ("account", "text", "severity")}
    before = visit.param("before")
    page = await console.events(visit.conn, **asked, before=before)
    first = not before and not any(asked.values())
    warnings = []
    if first:
        warnings = await console.warnings(visit.conn, visit.now - timedelta(hours=24))
    return visit.page(
        "events.html",
        live="events_live.html",
        page=page,
        warnings=warnings,
        first=first,
        asked=asked,
        query=urlencode({key: value for key, value in asked.items() if value}),
        before=before,
    )
