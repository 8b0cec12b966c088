"""Messages: what became of each."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from proxy.admin.api.access import Here, Route, need
from proxy.admin.api.hide import Hide
from proxy.admin.api.paging import CursorText, Limit, Page, page, read_cursor
from proxy.admin.api.problems import Problem
from proxy.admin.api.shapes import TEXT_PATTERN, AccountFilter, Credits, Id, Name, Since, Until
from proxy.store import history, pages
from proxy.store.ids import id_of_text

router = APIRouter(route_class=Route, tags=["Messages"])

State = Literal["queued", "sending", "held", "in_doubt", "accepted", "charged", "released"]
_OPERATOR_ONLY = "; null for the token of an account"


class Message(BaseModel):
    """A message that was charged."""

    id: Id = Field(description="What the client got as message_id")
    account: Name
    system_id: str | None
    submitted_at: datetime
    source_addr: str = Field(examples=["Shop"])
    destination_addr: str = Field(examples=["447700900123"])
    segments: int
    price: Credits
    released: Credits = Field(description="Of the price: what was given back")
    state: str = Field(
        description="queued, sending, held, in_doubt, accepted (charged, and a receipt may release"
        " it), charged, released",
        examples=["charged"],
    )
    reason: str | None
    command_status: int | None = Field(description="Of the upstream's answer")
    answered_at: datetime | None
    receipt_state: str | None = Field(examples=["DELIVRD"])
    receipt_error: str | None
    receipt_at: datetime | None
    receipt_delivered_at: datetime | None = Field(description="When the client took the receipt")
    upstream: str | None = Field(description="Who took it" + _OPERATOR_ONLY)
    smsc_message_id: str | None = Field(description="The upstream's id" + _OPERATOR_ONLY)
    cost: Credits | None = Field(description="What the upstream takes" + _OPERATOR_ONLY)
    margin: Credits | None = Field(description="Price less cost" + _OPERATOR_ONLY)
    tariff: str | None = Field(description="Where the price came from")
    price_prefix: str | None


class Step(BaseModel):
    """One thing that happened."""

    at: datetime
    what: str = Field(examples=["credit taken"])
    detail: str = Field(examples=["1 credit, balance 99"])


class MessageWithHistory(Message):
    """A message with everything that happened to it."""

    history: list[Step]


@router.get(
    "/messages",
    summary="List messages",
    response_model=Page[Message],
    openapi_extra=need("read", own=True),
)
async def list_messages(
    call: Here,
    request: Request,
    response: Response,
    account: AccountFilter = None,
    destination: Annotated[
        str | None,
        Query(pattern=TEXT_PATTERN, max_length=64, description="Only to exactly this address"),
    ] = None,
    state: Annotated[State | None, Query(description="Only in this state")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: CursorText = None,
) -> Any:
    """Newest first.  `since` and `until` are about submitted_at; they make a search quick."""
    (before,) = read_cursor(cursor, "messages", [int]) or (None,)
    async with call.database() as conn:
        rows = await pages.messages(
            conn,
            account=call.account_filter(account),
            destination=destination,
            state=state,
            since=since,
            until=until,
            before=before,
            limit=limit + 1,
        )
        hide = await Hide.for_call(call, conn)
    for row in rows:
        hide.message(row)
    return page(request, response, rows, limit, "messages", lambda row: [row["id"]])


@router.get("/messages/{id}", summary="Show a message", openapi_extra=need("read", own=True))
async def show_message(
    call: Here,
    message_id: Annotated[
        str, Path(alias="id", pattern=r"^[0-9]{1,19}$", examples=["28410233257984"])
    ],
) -> MessageWithHistory:
    """With everything that happened to it, in order."""
    number = id_of_text(message_id)
    async with call.database() as conn:
        row = None if number is None else await history.message(conn, number)
        # The same answer for a message of somebody else.
        if row is None or call.token.account not in {None, row["account"]}:
            raise Problem(404, f"there is no message {message_id}")
        hide = await Hide.for_call(call, conn)
    hide.message(row)
    return MessageWithHistory.model_validate(row)
