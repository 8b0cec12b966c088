"""What the sweep asks of the database.  Every statement may run on several proxies at once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from proxy.store.ids import NODE_BITS, IdMint
from proxy.store.ledger import Hold, Settlement, settle
from proxy.store.sql import load

ByAccount = list[tuple[int, int]]
"""(account_id, count)"""

_MARGIN_S = 30.0
"""On top of the longest wait: the clocks of several proxies differ a little."""
_DOUBTS_AT_ONCE = 1000
_DUE_AT_ONCE = 5000
_STEP = 3_600_000_000 << NODE_BITS
"""An hour, in ids."""
_STEPS_MAX = 100


async def lost_holds(connection: Any, answer_within_s: float) -> ByAccount:
    """Put holds in doubt that are older than any answer may take; returns how many, whose.

    An hour's worth in a transaction, so that each stays short after a long pause.
    """
    counts: Counter[int] = Counter()
    for _ in range(_STEPS_MAX):
        async with connection.transaction():
            row = await connection.fetchrow(
                "SELECT swept_through AS low, id_from_time(now() - $1 * interval '1 second')"
                " AS high FROM sweep FOR UPDATE SKIP LOCKED",
                answer_within_s + _MARGIN_S,
            )
            if row is None or row["high"] <= row["low"]:
                break  # another proxy sweeps, or all is done
            high = min(row["high"], row["low"] + _STEP)
            for lost in await connection.fetch(load("lost_holds"), row["low"], high):
                counts[lost["account_id"]] += lost["count"]
        if high == row["high"]:
            break
    return list(counts.items())


async def resolve_old_doubts(
    connection: Any, mint: IdMint, policy: str, after_s: float
) -> ByAccount:
    """Charge or release what is in doubt for longer than `after_s`; returns how many, whose."""
    rows = await connection.fetch(
        "SELECT d.account_id, d.message_id, d.upstream_id, a.charge_on::text"
        " FROM in_doubt d JOIN account a ON a.id = d.account_id WHERE d.resolved_at IS NULL"
        " AND d.since < now() - $1 * interval '1 second' ORDER BY d.since LIMIT $2",
        after_s,
        _DOUBTS_AT_ONCE,
    )
    if not rows:
        return []
    release = policy == "release"
    settlements = [
        Settlement(
            Hold(row["message_id"], row["account_id"]),
            row["upstream_id"],
            0,
            released=release and row["charge_on"] != "submit",
            late=True,
            reason="in doubt for too long" if release else None,
        )
        for row in rows
    ]
    await settle(connection, mint, settlements, f"policy: {policy}")
    return list(Counter(row["account_id"] for row in rows).items())


async def close_answered_doubts(connection: Any) -> None:
    """A message that was put in doubt while it waited, and was answered after all."""
    await connection.execute(
        "UPDATE in_doubt d SET resolved_at = o.at, resolution = 'late answer' FROM outcome o"
        " WHERE d.resolved_at IS NULL AND o.account_id = d.account_id"
        " AND o.message_id = d.message_id"
    )


async def forget_uncharged(connection: Any) -> None:
    """No network delivers a charge that was given up a day ago."""
    await connection.execute(
        "DELETE FROM uncharged WHERE message_id < id_from_time(now() - interval '1 day')"
    )


async def overdue_receipts(connection: Any) -> list[tuple[int, int]]:
    """End the wait for receipts that did not come in time, as each account's rule says.

    Returns what is due for release: (account_id, message_id), also what a crash left.
    """
    # Not execute(), which has it planned each time, for every partition.
    await connection.fetch(load("overdue_receipts"))
    rows = await connection.fetch(
        "SELECT account_id, message_id FROM release_due LIMIT $1", _DUE_AT_ONCE
    )
    return [(row["account_id"], row["message_id"]) for row in rows]


async def free_reservations(connection: Any) -> None:
    """Credit reserved for the parts of messages whose parts stopped coming is free again."""
    async with connection.transaction():
        await connection.execute(load("free_reservations"))


async def doubts(connection: Any) -> tuple[int, int, float]:
    """How many messages are in doubt, their micro-credits, and the age of the oldest in s."""
    row = await connection.fetchrow(load("doubts"))
    return row["count"], int(row["micro"]), float(row["oldest_s"])


async def expire_deliveries(connection: Any, max_age_s: float) -> list[tuple[int, str, int]]:
    """End deliveries that waited too long; returns (account_id, kind, count)."""
    rows = await connection.fetch(load("expire_deliveries"), max_age_s)
    return [(row["account_id"], row["kind"], row["count"]) for row in rows]


async def accounts_with_due_deliveries(connection: Any, account_ids: list[int]) -> list[int]:
    """Which of the accounts have deliveries that nobody has claimed and whose time has come."""
    if not account_ids:
        return []
    rows = await connection.fetch(
        "SELECT a.id FROM unnest($1::bigint[]) AS a(id) WHERE EXISTS (SELECT 1 FROM delivery d"
        " WHERE d.account_id = a.id AND d.claimed_by IS NULL AND d.next_attempt_at <= now())",
        account_ids,
    )
    return [row["id"] for row in rows]


async def deliveries_waiting(connection: Any) -> int:
    """How many deliveries the clients have not acknowledged."""
    return int(await connection.fetchval("SELECT count(*) FROM delivery"))
