"""Rows of days that are over: their partitions, their ids, and what the hot path would write."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from proxy.store.ids import NODE_BITS, id_at_time

MICRO = 1_000_000
_ROWS = itertools.count()
"""Two rows of one moment need different ids: of another node, or a microsecond later."""
_NODES = 1023


def today() -> date:
    """Today, in UTC."""
    return datetime.now(UTC).date()


def at(day: date, hour: int = 12, minute: int = 0) -> datetime:
    """A moment of a day, in UTC."""
    return datetime.combine(day, time(hour, minute), UTC)


async def make_partitions(conn: Any, first: date, last: date) -> None:
    """As ensure_partitions() makes them, for days that it does not make."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    await conn.execute(
        "".join(
            f"CREATE TABLE IF NOT EXISTS {parent}_{day:%Y%m%d} PARTITION OF {parent} FOR VALUES"
            f" FROM ({first_id(day)}) TO ({first_id(day + timedelta(days=1))});"
            for day in days
            for parent in ("ledger", "message", "outcome", "delivered")
        )
    )


def first_id(day: date) -> int:
    """The smallest id of a day."""
    return id_at_time(at(day, 0).timestamp())


async def new_id(conn: Any, when: datetime) -> int:
    """An id of that moment."""
    microseconds, node = divmod(next(_ROWS), _NODES)
    first: int = await conn.fetchval("SELECT id_from_time($1)", when)
    return first + (microseconds << NODE_BITS) + node + 1


async def add_account(conn: Any, name: str, timezone: str = "UTC") -> int:
    """An account with a login of the same name and no credits; returns its id."""
    account_id = await conn.fetchval(
        "INSERT INTO account (name, timezone) VALUES ($1, $2) RETURNING id", name, timezone
    )
    await conn.execute(
        "INSERT INTO login (account_id, system_id, password_hash) VALUES ($1, $2, '')",
        account_id,
        name,
    )
    return int(account_id)


async def add_row(
    conn: Any,
    account_id: int,
    when: datetime,
    operation: str,
    micro: int,
    *,
    row_id: int | None = None,
    message_id: int | None = None,
    note: str | None = None,
    actor: str | None = None,
) -> int:
    """A row of the ledger, and the account's balance with it."""
    row_id = row_id or await new_id(conn, when)
    used = -micro if operation in {"use", "refund"} else 0
    balance = await conn.fetchval(
        "UPDATE account SET balance_micro = balance_micro + $2, used_micro = used_micro + $3"
        " WHERE id = $1 RETURNING balance_micro",
        account_id,
        micro,
        used,
    )
    counter = {"use": "sold", "refund": "sold", "expire": "expired", "adjust": "adjusted"}
    await conn.execute(
        "INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro,"
        " message_id, note, actor) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        row_id,
        account_id,
        operation,
        counter.get(operation, "paid_in"),
        micro,
        balance,
        message_id,
        note,
        actor,
    )
    return row_id


async def add_message(
    conn: Any,
    account_id: int,
    when: datetime,
    *,
    segments: int = 1,
    price_micro: int = MICRO,
    sender: str = "me",
    destination: str = "447700900123",
    command_id: int = 4,
    price_id: int | None = None,
    state: str | None = "charged",
    back_micro: int = 0,
    back_at: datetime | None = None,
    cost_micro: int | None = None,
    awaits: bool = False,
) -> int:
    """A message with its debit and, unless `state` is None or in_doubt, its outcome."""
    message_id = await new_id(conn, when)
    await conn.execute(
        "INSERT INTO message (id, account_id, login_id, command_id, source_addr, destination_addr,"
        " segments, price_micro, esm_class, data_coding, registered_delivery, price_id)"
        " SELECT $1, $2, min(id), $3, $4, $5, $6, $7, 0, 0, 0, $8 FROM login WHERE account_id = $2",
        message_id,
        account_id,
        command_id,
        sender,
        destination,
        segments,
        price_micro,
        price_id,
    )
    await add_row(
        conn, account_id, when, "use", -price_micro, row_id=message_id, message_id=message_id
    )
    if state == "in_doubt":
        await conn.execute(
            "INSERT INTO in_doubt (message_id, account_id, reason) VALUES ($1, $2, 'silent')",
            message_id,
            account_id,
        )
    elif state is not None:
        back_micro = price_micro if state == "released" else back_micro
        await conn.execute(
            "INSERT INTO outcome (message_id, account_id, state, command_status, released_micro,"
            " cost_micro, awaits_receipt, asked) VALUES ($1, $2, $3, 0, $4, $5, $6, $7)",
            message_id,
            account_id,
            state,
            back_micro,
            cost_micro,
            awaits,
            0 if awaits else None,
        )
        if back_micro:
            await add_row(
                conn, account_id, back_at or when, "refund", back_micro, message_id=message_id
            )
    return message_id
