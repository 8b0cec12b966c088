"""The two hot statements, called as the lanes call them."""

from __future__ import annotations

from typing import Any

import pytest
from support.messages import MICRO, bare_message

from proxy.store import ledger
from proxy.store.audit import audit
from proxy.store.database import Database
from proxy.store.ids import IdMint
from proxy.store.ledger import REASONS, Charged, Settlement


@pytest.fixture
def mint() -> IdMint:
    return IdMint(7)


async def add(connection: Any, name: str, credits: int, enabled: bool = True) -> int:
    """An account whose ledger agrees with its balance."""
    account_id = await connection.fetchval(
        "INSERT INTO account (name, balance_micro, enabled) VALUES ($1, $2, $3) RETURNING id",
        name,
        credits * MICRO,
        enabled,
    )
    if credits:
        await connection.execute(
            "INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro)"
            " VALUES (id_from_time(now()), $1, 'add', 'paid_in', $2, $2)",
            account_id,
            credits * MICRO,
        )
    return int(account_id)


def messages(account_id: int, *credits: int) -> list[Any]:
    return [bare_message(account_id, price * MICRO, segments=price) for price in credits]


def refused_with(charged: Charged, reason: str) -> list[Any]:
    refusals = charged.refusals or [None] * len(charged.messages)
    return [
        m
        for m, number in zip(charged.messages, refusals, strict=True)
        if number is not None and REASONS[number] == reason
    ]


async def test_admission_in_order_of_arrival_per_account(database: Database, mint: IdMint) -> None:
    async with database.pool.acquire() as connection:
        rich = await add(connection, "rich", 100)
        poor = await add(connection, "poor", 3)
        off = await add(connection, "off", 100, enabled=False)
        a, b, c = messages(rich, 1, 2), messages(poor, 2, 2, 1, 1), messages(off, 1, 1, 1)
        mixed = [c[0], b[0], a[0], c[1], b[1], b[2], a[1], b[3], c[2], *messages(999, 1)]
        charged = await ledger.charge(connection, mint, mixed)
        ordered, balances = charged.messages, charged.balances
        after = {id(m): balance for m, balance in zip(ordered, balances, strict=True)}
        assert [after[id(m)] for m in a] == [99 * MICRO, 97 * MICRO]
        assert [after[id(m)] for m in b] == [1 * MICRO, None, 0, None]
        assert [after[id(m)] for m in c] == [None] * 3
        unusable = refused_with(charged, "account_disabled")
        assert {m.account.id for m in unusable} == {off, 999} and len(unusable) == 4
        assert refused_with(charged, "insufficient_credits") == [b[1], b[3]]
        assert charged.available[rich] == 97 * MICRO and charged.available[poor] == 0
        rows = await connection.fetch("SELECT account_id, count(*) FROM message GROUP BY 1")
        assert {r[0]: r[1] for r in rows} == {rich: 2, poor: 2}
        assert await audit(connection) == []


@pytest.mark.parametrize("position", [0, 1])
async def test_a_disabled_account_disturbs_nobody(
    database: Database, mint: IdMint, position: int
) -> None:
    async with database.pool.acquire() as connection:
        first = await add(connection, "first", 5, enabled=position != 0)
        second = await add(connection, "second", 5, enabled=position != 1)
        batch = messages(first, 1, 1, 1) + messages(second, 1, 1)
        charged = await ledger.charge(connection, mint, batch)
        assert len(charged.balances) == 5
        unusable = refused_with(charged, "account_disabled")
        assert {m.account.id for m in unusable} == {(first, second)[position]}
        assert await audit(connection) == []


async def test_settling_twice_changes_nothing(database: Database, mint: IdMint) -> None:
    async with database.pool.acquire() as connection:
        account_id = await add(connection, "a", 10)
        batch = messages(account_id, 1, 2, 3)
        await ledger.charge(connection, mint, batch)
        ends = [
            Settlement(batch[0], None, 0, smsc_message_id="x"),
            Settlement(batch[1], None, 8, released=True, reason="refused"),
            Settlement(batch[2], None, 0, in_doubt=True, reason="silence"),
        ]
        assert await ledger.settle(connection, mint, ends) == {batch[1].id}
        assert await ledger.settle(connection, mint, ends) == set()
        # The one in doubt was refused after all; the others keep what they have.
        late = [Settlement(m, None, 8, released=True, late=True, reason="late") for m in batch]
        assert await ledger.settle(connection, mint, late) == {batch[2].id}
        assert await connection.fetchval("SELECT balance FROM v_account") == 9
        states = await connection.fetch("SELECT state FROM v_message ORDER BY id")
        assert [r["state"] for r in states] == ["charged", "released", "released"]
        assert await audit(connection) == []


async def test_the_database_itself_refuses_an_overdraft(database: Database) -> None:
    async with database.pool.acquire() as connection:
        await add(connection, "a", 1)
        with pytest.raises(Exception, match="no_overdraft"):
            await connection.execute("UPDATE account SET balance_micro = -1")
        partition = await connection.fetchval("SELECT tableoid::regclass::text FROM ledger LIMIT 1")
        for statement in (
            "UPDATE {} SET amount_micro = 5", "DELETE FROM {}", "TRUNCATE {}",
        ):  # fmt: skip
            for table in ("ledger", partition):
                with pytest.raises(Exception, match="append-only"):
                    await connection.execute(statement.format(table))
