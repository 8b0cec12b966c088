"""Sessions: who is bound, at whichever proxy."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from proxy.admin.api.access import Here, Route, need
from proxy.admin.api.paging import CursorText, Limit, Page, page, read_cursor
from proxy.admin.api.problems import Problem
from proxy.admin.api.shapes import AccountFilter
from proxy.store import nodes

router = APIRouter(route_class=Route, tags=["Sessions"])


class Session(BaseModel):
    """A connection that is bound."""

    id: str = Field(description="The proxy's node number and its own number", examples=["3-17"])
    node: int = Field(description="The proxy that has it")
    account: str
    system_id: str
    bind_type: str = Field(examples=["transceiver"])
    peer: str = Field(description="The client's address", examples=["192.0.2.7"])
    bound_at: datetime
    open_requests: int = Field(description="Submits that are not answered yet")


@router.get(
    "/sessions", summary="List sessions", response_model=Page[Session], openapi_extra=need("read")
)
async def list_sessions(
    call: Here,
    request: Request,
    response: Response,
    account: AccountFilter = None,
    limit: Limit = 100,
    cursor: CursorText = None,
) -> Any:
    """Of all proxies, as they were a second or a few ago."""
    after = read_cursor(cursor, "sessions", [int, int]) or (-1, -1)
    async with call.database() as conn:
        found = await _sessions(conn)
    rows = [
        session
        for key, session in sorted(found.items())
        if key > after and account in {None, session["account"]}
    ]
    return page(request, response, rows, limit, "sessions", lambda row: row["key"])


@router.delete("/sessions/{id}", status_code=202, summary="Disconnect", openapi_extra=need("admin"))
async def disconnect(
    call: Here,
    session_id: Annotated[
        str, Path(alias="id", pattern=r"^[0-9]{1,4}-[0-9]{1,18}$", examples=["3-17"])
    ],
) -> Session:
    """The proxy that has it asks the client to leave, then closes.  The client may come again."""
    node, number = map(int, session_id.split("-"))
    async with call.database() as conn:
        session = (await _sessions(conn)).get((node, number))
        if session is None:
            raise Problem(404, f"there is no session {session_id}")
        await nodes.disconnect(
            conn,
            node,
            number,
            account=session["account"],
            system_id=session["system_id"],
            by=call.by,
        )
    return Session.model_validate(session)


async def _sessions(conn: Any) -> dict[tuple[int, int], dict[str, Any]]:
    return {
        (one.node, session["id"]): {
            **session,
            "id": f"{one.node}-{session['id']}",
            "node": one.node,
            "key": (one.node, session["id"]),
        }
        for one in await nodes.statuses(conn)
        for session in one.status["sessions"]
    }
