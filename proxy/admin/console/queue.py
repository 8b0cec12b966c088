"""The durable queue: how much waits for each route, what goes next, try it now or take it out."""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import Response

from proxy.admin.console.render import sentence
from proxy.admin.console.visit import Visit
from proxy.admin.cursors import read_cursor, write_cursor
from proxy.flow import queue_changes, route_test
from proxy.store import console, queue_pages
from proxy.store.ids import id_of_text
from proxy.store.outcomes import Refused
from proxy.store.queue_pages import Selection
from proxy.store.sql import Row

_KIND: Final = "queue"
_KIND_OF_ACCOUNT: Final = "queue of account"
_BELIEVED: Final = 20
"""A count is shown for so many times as long as it took: counting a million is not for every
glance of every browser, and a small queue is counted anew."""


async def index(visit: Visit) -> Response:
    """By route, then the messages: the next to go first; of one account, its oldest."""
    asked = {key: visit.param(key) for key in ("account", "route")}
    after = visit.param("before")
    rows, following = await _page(visit, asked, after)
    return visit.page(
        "queue.html",
        live="queue_live.html",
        routes=await _summary(visit),
        known={row["name"] for row in route_test.routes(visit.console.context.settings)},
        rows=rows,
        following=following,
        asked=asked,
        query=urlencode({key: value for key, value in asked.items() if value}),
        before=after,
    )


async def _page(visit: Visit, asked: dict[str, str], after: str) -> tuple[list[Row], str | None]:
    """The rows, and the cursor of the next page."""
    limit = console.PAGE_ROWS + 1
    route = asked["route"] or None
    if asked["account"]:
        behind = _key(after, _KIND_OF_ACCOUNT, (int,)) or (0,)
        rows = await queue_pages.of_account(
            visit.conn, asked["account"], route=route, after=behind[0], limit=limit
        )
    else:
        key = _key(after, _KIND, queue_pages.KEY)
        rows = await queue_pages.next_to_go(visit.conn, route=route, after=key, limit=limit)
    shown = rows[: console.PAGE_ROWS]
    if len(rows) == len(shown):
        return shown, None
    last = shown[-1]
    if asked["account"]:
        return shown, write_cursor(_KIND_OF_ACCOUNT, [last["id"]])
    return shown, write_cursor(_KIND, last["key"])


def _key(cursor: str, kind: str, types: tuple[type, ...]) -> Any:
    """Behind which message a page begins; None: it is the first page."""
    try:
        return read_cursor(cursor, kind, types) if cursor else None
    except ValueError:
        return None


async def _summary(visit: Visit) -> list[Row]:
    kept, now = visit.console.queue_summary, time.monotonic()
    if kept is None or now >= kept[0]:
        rows = await queue_pages.summary(visit.conn)
        took_s = time.monotonic() - now
        kept = visit.console.queue_summary = (now + _BELIEVED * took_s, rows)
    return kept[1]


async def change(visit: Visit) -> Response:
    """Try messages now, or take them out; the latter is asked back first."""
    asked = {key: visit.value(key) for key in ("id", "account", "route")}
    chosen = await _chosen(visit, asked)
    do = visit.value("do")
    back = f"/messages/{asked['id']}" if asked["id"] else "/queue"
    if do == "cancel" and visit.value("confirmed") != "yes":
        return await _confirm(visit, asked, chosen, back)
    visit.console.queue_summary = None
    if do == "retry":
        lines = await queue_changes.retry(visit.conn, chosen, by=visit.who.name)
        return visit.go(back, _retried(lines))
    if do == "cancel":
        done = await queue_changes.cancel(
            visit.conn,
            visit.console.context.mint,
            chosen,
            by=visit.who.name,
            within_s=queue_changes.AT_ONCE_MAX_S,
        )
        return visit.go(back, _cancelled(done))
    raise HTTPException(400, "Retry or cancel?")


async def _chosen(visit: Visit, asked: dict[str, str]) -> Selection:
    number = id_of_text(asked["id"])
    if asked["id"] and number is None:
        raise HTTPException(400, "That is no message id.")
    chosen = await queue_pages.selection(
        visit.conn,
        ids=() if number is None else (number,),
        account=asked["account"] or None,
        route=asked["route"] or None,
    )
    if isinstance(chosen, Refused):
        raise HTTPException(400, sentence(chosen.reason))
    return chosen


async def _confirm(visit: Visit, asked: dict[str, str], chosen: Selection, back: str) -> Response:
    number = await queue_pages.count(visit.conn, chosen)
    if not number:
        return visit.go(back, "There is no such message in the queue any more.")
    return visit.page(
        "queue_confirm.html", asked=asked, number=number, what=_messages(number), back=back
    )


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number:,} messages"


def _retried(lines: int) -> str:
    if not lines:
        return "Nothing waits for another attempt there."
    return f"{lines:,} {'destination is' if lines == 1 else 'destinations are'} tried now."


def _cancelled(done: queue_changes.Cancelled) -> str:
    parts = [f"{_messages(done.cancelled)} cancelled."]
    if done.left:
        parts.append(f"{done.left:,} on their way or gone.")
    if done.more:
        parts.append("There are more: cancel again for the rest.")
    return " ".join(parts)
