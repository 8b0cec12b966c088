"""The message history, of one account or all, and one message."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from proxy.admin.console.account_pages import account_of
from proxy.admin.console.visit import Visit
from proxy.credit.times import utc_time
from proxy.store import console, history, queue_pages
from proxy.store.ids import id_of_text

STATES: Final = {
    "Credit": {
        "queued": "queued",
        "sending": "sending",
        "held": "held",
        "in_doubt": "in doubt",
        "accepted": "accepted",
        "charged": "charged",
        "released": "released",
    },
    "Receipt": {
        "DELIVRD": "delivered",
        "EXPIRED": "expired",
        "DELETED": "deleted",
        "UNDELIV": "undeliverable",
        "REJECTD": "rejected",
        "UNKNOWN": "unknown",
    },
}


async def index(visit: Visit) -> Response:
    """Of all accounts."""
    return await _history(visit, "messages.html", account=None)


async def of_account(visit: Visit) -> Response:
    """Of one."""
    return await _history(visit, "account_messages.html", account=await account_of(visit))


async def _history(visit: Visit, template: str, *, account: dict[str, Any] | None) -> Response:
    asked = {key: visit.param(key) for key in ("number", "id", "state", "from", "to")}
    since, until = _time(asked["from"]), _time(asked["to"])
    problem = ""
    if (asked["from"] and since is None) or (asked["to"] and until is None):
        problem = "A time is written like 2026-01-31T12:00."
    search = console.MessageSearch(
        account=account["name"] if account else visit.param("account"),
        number=asked["number"],
        message_id=asked["id"],
        state=asked["state"],
        since=since,
        until=until,
    )
    before = visit.param("before")
    page = await console.messages(visit.conn, search, id_of_text(before))
    kept = {key: value for key, value in asked.items() if value}
    if account is None and visit.param("account"):
        kept["account"] = visit.param("account")
    return visit.page(
        template,
        account=account,
        page=page,
        asked=asked,
        account_name=search.account,
        states=STATES,
        query=urlencode(kept),
        before=before,
        problem=problem,
    )


def _time(text: str) -> datetime | None:
    try:
        return utc_time(text)
    except ValueError:
        return None


async def one(visit: Visit) -> Response:
    """One message with everything that happened to it."""
    text = visit.part("id")
    number = id_of_text(text)
    message = None if number is None else await history.message(visit.conn, number)
    if message is None:
        visit.not_found(f"There is no message {text[:30]}.")
    queued = None
    if message["state"] in {"queued", "sending"}:
        queued = await queue_pages.message(visit.conn, message["id"])
    return visit.page("message.html", live="message_live.html", message=message, queued=queued)
