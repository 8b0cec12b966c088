"""The audit: silent while the books balance, and one finding for each way to spoil them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.smpp.vocabulary import ESME_RTHROTTLED, ESME_RUNKNOWNERR, SUBMIT_SM
from proxy.store import accounts
from proxy.store.audit import CHECKS, audit
from proxy.store.credit import add_credit
from proxy.store.database import Database
from proxy.store.ids import IdMint
from proxy.store.ledger import Settlement, charge, settle

MINT = IdMint(1)
MICRO = 1_000_000


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[Any]:
    async with database.pool.acquire() as connection:
        yield connection


async def traffic(conn: Any) -> dict[str, int]:
    """Two accounts and a message of every fate; returns the messages' ids by their fate."""
    made = await accounts.create(
        conn, "bob", password="p", credit_micro=100 * MICRO, by="alice", mint=MINT
    )
    await accounts.create(conn, "eve", password="p", credit_micro=MICRO, by="alice", mint=MINT)
    assert isinstance(made, accounts.Created)
    await add_credit(conn, "bob", 5 * MICRO, by="alice", key="invoice 7", mint=MINT)
    fates = ["charged", "released", "partly", "doubtful", "late", "held"]
    messages = [submit(made.account_id, made.login_id) for _ in fates]
    _, balances, unusable = await charge(conn, MINT, messages)
    assert None not in balances and not unusable
    by_fate = dict(zip(fates, messages, strict=True))
    upstream_id = await conn.fetchval("INSERT INTO upstream (name) VALUES ('c') RETURNING id")
    doubts = [
        Settlement(by_fate[fate], upstream_id, ESME_RUNKNOWNERR, in_doubt=True, reason="silent")
        for fate in ("doubtful", "late")
    ]
    refused = Settlement(by_fate["released"], upstream_id, ESME_RTHROTTLED, released=True)
    partly = Settlement(by_fate["partly"], upstream_id, 0, released=True, back_micro=MICRO)
    await settle(conn, MINT, [Settlement(by_fate["charged"], upstream_id, 0), refused, partly])
    await settle(conn, MINT, doubts)
    await settle(conn, MINT, [Settlement(by_fate["late"], upstream_id, 0, late=True)])
    return {fate: message.id for fate, message in by_fate.items()}


def submit(account_id: int, login_id: int) -> Any:
    """A message of two credits."""
    return SimpleNamespace(
        id=0,
        account=SimpleNamespace(id=account_id),
        login_id=login_id,
        command_id=SUBMIT_SM,
        source_addr="me",
        destination_addr="447700900123",
        segments=2,
        price_micro=2 * MICRO,
        esm_class=0,
        data_coding=0,
        registered_delivery=0,
    )


async def corrupt(conn: Any, statement: str, **values: int) -> None:
    """Change rows as no program may."""
    await conn.execute("ALTER TABLE ledger DISABLE TRIGGER append_only")
    await conn.execute("ALTER TABLE account DROP CONSTRAINT no_overdraft")
    await conn.execute(statement.format(**values))


async def test_the_books_balance(conn: Any) -> None:
    assert await audit(conn) == [], "an empty database"
    await traffic(conn)
    assert await audit(conn) == []
    await conn.execute("UPDATE sweep SET swept_through = (SELECT min(id) FROM message) - 1")
    assert await audit(conn) == []


BOB = "(SELECT id FROM account WHERE name = 'bob')"
SPOILED = {
    "balance changed": (
        "UPDATE account SET balance_micro = balance_micro + 1 WHERE name = 'bob'",
        ("balance", "bob", "balance 96.000001, but its rows sum to 96"),
    ),
    "row removed": (
        "DELETE FROM ledger WHERE account_id = (SELECT id FROM account WHERE name = 'eve')",
        ("balance", "eve", "balance 1, but its rows sum to 0"),
    ),
    "account removed": (
        "DELETE FROM login WHERE system_id = 'eve'; DELETE FROM account WHERE name = 'eve'",
        ("balance", "account 2", "an account that does not exist"),
    ),
    "overdraft": (
        "UPDATE account SET balance_micro = -1 WHERE name = 'eve'",
        ("overdraft", "eve", "balance -0.000001 is below the floor of 0"),
    ),
    "never debited": (
        "DELETE FROM ledger WHERE operation = 'use' AND id = {held}",
        ("use", "bob", "message {held} was never debited"),
    ),
    "debited for nothing": (
        "DELETE FROM message WHERE id = {held}",
        ("use", "bob", "2 credits were taken for message {held}, which does not exist"),
    ),
    "another price": (
        "UPDATE message SET price_micro = 3000000 WHERE id = {held}",
        ("use", "bob", "message {held} has the price 3 and was debited 2"),
    ),
    "another message": (
        "UPDATE ledger SET message_id = 1 WHERE id = {held}",
        ("use", "bob", "the debit of message {held} names message 1"),
    ),
    "outcome of nothing": (
        "DELETE FROM message WHERE id = {charged}",
        ("outcome", "bob", "outcome of message {charged}, which does not exist"),
    ),
    "charged and given back": (
        "UPDATE outcome SET state = 'charged' WHERE message_id = {released}",
        ("outcome", "bob", "has the price 2, is charged and gave back 2"),
    ),
    "released and kept": (
        "UPDATE outcome SET released_micro = 0 WHERE message_id = {released}",
        ("outcome", "bob", "has the price 2, is released and gave back 0"),
    ),
    "more than the price": (
        "UPDATE outcome SET released_micro = 3000000 WHERE message_id = {partly}",
        ("outcome", "bob", "has the price 2, is charged and gave back 3"),
    ),
    "refund missing": (
        "DELETE FROM ledger WHERE operation = 'refund' AND message_id = {partly}",
        ("refund", "bob", "outcome of message {partly} gives back 1, its refunds sum to 0"),
    ),
    "refund twice": (
        "INSERT INTO ledger SELECT id + 1, account_id, operation, counter, amount_micro,"
        " balance_micro, message_id FROM ledger"
        " WHERE operation = 'refund' AND message_id = {partly}",
        ("refund", "bob", "outcome of message {partly} gives back 1, its refunds sum to 2"),
    ),
    "refund without outcome": (
        "DELETE FROM outcome WHERE message_id = {released}",
        ("refund", "bob", "2 credits refunded for message {released}, which has no outcome"),
    ),
    "refund of nothing": (
        "UPDATE ledger SET message_id = NULL WHERE message_id = {released} AND id <> message_id",
        ("refund", "bob", "2 credits refunded for message (none), which has no outcome"),
    ),
    "doubt and outcome": (
        "UPDATE in_doubt SET resolved_at = NULL WHERE message_id = {late}",
        ("doubt", "bob", "message {late} is in doubt and has an outcome"),
    ),
    "no doubt and no outcome": (
        "DELETE FROM outcome WHERE message_id = {late}",
        ("doubt", "bob", "message {late} is no longer in doubt and has no outcome"),
    ),
    "doubt about nothing": (
        "DELETE FROM message WHERE id = {doubtful}",
        ("doubt", "bob", "message {doubtful} is in doubt and does not exist"),
    ),
    "forgotten hold": (
        "UPDATE sweep SET swept_through = {held}",
        ("sweep", "bob", "message {held} was swept, and has no outcome and no doubt"),
    ),
    "delivered twice": (
        "INSERT INTO delivery (id, account_id, kind, command_id, body)"
        f" SELECT {{held}}, {BOB}, 'receipt', 5, '';"
        " INSERT INTO delivered (id, account_id, kind, state, command_status)"
        f" SELECT {{held}}, {BOB}, 'receipt', 'delivered', 0",
        ("delivery", "bob", "receipt {held} is waiting and was delivered"),
    ),
    "key of another amount": (
        "UPDATE credit_key SET amount_micro = 1",
        ("key", "bob", "the key 'invoice 7' stands for 0.000001 credits, its row for 5"),
    ),
    "key of nothing": (
        "UPDATE credit_key SET ledger_id = 1",
        ("key", "bob", "its row for nothing"),
    ),
}


@pytest.mark.parametrize("how", SPOILED)
async def test_what_is_spoiled_is_found(conn: Any, how: str) -> None:
    statement, (check, account, detail) = SPOILED[how]
    ids = await traffic(conn)
    await corrupt(conn, statement, **ids)
    findings = await audit(conn)
    assert any(
        finding.check == check
        and finding.account == account
        and detail.format(**ids) in finding.detail
        for finding in findings
    ), findings


def test_every_check_is_provoked() -> None:
    assert {expected[0] for _, expected in SPOILED.values()} == set(CHECKS)


async def test_it_is_right_while_traffic_flows(database: Database) -> None:
    async with database.pool.acquire() as conn:
        made = await accounts.create(
            conn, "bob", password="p", credit_micro=10**12, by="alice", mint=MINT
        )
    assert isinstance(made, accounts.Created)
    stop = asyncio.Event()

    async def flow(node: int) -> None:
        mint = IdMint(node)
        async with database.pool.acquire() as conn:
            while not stop.is_set():
                messages = [submit(made.account_id, made.login_id) for _ in range(20)]
                await charge(conn, mint, messages)
                refused = [Settlement(m, None, ESME_RTHROTTLED, released=True) for m in messages]
                await settle(conn, mint, refused[:5])
                await settle(conn, mint, [Settlement(m, None, 0) for m in messages[5:]])

    async with flowing(flow(2), flow(3)), database.pool.acquire() as conn:
        for _ in range(10):
            assert await audit(conn) == []
        stop.set()


@asynccontextmanager
async def flowing(*work: Any) -> AsyncIterator[None]:
    """Run coroutines beside the block; what they raise is raised after it."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)
        yield
