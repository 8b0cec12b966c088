"""Events: what happened, for people."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from proxy.admin.api.access import Here, Route, need
from proxy.admin.api.hide import Hide
from proxy.admin.api.paging import CursorText, Limit, Page, page, read_cursor
from proxy.admin.api.shapes import TEXT_PATTERN, AccountFilter, Id, Since, Until
from proxy.store import pages

router = APIRouter(route_class=Route, tags=["Events"])

Severity = Literal["debug", "info", "warning", "error"]


class Event(BaseModel):
    """What happened, and how often in its minute."""

    at: datetime = Field(description="When it happened first")
    last_at: datetime = Field(description="And last, in that minute")
    count: int
    severity: str = Field(examples=["warning"])
    account: str | None = Field(description="Null: not about one account")
    kind: str = Field(examples=["credit_added"])
    text: str = Field(examples=["Credits added: 50 by anna"])
    message_id: Id | None = Field(description="The first message that it is about")


@router.get(
    "/events",
    summary="List events",
    response_model=Page[Event],
    openapi_extra=need("read", own=True),
)
async def list_events(
    call: Here,
    request: Request,
    response: Response,
    account: AccountFilter = None,
    kind: Annotated[
        str | None, Query(pattern=TEXT_PATTERN, max_length=64, examples=["credit_added"])
    ] = None,
    severity: Annotated[Severity | None, Query(description="The least that is wanted")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: CursorText = None,
) -> Any:
    """Newest first.  The counts of the last minute still grow."""
    before = read_cursor(cursor, "events", pages.EVENT_KEY)
    async with call.database() as conn:
        rows = await pages.events(
            conn,
            account=call.account_filter(account),
            kind=kind,
            severity=severity,
            since=since,
            until=until,
            before=before,
            limit=limit + 1,
        )
        hide = await Hide.for_call(call, conn)
    for row in rows:
        row["text"] = hide.text(row["text"])
    return page(request, response, rows, limit, "events", lambda row: row["key"])
