"""Routes: which way messages go."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from proxy.admin.api.access import Here, Route, need, no_account
from proxy.admin.api.shapes import NAME_PATTERN, Credits, Time
from proxy.flow import route_test
from proxy.store.outcomes import Refused

router = APIRouter(route_class=Route, tags=["Routes"])

ADDRESS_PATTERN = r"^[^\x00-\x1f\x7f,]*$"


class RouteOut(BaseModel):
    """A route of the configuration; the first that takes a message has it."""

    name: str = Field(examples=["44"])
    conditions: str = Field(description="What it takes, in words", examples=["destination 44*"])
    upstreams: list[str]
    policy: str = Field(examples=["failover"])
    weights: list[int] | None = Field(description='Of the upstreams, with the policy "weighted"')
    mode: Literal["direct", "queued"]
    when_down: Literal["refuse", "queue"] = Field(
        description="What becomes of its messages while its upstreams are down, when it is direct"
    )


class Routes(BaseModel):
    """All routes of the proxy that answers, in the order in which they are looked at."""

    items: list[RouteOut]


class TriedRoute(BaseModel):
    """A route that was looked at."""

    route: str
    matched: bool
    why: str = Field(
        description="The conditions that are met, or the first that is not",
        examples=['"33612345678" does not begin with 44'],
    )


class Way(BaseModel):
    """An upstream that the message would try."""

    upstream: str
    kind: str = Field(description="smpp, modem or pool")
    state: str = Field(
        description="up, partly up (some proxies), resting, down, paused, unknown (no proxy says "
        "anything); of a modem also pin, no network, limit"
    )
    why: str | None = Field(description="Why it rests")
    paused: bool
    links: int = Field(description="That are bound, over all proxies")
    window_used: int
    window_max: int
    backlog: int
    weight: int | None
    cost_tariff: str | None
    cost: Credits | None = Field(description="Of one segment; null: not known")


class RouteTest(BaseModel):
    """Which way a message of one segment would take, and why."""

    account: str
    destination: str
    source: str
    data_coding: int
    at: datetime
    tried: list[TriedRoute] = Field(description="Every route up to the one that takes it")
    route: str | None = Field(description="The one that takes it; null: it would be refused")
    policy: str | None
    order: str | None = Field(description="What the policy does, in words")
    mode: str | None
    queued: bool | None = Field(description="Whether the queue takes it now")
    why_queued: str | None
    upstreams: list[Way] = Field(description="In the order in which they are tried now")
    proxies: int = Field(description="That report how their upstreams do")
    tariff: str
    price: Credits | None = Field(description="What the account pays")
    refusal: Literal["no_price", "not_sold"] | None = Field(description="Why there is no price")


@router.get("/routes", summary="List routes", openapi_extra=need("read"))
async def list_routes(call: Here) -> Routes:
    """In the order in which they are looked at."""
    return Routes(items=[RouteOut(**row) for row in route_test.routes(call.context.settings)])


@router.get("/routes/test", summary="Try a route", openapi_extra=need("read"))
async def test_route(
    call: Here,
    account: Annotated[
        str, Query(pattern=NAME_PATTERN, description="Whose message", examples=["demo"])
    ],
    to: Annotated[
        str,
        Query(
            pattern=ADDRESS_PATTERN,
            min_length=1,
            max_length=route_test.ADDRESS_MAX,
            description="Its destination address",
            examples=["447700900123"],
        ),
    ],
    source: Annotated[
        str,
        Query(
            alias="from",
            pattern=ADDRESS_PATTERN,
            max_length=route_test.ADDRESS_MAX,
            description="Its sender",
        ),
    ] = "",
    data_coding: Annotated[int, Query(ge=0, le=255)] = 0,
    at: Annotated[Time | None, Query(description="When; else now")] = None,
) -> RouteTest:
    """Which way a message would take, and why.  Nothing is sent."""
    async with call.database() as conn:
        row = await route_test.explain(
            conn,
            call.context.settings,
            account,
            to,
            source,
            data_coding,
            time.time() if at is None else at.timestamp(),
        )
    if isinstance(row, Refused):
        raise no_account(account)
    return RouteTest.model_validate(row)
