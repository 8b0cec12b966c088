"""Upstreams as all proxies together see them, from what each of them reported last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from asyncpg import Connection

from proxy.config import Settings
from proxy.store import nodes, upstreams
from proxy.store.nodes import NodeStatus
from proxy.store.sql import Row

_SUMMED: Final = ("links", "window_used", "window_max", "backlog")
_FIRST_KNOWN: Final = (
    "pool",
    "why",
    "device",
    "operator",
    "manufacturer",
    "model",
    "signal_dbm",
    "used",
    "limits",
    "balance",
    "balance_at",
)
"""Of whatever proxy says something: a modem is in one place."""
_WORST: Final = ("error_rate", "response_s")


async def overview(conn: Connection, settings: Settings) -> list[Row]:
    """Every upstream that a proxy has or had, by name: what is managed of it and how it does.

    Each row has name, cost_tariff, paused, configured (in this file), kind, pool, state, links,
    window_used, window_max, backlog, rate, why, signal_dbm, used, limits …, and under "nodes" what
    each proxy says.  `kind` is None and `state` "unknown" when nobody says anything.
    """
    rows = await upstreams.list_upstreams(conn)
    return together(rows, await nodes.statuses(conn), settings)


def together(
    rows: Iterable[Mapping[str, Any]], statuses: Iterable[NodeStatus], settings: Settings
) -> list[Row]:
    """The rows of upstreams.list_upstreams with what the proxies report of them."""
    kinds = {one.name: one.kind for one in settings.upstream}
    seen: dict[str, list[Row]] = {}
    for status in statuses:
        for report in status.status.get("upstreams", ()):
            seen.setdefault(report["name"], []).append({"node": status.node, **report})
    return [
        {
            **row,
            "configured": row["name"] in kinds,
            **_summed(seen.get(row["name"], []), row["paused"], kinds.get(row["name"])),
        }
        for row in rows
    ]


def _summed(reports: Sequence[Row], paused: bool, kind: str | None) -> Row:
    """What several proxies say of one upstream, as one."""
    row: Row = {
        "kind": next((one["kind"] for one in reports if one.get("kind")), kind),
        "state": "paused" if paused else _state(reports),
    }
    for key in _SUMMED:
        row[key] = sum(one.get(key) or 0 for one in reports)
    rates = [one["rate"] for one in reports if one.get("rate") is not None]
    row["rate"] = round(sum(rates), 1) if rates else None  # each proxy keeps its own
    row["slowed"] = any(one.get("slowed") for one in reports)
    for key in _WORST:
        row[key] = max((one[key] for one in reports if one.get(key) is not None), default=None)
    for key in _FIRST_KNOWN:
        row[key] = next((one[key] for one in reports if one.get(key)), None)
    row["nodes"] = [_at_node(one) for one in reports]
    return row


def _at_node(report: Row) -> Row:
    """One proxy's report, with all that every kind of upstream has."""
    return {
        "kind": None,
        "links": 0,
        "window_used": 0,
        "window_max": 0,
        "backlog": 0,
        **report,
        "state": state_at_node(report),
    }


def state_at_node(report: Mapping[str, Any]) -> str:
    """How one proxy finds an upstream: up, down, resting, paused, or a modem's own word."""
    said = report.get("state")
    if said:
        return str(said)
    return "up" if report.get("links") else "down"


def _state(reports: Sequence[Row]) -> str:
    if not reports:
        return "unknown"
    states = [state_at_node(one) for one in reports]
    if len(set(states)) == 1:
        return states[0]
    # Where one of them can send, the upstream is not simply down.
    return "partly up" if "up" in states or "resting" in states else states[0]
