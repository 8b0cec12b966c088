"""This proxy among the others: its node number, and what the database tells it.

The node number is held by an advisory lock for as long as one connection lives; the same
connection listens for notifications.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import structlog

from proxy.store import queue
from proxy.store.database import UNREACHABLE
from proxy.store.ids import NODE_MAX, IdMint

log = structlog.get_logger()

LOCK_CLASS = 0x534D5050  # "SMPP"
_TAKE_NODE = f"""
    SELECT n FROM (SELECT $1::integer AS n UNION ALL SELECT generate_series(1, {NODE_MAX})) wanted
    WHERE n > 0 AND pg_try_advisory_lock({LOCK_CLASS}, n) LIMIT 1
"""  # noqa: S608 - numbers only
_NODES_HERE = f"""
    SELECT objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {LOCK_CLASS} AND objsubid = 2
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608 - numbers only
_NODES_MISSING = f"""
    SELECT claimed_by FROM (
        SELECT DISTINCT claimed_by FROM delivery
        UNION SELECT DISTINCT claimed_by FROM queue_line WHERE claimed_by IS NOT NULL
    ) claims
    WHERE claimed_by <> $1 AND claimed_by NOT IN ({_NODES_HERE})
"""  # noqa: S608 - numbers only
_STILL_MISSING = f"""
    SELECT node FROM unnest($1::integer[]) AS node WHERE node NOT IN ({_NODES_HERE})
"""  # noqa: S608 - numbers only
_FORGET_CLAIMS = f"""
    UPDATE delivery SET claimed_by = NULL
    WHERE claimed_by = ANY ($1::smallint[]) AND claimed_by NOT IN ({_NODES_HERE})
"""  # noqa: S608 - numbers only

Listener = Callable[[str], None]
_CHECK_EVERY_S = 5.0
_TIMES_MISSING = 3
"""A proxy whose connections broke is back before it was missed so often."""


class Presence:
    """Holds the node number and hands out notifications."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        mint: IdMint,
        channels: dict[str, Listener],
        doubtful: Callable[[queue.Counts], None],
    ) -> None:
        self._connect = connect
        self._mint = mint
        self._channels = channels
        self._doubtful = doubtful
        """Told of messages that a former holder of the number was sending: how many, whose."""
        self._connection: asyncpg.Connection | None = None

    async def take_node(self) -> None:
        """Connect, listen, and take a free node number (the one held before, if possible).

        Rows that a former holder of the number had claimed are free again.
        """
        connection = await self._connect()
        try:
            node = await connection.fetchval(_TAKE_NODE, self._mint.node)
            if node is None:
                raise RuntimeError(f"{NODE_MAX} proxies share this database already")
            for channel, listener in self._channels.items():
                await connection.add_listener(channel, _payload_only(listener))
            if node != self._mint.node:
                await connection.execute(
                    "UPDATE delivery SET claimed_by = NULL WHERE claimed_by = $1", node
                )
                self._doubtful(await queue.forget_claims(connection, [node]))
                self._mint.node = node
            log.info("node_taken", node=node)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def run(self, back: Callable[[], None]) -> None:
        """Keep the lock: connect again when the connection is lost; `back` is called then."""
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            try:
                if self._connection is None or self._connection.is_closed():
                    await self.take_node()
                    back()
                else:
                    await self._connection.fetchval("SELECT 1")
            except (*UNREACHABLE, asyncpg.PostgresError, RuntimeError) as error:
                log.warning("presence_lost", reason=str(error) or repr(error))
                if self._connection is not None:
                    self._connection.terminate()

    async def close(self) -> None:
        """Give the node number back."""
        if self._connection is not None:
            self._connection.terminate()


class DeadClaims:
    """Finds the proxies that are gone."""

    def __init__(self, mint: IdMint) -> None:
        self._mint = mint
        self._missed: dict[int, int] = {}

    async def forget(self, connection: Any) -> queue.Counts:
        """What a proxy has claimed that was missed several times in a row is free again.

        What it was sending of the queue is in doubt: returns how many, whose.
        """
        missing = await connection.fetch(_NODES_MISSING, self._mint.node)
        self._missed = {row[0]: self._missed.get(row[0], 0) + 1 for row in missing}
        dead = [node for node, times in self._missed.items() if times >= _TIMES_MISSING]
        if not dead:
            return []
        await connection.execute(_FORGET_CLAIMS, dead)
        gone = await connection.fetch(_STILL_MISSING, dead)
        return await queue.forget_claims(connection, [row["node"] for row in gone])


def _payload_only(listener: Listener) -> Callable[[Any, int, str, Any], None]:
    def heard(_connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        listener(str(payload))

    return heard
