"""The event log, with the warnings on top."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from proxy.admin.console.visit import Visit
from proxy.admin.cursors import read_cursor, write_cursor
from proxy.store import console
from proxy.store.pages import EVENT_KEY

_KIND: Final = "events"


async def index(visit: Visit) -> Response:
    """What happened in the last minute first; warnings of a day are counted together above."""
    asked = {key: visit.param(key) for key in ("account", "text", "severity")}
    before = visit.param("before")
    page = await console.events(visit.conn, **asked, before=_key(before))
    first = not before and not any(asked.values())
    warnings = []
    if first:
        warnings = await console.warnings(visit.conn, visit.now - timedelta(hours=24))
    return visit.page(
        "events.html",
        live="events_live.html",
        rows=page.rows,
        older=None if page.next is None else write_cursor(_KIND, page.next),
        warnings=warnings,
        first=first,
        asked=asked,
        query=urlencode({key: value for key, value in asked.items() if value}),
        before=before,
    )


def _key(cursor: str) -> Any:
    """Behind which event a page begins; None: it is the first page."""
    try:
        return read_cursor(cursor, _KIND, EVENT_KEY)
    except ValueError:
        return None
