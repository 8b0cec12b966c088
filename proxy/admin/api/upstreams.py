"""Upstreams: carriers, and GSM modems."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from proxy.admin.api.access import Call, Here, Route, need
from proxy.admin.api.problems import Problem
from proxy.admin.api.shapes import NAME_PATTERN, Model, Name
from proxy.store import upstream_reports, upstreams
from proxy.store.outcomes import Refused

router = APIRouter(route_class=Route, tags=["Upstreams"])

UpstreamName = Annotated[str, Path(pattern=NAME_PATTERN, description="The upstream's name")]


_STATES = (
    "up; resting (others are preferred for a while); down; paused; of a modem also pin (it wants "
    "another one), no network, limit (its SIM has sent what it may)"
)


class SimCounts(BaseModel):
    """Short messages of one SIM, in hours, days and months of UTC."""

    hour: int | None = None
    day: int | None = None
    month: int | None = None


class UpstreamAtNode(BaseModel):
    """How one proxy sees an upstream."""

    node: int
    state: str = Field(description=_STATES, examples=["up"])
    links: int = Field(description="That are bound")
    window_used: int = Field(description="Requests without an answer")
    window_max: int
    backlog: int = Field(description="Messages that wait for a place in the window")


class Upstream(BaseModel):
    """A carrier, a GSM modem, or a pool of modems."""

    name: str = Field(examples=["carrier-a"])
    paused: bool = Field(description="Takes no new messages")
    cost_tariff: str | None = Field(description="The tariff of what it takes")
    kind: str | None = Field(
        description="smpp, modem or pool; null: it is in no configuration", examples=["smpp"]
    )
    pool: str | None = Field(description="The pool that a modem is in")
    state: str = Field(
        description=f"{_STATES}. Over all proxies: partly up, where it is up at some; unknown, "
        "when none says anything",
        examples=["up"],
    )
    why: str | None = Field(description="Why it rests, or what a modem wants")
    links: int = Field(description="That are bound, over all proxies")
    window_used: int
    window_max: int
    backlog: int
    rate: float | None = Field(
        description="Messages a second that it is given at most, over all proxies; null: any"
    )
    slowed: bool = Field(description="The rate is below the configured one: it throttled us")
    error_rate: float | None = Field(description="Of the last half minute, from 0 to 1")
    response_s: float | None = Field(description="How long its answers take on average")
    signal_dbm: int | None = Field(description="What a modem receives", examples=[-71])
    operator: str | None = Field(description="The network that a modem is in")
    used: SimCounts | None = Field(description="What its SIM has sent")
    limits: SimCounts | None = Field(description="What its SIM may send")
    balance: str | None = Field(description="Of its SIM, in the network's own words")
    nodes: list[UpstreamAtNode] = Field(description="Each proxy that has it, a few seconds ago")


class Upstreams(BaseModel):
    """All upstreams that a proxy has or had."""

    items: list[Upstream]


class NewCost(Model):
    """By which tariff a carrier is paid."""

    tariff: Name | None = Field(description="Null: its cost is not known", examples=["carrier-a"])


@router.get("/upstreams", summary="List upstreams", openapi_extra=need("read"))
async def list_upstreams(call: Here) -> Upstreams:
    """By name, with their state over all proxies and at each."""
    async with call.database() as conn:
        rows = await upstream_reports.overview(conn, call.context.settings)
    return Upstreams(items=[Upstream.model_validate(row) for row in rows])


@router.post("/upstreams/{name}/pause", summary="Pause an upstream", openapi_extra=need("admin"))
async def pause(call: Here, name: UpstreamName) -> Upstream:
    """It gets no new messages, from any proxy; what it has it may answer."""
    return await _set_paused(call, name, True)


@router.post("/upstreams/{name}/resume", summary="Resume an upstream", openapi_extra=need("admin"))
async def resume(call: Here, name: UpstreamName) -> Upstream:
    """It gets new messages again."""
    return await _set_paused(call, name, False)


@router.put("/upstreams/{name}/cost", summary="Set the cost", openapi_extra=need("admin"))
async def set_cost(call: Here, name: UpstreamName, cost: NewCost) -> Upstream:
    """So that each message knows its margin.  409: there is no such tariff."""
    async with call.database() as conn:
        await _find(call, conn, name)
        outcome = await upstreams.set_upstream_cost(conn, name, cost.tariff, by=call.by)
        if isinstance(outcome, Refused):
            raise Problem(409, outcome.reason)
        return await _find(call, conn, name)


async def _set_paused(call: Call, name: str, paused: bool) -> Upstream:
    async with call.database() as conn:
        outcome = await upstreams.set_upstream_paused(conn, name, paused, by=call.by)
        if isinstance(outcome, Refused):
            raise Problem(404, outcome.reason)
        return await _find(call, conn, name)


async def _find(call: Call, conn: Any, name: str) -> Upstream:
    for row in await upstream_reports.overview(conn, call.context.settings):
        if row["name"] == name:
            return Upstream.model_validate(row)
    raise Problem(404, f"there is no upstream {name!r}")
