"""The durable queue: what was charged and answered, and waits for its upstream."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field, model_validator

from proxy.admin.api.access import Call, Here, Route, need, no_account
from proxy.admin.api.hide import Hide
from proxy.admin.api.paging import CursorText, Limit, Page, page, read_cursor
from proxy.admin.api.problems import Problem
from proxy.admin.api.shapes import TEXT_PATTERN, AccountFilter, Credits, Id, Model, Name
from proxy.config.routes import NAME_MAX
from proxy.flow import queue_changes
from proxy.store import history, queue_pages
from proxy.store.ids import id_of_text
from proxy.store.outcomes import Refused
from proxy.store.queue_pages import Selection

router = APIRouter(route_class=Route, tags=["Queue"])

IDS_MAX: Final = 1000
_OPERATOR_ONLY = "; null for the token of an account"

RouteName = Annotated[str, Field(pattern=TEXT_PATTERN, min_length=1, max_length=NAME_MAX)]
RouteFilter = Annotated[
    str | None, Query(pattern=TEXT_PATTERN, max_length=NAME_MAX, description="Only of this route")
]
MessageId = Annotated[str, Path(alias="id", pattern=r"^[0-9]{1,19}$", examples=["28410233257984"])]


class QueuedMessage(BaseModel):
    """A message that waits in the queue."""

    id: Id = Field(description="What the client got as message_id")
    account: Name
    source_addr: str | None = Field(examples=["Shop"])
    destination_addr: str | None = Field(examples=["447700900123"])
    segments: int | None
    price: Credits
    state: str = Field(description="queued; or sending: on its way now", examples=["queued"])
    attempts: int = Field(description="How often it was given to an upstream")
    due_at: datetime = Field(description="When it came, or what it is scheduled for")
    next_at: datetime | None = Field(
        description="Not before then; messages to the same destination go one after the other"
    )
    expires_at: datetime
    last_status: int | None = Field(description="The upstream's command_status of the last attempt")
    last_reason: str | None
    route: str | None = Field(description="The route it waits for" + _OPERATOR_ONLY)


class QueuedMessageInFull(QueuedMessage):
    """A message of the queue, and how its line stands."""

    system_id: str | None
    submitted_at: datetime
    before_it: int = Field(description="Messages to the same destination that go before it")
    body_octets: int


class RouteSummary(BaseModel):
    """What waits for one route."""

    route: str
    messages: int
    sending: int = Field(description="Of these: on their way now")
    scheduled: int = Field(description="Of these: for later, as their client wanted")
    oldest_at: datetime | None = Field(description="Since when the oldest might have gone")


class Summary(BaseModel):
    """What waits."""

    account: str | None = Field(description="Whose; null: of all accounts")
    messages: int
    sending: int
    scheduled: int
    oldest_at: datetime | None
    routes: list[RouteSummary] | None = Field(description="By route" + _OPERATOR_ONLY)


class Chosen(Model):
    """Messages of the queue: some by their ids, or all of an account, of a route, or of both."""

    ids: list[Id] | None = Field(
        default=None, min_length=1, max_length=IDS_MAX, examples=[["28410233257984"]]
    )
    account: Name | None = None
    route: RouteName | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.ids is None) == (self.account is None and self.route is None):
            raise ValueError("either ids, or account, route or both of these, please")
        return self


class Retried(BaseModel):
    """What is tried now."""

    destinations: int = Field(description="How many had to wait for another attempt until now")


class Cancelled(BaseModel):
    """What became of the messages."""

    cancelled: int = Field(description="Taken out; their credit went back by their account's rule")
    left: int = Field(description="On their way already, or gone")
    more: bool = Field(description="The time was over before all were: ask again for the rest")


@router.get(
    "/queue",
    summary="List what waits",
    response_model=Page[QueuedMessage],
    openapi_extra=need("read", own=True),
)
async def list_queue(
    call: Here,
    request: Request,
    response: Response,
    account: AccountFilter = None,
    route: RouteFilter = None,
    limit: Limit = 100,
    cursor: CursorText = None,
) -> Any:
    """The next to go first; with an account, its oldest first.

    A message that is put off while pages are read may come once more.
    """
    wanted = call.account_filter(account)
    _may_choose_route(call, route)
    rows: list[dict[str, Any]]
    async with call.database() as conn:
        if wanted is None:
            after = read_cursor(cursor, "queue", queue_pages.KEY)
            rows = await queue_pages.next_to_go(conn, route=route, after=after, limit=limit + 1)
        else:
            (behind,) = read_cursor(cursor, "queue of account", [int]) or (0,)
            rows = await queue_pages.of_account(
                conn, wanted, route=route, after=behind, limit=limit + 1
            )
        hide = await Hide.for_call(call, conn)
    for row in rows:
        _hide(call, hide, row)
    if wanted is None:
        return page(request, response, rows, limit, "queue", lambda row: row["key"])
    return page(request, response, rows, limit, "queue of account", lambda row: [row["id"]])


@router.get("/queue/summary", summary="Count what waits", openapi_extra=need("read", own=True))
async def summary(call: Here, account: AccountFilter = None) -> Summary:
    """Every message is counted: that takes tenths of a second when there are a million."""
    wanted = call.account_filter(account)
    async with call.database() as conn:
        rows = await queue_pages.summary(conn, wanted)
    oldest = [row["oldest_at"] for row in rows if row["oldest_at"] is not None]
    return Summary(
        account=wanted,
        messages=sum(row["messages"] for row in rows),
        sending=sum(row["sending"] for row in rows),
        scheduled=sum(row["scheduled"] for row in rows),
        oldest_at=min(oldest, default=None),
        routes=None if call.of_account else [RouteSummary(**row) for row in rows],
    )


@router.post("/queue/retry", summary="Try messages now", openapi_extra=need("admin"))
async def retry(call: Here, chosen: Chosen) -> Retried:
    """What waits for another attempt goes now, with all before it to the same destination.

    What is on its way, or scheduled for later, stays as it is.
    """
    async with call.database() as conn:
        selection = await _selection(conn, chosen)
        return Retried(destinations=await queue_changes.retry(conn, selection, by=call.by))


@router.post("/queue/cancel", summary="Cancel messages", openapi_extra=need("admin"))
async def cancel(call: Here, chosen: Chosen) -> Cancelled:
    """Takes messages out: they are not sent, and who asked for a receipt gets one (DELETED).

    What has left the queue is left alone, so a request that was not answered can be repeated.
    """
    async with call.database() as conn:
        return await _cancel(call, conn, await _selection(conn, chosen))


@router.get("/queue/{id}", summary="Show what waits", openapi_extra=need("read", own=True))
async def show_queued(call: Here, message_id: MessageId) -> QueuedMessageInFull:
    """One message of the queue, and how many go before it."""
    async with call.database() as conn:
        row = await _find(conn, message_id)
        # The same answer for a message of somebody else.
        if row is None or call.token.account not in {None, row["account"]}:
            raise _not_queued(message_id)
        hide = await Hide.for_call(call, conn)
    _hide(call, hide, row)
    return QueuedMessageInFull.model_validate(row)


@router.delete("/queue/{id}", status_code=204, summary="Cancel a message",
               openapi_extra=need("admin"))  # fmt: skip
async def cancel_one(call: Here, message_id: MessageId) -> None:
    """Takes it out, as "Cancel messages" does.  409: it is on its way."""
    number = id_of_text(message_id)
    async with call.database() as conn:
        if number is None or await _find(conn, message_id) is None:
            raise _not_queued(message_id)
        done = await _cancel(call, conn, Selection(ids=(number,)))
    if not done.cancelled:
        raise Problem(409, f"message {message_id} is on its way")


def _may_choose_route(call: Call, route: str | None) -> None:
    if route is not None and call.of_account:
        raise Problem(403, "The token of an account can't choose by route.")


def _hide(call: Call, hide: Hide, row: dict[str, Any]) -> None:
    """What a customer may not see of a row."""
    row["last_reason"] = hide.text(row["last_reason"])
    if call.of_account:
        row["route"] = None


def _not_queued(message_id: str) -> Problem:
    return Problem(404, f"there is no message {message_id} in the queue")


async def _find(conn: Any, message_id: str) -> dict[str, Any] | None:
    number = id_of_text(message_id)
    return None if number is None else await queue_pages.message(conn, number)


async def _selection(conn: Any, chosen: Chosen) -> Selection:
    if chosen.account is not None and not await history.account_exists(conn, chosen.account):
        raise no_account(chosen.account)
    # What can't be an id is nowhere in the queue.
    ids = [id_of_text(text) for text in chosen.ids or ()]
    numbers = [number for number in ids if number is not None]
    if chosen.ids and not numbers:
        return Selection(ids=(0,))
    selection = await queue_pages.selection(
        conn, ids=numbers, account=chosen.account, route=chosen.route
    )
    if isinstance(selection, Refused):
        raise Problem(409, selection.reason)
    return selection


async def _cancel(call: Call, conn: Any, selection: Selection) -> Cancelled:
    done = await queue_changes.cancel(
        conn, call.context.mint, selection, by=call.by, within_s=queue_changes.AT_ONCE_MAX_S
    )
    return Cancelled(cancelled=done.cancelled, left=done.left, more=done.more)
