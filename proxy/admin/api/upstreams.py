"""Upstreams: the carriers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from proxy.admin.api.access import Call, Here, Route, need
from proxy.admin.api.problems import Problem
from proxy.admin.api.shapes import NAME_PATTERN, Model, Name
from proxy.store import nodes, upstreams
from proxy.store.outcomes import Refused

router = APIRouter(route_class=Route, tags=["Upstreams"])

UpstreamName = Annotated[str, Path(pattern=NAME_PATTERN, description="The upstream's name")]


class UpstreamAtNode(BaseModel):
    """How one proxy sees an upstream."""

    node: int
    links: int = Field(description="That are bound")
    window_used: int = Field(description="Requests without an answer")
    window_max: int
    backlog: int = Field(description="Messages that wait for a place in the window")


class Upstream(BaseModel):
    """A carrier."""

    name: str = Field(examples=["carrier-a"])
    paused: bool = Field(description="Takes no new messages")
    cost_tariff: str | None = Field(description="The tariff of what it takes")
    nodes: list[UpstreamAtNode] = Field(description="Each proxy that has it, a few seconds ago")


class Upstreams(BaseModel):
    """All upstreams that a proxy has or had."""

    items: list[Upstream]


class NewCost(Model):
    """By which tariff a carrier is paid."""

    tariff: Name | None = Field(description="Null: its cost is not known", examples=["carrier-a"])


@router.get("/upstreams", summary="List upstreams", openapi_extra=need("read"))
async def list_upstreams(call: Here) -> Upstreams:
    """By name, with their state at each proxy."""
    async with call.database() as conn:
        rows = await upstreams.list_upstreams(conn)
        at_nodes = await _at_nodes(conn)
    return Upstreams(items=[_upstream(row, at_nodes) for row in rows])


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
        await _find(conn, name)
        outcome = await upstreams.set_upstream_cost(conn, name, cost.tariff, by=call.by)
        if isinstance(outcome, Refused):
            raise Problem(409, outcome.reason)
        return _upstream(await _find(conn, name), await _at_nodes(conn))


async def _set_paused(call: Call, name: str, paused: bool) -> Upstream:
    async with call.database() as conn:
        outcome = await upstreams.set_upstream_paused(conn, name, paused, by=call.by)
        if isinstance(outcome, Refused):
            raise Problem(404, outcome.reason)
        return _upstream(await _find(conn, name), await _at_nodes(conn))


async def _find(conn: Any, name: str) -> dict[str, Any]:
    row = await upstreams.upstream(conn, name)
    if row is None:
        raise Problem(404, f"there is no upstream {name!r}")
    return row


async def _at_nodes(conn: Any) -> dict[str, list[UpstreamAtNode]]:
    seen: dict[str, list[UpstreamAtNode]] = {}
    for one in await nodes.statuses(conn):
        for state in one.status["upstreams"]:
            at_node = UpstreamAtNode.model_validate({**state, "node": one.node})
            seen.setdefault(state["name"], []).append(at_node)
    return seen


def _upstream(row: dict[str, Any], at_nodes: dict[str, list[UpstreamAtNode]]) -> Upstream:
    return Upstream(**row, nodes=at_nodes.get(row["name"], []))
