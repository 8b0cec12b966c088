"""What the proxies that share a database say of themselves: their sessions and upstreams.

A status is {"sessions": [...], "upstreams": [...]}.  A session has id, account, system_id,
bind_type, peer, bound_at (ISO 8601) and open_requests; an upstream has name, kind, state, links,
window_used, window_max, backlog and paused, and what only its kind has (see its `status`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from asyncpg import Connection

from proxy.store.events import write_event

BELIEVED_S: Final = 15.0
"""A status that is older than this many seconds is not believed: its proxy may be gone."""

DISCONNECT_CHANNEL: Final = "smpp_proxy_disconnect"
"""Its payloads are "<node>:<session id>"; see parse_disconnect."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What one proxy said last."""

    node: int
    at: datetime
    status: dict[str, Any]


async def write_status(conn: Connection, node: int, status: dict[str, Any]) -> None:
    """Say how things stand at a node; replaces what it said before."""
    await conn.execute(
        "INSERT INTO node_status (node, at, status) VALUES ($1, clock_timestamp(), $2)"
        " ON CONFLICT (node) DO UPDATE SET at = excluded.at, status = excluded.status",
        node,
        # What a modem or a carrier says of itself may hold a NUL, which jsonb does not take.
        json.dumps(status).replace("\\u0000", "?"),
    )


async def remove_status(conn: Connection, node: int) -> None:
    """A proxy that stops has nothing to say any more."""
    await conn.execute("DELETE FROM node_status WHERE node = $1", node)


async def statuses(conn: Connection) -> list[NodeStatus]:
    """What every proxy that runs said last, by node."""
    rows = await conn.fetch(
        "SELECT node, at, status FROM node_status"
        " WHERE at > clock_timestamp() - make_interval(secs => $1) ORDER BY node",
        BELIEVED_S,
    )
    return [NodeStatus(row["node"], row["at"], json.loads(row["status"])) for row in rows]


async def disconnect(
    conn: Connection, node: int, session_id: int, *, account: str, system_id: str, by: str
) -> None:
    """Ask the proxy that has a session to end it, and write who asked.

    The proxy hears of it when the transaction is committed; a session that is gone by then is
    nothing to it.
    """
    async with conn.transaction():
        account_id = await conn.fetchval("SELECT id FROM account WHERE name = $1", account)
        await write_event(
            conn,
            "session_disconnected",
            f"{system_id} disconnected by {by}",
            account_id=account_id or 0,
        )
        await conn.execute("SELECT pg_notify($1, $2)", DISCONNECT_CHANNEL, f"{node}:{session_id}")


def parse_disconnect(payload: str) -> tuple[int, int] | None:
    """The node and the session id of a notification; None for anything else."""
    node, _, session_id = payload.partition(":")
    if not (node.isdecimal() and session_id.isdecimal()):
        return None
    return int(node), int(session_id)
