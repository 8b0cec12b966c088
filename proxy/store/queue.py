"""The durable queue: what was charged and answered, and waits for its upstream.

Several proxies drain one queue: a claim skips what another has locked, and is committed before
anything of it goes upstream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from proxy.credit.rules import ChargeOn
from proxy.store.ids import IdMint
from proxy.store.ledger import Settlement, queue_arguments, settle_arguments
from proxy.store.sql import load

Counts = list[tuple[int, int]]
"""(account_id, count)"""


LineKey = tuple[int, str, str]
"""account_id, line, route"""
FIRST_LINE: Final[LineKey] = (0, "", "")
"""Before all of them."""


class Place(NamedTuple):
    """Where a message stands in the queue; `message.queue` of one that is in it."""

    route: str
    line: str
    """Messages of one account, line and route go in order: see `line_of`."""
    due_at_s: float
    """Seconds since 1970; 0: at once."""
    expires_at_s: float
    attempt: int = 0
    """Which claim of it this is."""


_LINE_MAX: Final = 64


def line_of(destination_addr: str) -> str:
    """The line of a destination: the address; of the many of a submit_multi, the first ones."""
    # The same for +44… and 44…; an index takes no key of any length.
    return destination_addr.removeprefix("+")[:_LINE_MAX]


class Postponed(NamedTuple):
    """A claimed message that was not sent, and is tried again."""

    message: Any
    reason: str
    status: int | None = None
    """What the upstream said; None: it was not asked."""
    at_once: bool = False
    """It was not tried: no pause, and no longer one the next time."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt of the proxy's own making for a message that leaves the queue."""

    state: int
    error: str
    body: bytes


class Ended(NamedTuple):
    """A message that leaves the queue, and the receipts that its client gets of it."""

    settlement: Settlement
    receipts: Sequence[Receipt] = ()


class Claimed(NamedTuple):
    """A message of the queue: claimed for this node, or locked."""

    id: int
    account_id: int
    account: str
    charge_on: ChargeOn
    line: str
    route: str
    command_id: int
    body: bytes
    price_micro: int
    prices: str
    """Of a submit_multi: of each destination, joined by commas."""
    service: str
    asked: int
    attempts: int
    due_s: float
    expires_s: float
    last_status: int | None = None
    """What an upstream said when it refused it for now."""


_COLUMNS: Final = (
    "q.id, q.account_id, a.name, a.charge_on::text, q.line, q.route, q.command_id, q.body,"
    " q.price_micro, q.prices, q.service, q.asked, q.attempts,"
    " extract(epoch FROM q.due_at)::float8, extract(epoch FROM q.expires_at)::float8, q.last_status"
)


async def put(connection: Any, messages: list[Any]) -> None:
    """Messages that are charged already go into the queue.  Repeatable."""
    await connection.execute(
        "SELECT put_in_queue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, NULL)",
        *queue_arguments(messages, list(range(1, len(messages) + 1))),
    )


async def claim(connection: Any, node: int, limits: dict[str, int], run: int = 0) -> list[Claimed]:
    """Claim at most so many messages of each route, of as many lines.

    `run`: which run of a proxy claims, any number; nodes are taken over by others.
    """
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM claim_queued($1::smallint, $2, $3, $4) q"  # noqa: S608
        " JOIN account a ON a.id = q.account_id ORDER BY q.id",
        node,
        run,
        list(limits),
        list(limits.values()),
    )
    return [Claimed(*row) for row in rows]


async def work(
    connection: Any,
    mint: IdMint,
    ended: list[Ended],
    postponed: list[Postponed],
    *,
    retry_min_s: float,
    retry_max_s: float,
) -> set[int]:
    """What became of claimed messages, in one statement.  Repeatable.

    Returns the ids of the messages whose credit was given back by this call.
    """
    settlements = [one.settlement for one in ended]
    receipts = [(s.settlement.message, receipt) for s in ended for receipt in s.receipts]
    row = await connection.fetchrow(
        load("work_queue"),
        *settle_arguments(mint, settlements),
        [s.message.id for s in settlements],
        [s.message.account.id for s in settlements],
        mint.mint(len(receipts)),
        [message.id for message, _ in receipts],
        [message.account.id for message, _ in receipts],
        [receipt.state for _, receipt in receipts],
        [receipt.error for _, receipt in receipts],
        [receipt.body for _, receipt in receipts],
        [p.message.id for p in postponed],
        [p.message.account.id for p in postponed],
        [p.message.queue.attempt for p in postponed],
        [p.status for p in postponed],
        [p.reason for p in postponed],
        [p.at_once for p in postponed],
        retry_min_s,
        retry_max_s,
    )
    return set(row["released"])


async def expired(connection: Any, limit: int) -> list[tuple[int, int]]:
    """(account_id, message_id) of what waited too long, the oldest first."""
    rows = await connection.fetch(
        "SELECT account_id, id FROM queued WHERE expires_at <= now() AND NOT sending"
        " ORDER BY expires_at LIMIT $1",
        limit,
    )
    return [(row["account_id"], row["id"]) for row in rows]


async def lock(connection: Any, wanted: list[tuple[int, int]]) -> list[Claimed]:
    """Lock messages by (account_id, message_id) in a transaction, to take them out of the queue.

    Returns those that are there and not on their way.
    """
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM lock_queued($1, $2) q"  # noqa: S608
        " JOIN account a ON a.id = q.account_id",
        [message_id for _, message_id in wanted],
        [account_id for account_id, _ in wanted],
    )
    return [Claimed(*row) for row in rows]


async def find(connection: Any, account_id: int, message_id: int) -> Any:
    """One message of the queue, or None."""
    return await connection.fetchrow(
        "SELECT q.*, m.segments FROM queued q"
        " JOIN message m ON m.account_id = q.account_id AND m.id = q.id"
        " WHERE q.account_id = $1 AND q.id = $2",
        account_id,
        message_id,
    )


async def between(connection: Any, account_id: int, line: str, limit: int) -> list[Any]:
    """What an account has waiting for a destination, as (id, command_id, body)."""
    rows = await connection.fetch(
        "SELECT id, command_id, body FROM queued"
        " WHERE account_id = $1 AND line = $2 AND NOT sending ORDER BY due_at, id LIMIT $3",
        account_id,
        line,
        limit,
    )
    return list(rows)


async def replace(
    connection: Any,
    account_id: int,
    message_id: int,
    body: bytes,
    due_at_s: float | None,
    expires_at_s: float | None,
) -> bool:
    """Give a message another body and, where they are not None, other times.

    False when it has left the queue or is on its way.
    """
    async with connection.transaction():
        rows = await connection.fetch(
            "SELECT line, route FROM lock_queued($1, $2)", [message_id], [account_id]
        )
        if not rows:
            return False
        await connection.execute(
            "UPDATE queued SET body = $3, due_at = coalesce(to_timestamp($4::float8), due_at),"
            " expires_at = coalesce(to_timestamp($5::float8), expires_at)"
            " WHERE account_id = $1 AND id = $2",
            account_id,
            message_id,
            body,
            due_at_s,
            expires_at_s,
        )
        await connection.execute(
            "SELECT step_lines($1, $2, $3)", [account_id], [rows[0]["line"]], [rows[0]["route"]]
        )
    return True


async def free_unknown_claims(connection: Any, node: int, known: list[int], run: int = 0) -> None:
    """Claims of this run whose answer was lost: nothing of them was sent.

    The rest of them is this node's from now on.
    """
    await connection.execute("SELECT free_queue_claims($1::smallint, $2, $3)", node, run, known)


async def give_up(connection: Any, mint: IdMint, settlements: list[Settlement]) -> set[int]:
    """Undo charges of which nobody knows whether they were committed.  Repeatable.

    What was, and waits in the queue, leaves it with its credit given back.  Returns the ids of
    those that can't be undone: they are on their way, or have been sent.
    """
    wanted = [(s.message.account.id, s.message.id) for s in settlements]
    async with connection.transaction():
        taken_out = {one.id for one in await lock(connection, wanted)}
        rows = await connection.fetch(
            "SELECT m.id FROM unnest($1::bigint[], $2::bigint[]) AS u(account_id, id)"
            " JOIN message m ON m.account_id = u.account_id AND m.id = u.id"
            " LEFT JOIN outcome o ON o.account_id = u.account_id AND o.message_id = u.id"
            " WHERE o.state IS DISTINCT FROM 'released' OR o.upstream_id IS NOT NULL",
            [account_id for account_id, _ in wanted],
            [message_id for _, message_id in wanted],
        )
        kept = {row["id"] for row in rows} - taken_out
        undone = [Ended(s) for s in settlements if s.message.id not in kept]
        await work(connection, mint, undone, [], retry_min_s=1, retry_max_s=1)
    return kept


async def forget_claims(connection: Any, nodes: list[int]) -> Counts:
    """What proxies that are gone were sending is in doubt; returns how many, whose."""
    rows = await connection.fetch("SELECT * FROM forget_queue_claims($1::smallint[])", nodes)
    return [(row["account_id"], row["count"]) for row in rows]


async def routes_waiting(connection: Any) -> list[str]:
    """The routes that have anything in the queue."""
    rows = await connection.fetch("SELECT DISTINCT route FROM routes_waiting() AS route")
    return [row["route"] for row in rows]


class Depth(NamedTuple):
    """What waits for one route."""

    route: str
    messages: int
    oldest_s: float
    """For how long the oldest that may go has waited."""


async def depths(connection: Any) -> list[Depth]:
    """How much waits, by route."""
    rows = await connection.fetch(
        "SELECT route, count(*) AS messages, coalesce(extract(epoch FROM now() - min(due_at)"
        " FILTER (WHERE due_at <= now())), 0)::float8 AS oldest_s FROM queued GROUP BY route"
    )
    return [Depth(*row) for row in rows]


async def homeless(
    connection: Any, route_names: list[str], limit: int, after: LineKey = FIRST_LINE
) -> list[Claimed]:
    """Lines whose route is none of these, each as its first message: the routes have changed.

    In order, those behind `after`.  What is being sent is not among them.
    """
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM (SELECT account_id, line, route FROM queue_line"  # noqa: S608
        " WHERE route <> ALL ($1) AND claimed_by IS NULL"
        " AND (account_id, line, route) > ($3::bigint, $4::text, $5::text)"
        " ORDER BY account_id, line, route LIMIT $2) l"
        " CROSS JOIN LATERAL (SELECT * FROM queued q WHERE q.account_id = l.account_id"
        " AND q.line = l.line AND q.route = l.route ORDER BY q.due_at, q.id LIMIT 1) q"
        " JOIN account a ON a.id = q.account_id ORDER BY l.account_id, l.line, l.route",
        route_names,
        limit,
        *after,
    )
    return [Claimed(*row) for row in rows]


async def move_line(connection: Any, account_id: int, line: str, old: str, new: str) -> None:
    """All messages of a line take another route from now on."""
    await connection.execute("SELECT move_line($1, $2, $3, $4)", account_id, line, old, new)
