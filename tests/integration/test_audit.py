"""The audit: silent while the books balance, and one finding for each way to spoil them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from support.messages import bare_message

from proxy.smpp.vocabulary import ESME_RTHROTTLED, ESME_RUNKNOWNERR
from proxy.store import accounts, migrations
from proxy.store.audit import CHECKS, WHOLE_LEDGER, audit
from proxy.store.credit import add_credit
from proxy.store.database import Database
from proxy.store.ids import IdMint
from proxy.store.ledger import Settlement, charge, release, settle

if TYPE_CHECKING:
    from tests.conftest import Cluster

MINT = IdMint(1)
MICRO = 1_000_000


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
    charged = await charge(conn, MINT, messages)
    assert None not in charged.balances
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
    return bare_message(
        account_id,
        2 * MICRO,
        login_id=login_id,
        source_addr="me",
        destination_addr="447700900123",
        segments=2,
        price_id=1,
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
QUEUED = (
    "INSERT INTO queued (id, account_id, line, route, due_at, expires_at, command_id, body,"
    " price_micro, prices, service, asked) SELECT id, account_id, '44', 'any', now(), now(), 4, '',"
    " price_micro, '', '', -1 FROM message"
)
LINE = (
    f"INSERT INTO queue_line (account_id, line, route, next_at) VALUES ({BOB}, '44', 'any', now())"
)
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
        (
            "sweep",
            "bob",
            "message {held} was swept, and has no outcome, no doubt and is not queued",
        ),
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
    "grants have less": (
        "UPDATE account SET granted_micro = 2, next_expiry_at = now() WHERE name = 'bob';"
        " INSERT INTO credit_grant (id, account_id, amount_micro, left_micro, expires_at)"
        f" SELECT 1, {BOB}, 5, 1, now() UNION SELECT 2, {BOB}, 5, 0, now()",
        ("grant", "bob", "0.000002 credits expire one day, but its grants have"),
    ),
    "no grants": (
        "UPDATE account SET granted_micro = 1 WHERE name = 'eve'",
        ("grant", "eve", "0.000001 credits expire one day, but its grants have"),
    ),
    "reserved for nothing": (
        "UPDATE account SET reserved_micro = 1 WHERE name = 'bob'",
        ("reserved", "bob", "0.000001 credits are reserved, for concatenated messages 0"),
    ),
    "not reserved": (
        "INSERT INTO long_message (account_id, key, upstream_id, seen, refused, reserved_micro,"
        f" expires_at) SELECT {BOB}, 'k', 1, '{{{{}}}}', false, 1000000, now()",
        ("reserved", "bob", "0 credits are reserved, for concatenated messages 1"),
    ),
    "plan that granted nothing": (
        "INSERT INTO plan (name, amount_micro, every) VALUES ('small', 1, 'month');"
        f" INSERT INTO plan_grant SELECT {BOB}, id, '2026-11-01', 1 FROM plan",
        ("plan", "bob", "plan small for 2026-11-01: its ledger row 1 does not exist"),
    ),
    "plan that took": (
        "INSERT INTO plan (name, amount_micro, every) VALUES ('small', 1, 'month');"
        f" INSERT INTO plan_grant SELECT {BOB}, id, '2026-11-01', {{held}} FROM plan",
        ("plan", "bob", "its ledger row {held} is no grant but use of -2"),
    ),
    "released and waiting": (
        "UPDATE outcome SET awaits_receipt = true, asked = 1 WHERE message_id = {released}",
        ("awaiting", "bob", "message {released} waits for its receipt, is released and gave back"),
    ),
    "given back in part and waiting": (
        "UPDATE outcome SET awaits_receipt = true, asked = 1 WHERE message_id = {partly}",
        ("awaiting", "bob", "{partly} waits for its receipt, is charged and gave back 1"),
    ),
    "nobody knows who asked": (
        "UPDATE outcome SET awaits_receipt = true WHERE message_id = {charged}",
        ("awaiting", "bob", "{charged} waits for its receipt, and nobody knows who asked"),
    ),
    "used changed": (
        "UPDATE account SET used_micro = used_micro - 1 WHERE name = 'bob'",
        ("used", "bob", "used 8.999999, but its rows of use and refund sum to 9"),
    ),
    "used nothing": (
        "UPDATE account SET used_micro = 1 WHERE name = 'eve'",
        ("used", "eve", "used 0.000001, but its rows of use and refund sum to 0"),
    ),
    "price list changed": (
        "UPDATE price SET price_micro = 3000000",
        ("price", "bob", "{held} has the price 2, but 2 segments at price 1 are 6"),
    ),
    "more segments than were paid for": (
        "UPDATE message SET segments = 3, command_id = 259 WHERE id = {held}",
        ("price", "bob", "{held} has the price 2, but 3 segments at price 1 are 3"),
    ),
    "price of no list": (
        "UPDATE message SET price_id = 77 WHERE id = {held}",
        ("price", "bob", "message {held} names price 77, which does not exist"),
    ),
    "not for sale": (
        "UPDATE price SET price_micro = NULL",
        ("price", "bob", "message {held} names price 1, which is not for sale"),
    ),
    "queued and ended": (
        f"{QUEUED} WHERE id = {{charged}}; {LINE}",
        ("queue", "bob", "message {charged} is queued, and is charged already"),
    ),
    "queued at another price": (
        f"{QUEUED} WHERE id = {{held}}; UPDATE queued SET price_micro = 1; {LINE}",
        ("queue", "bob", "message {held} is queued for 0.000001, and its price was 2"),
    ),
    "queued and not charged": (
        f"{QUEUED} WHERE id = {{held}}; UPDATE queued SET id = 77; {LINE}",
        ("queue", "bob", "message 77 is queued, and was not charged"),
    ),
    "queued in no line": (
        f"{QUEUED} WHERE id = {{held}}",
        ("queue", "bob", "message {held} is queued, and its line is not"),
    ),
    "being sent by nobody": (
        f"{QUEUED} WHERE id = {{held}}; UPDATE queued SET sending = true; {LINE}",
        ("queue", "bob", "message {held} is being sent, and no proxy has claimed it"),
    ),
    "sealed day changed": (
        "INSERT INTO sealed_day (day, rows, hash)"
        " VALUES (date '2026-01-01', 1, sha256('what it was'))",
        (
            *("seal", WHOLE_LEDGER),
            "the ledger of 2026-01-01 has changed since it was sealed: 1 rows then, 0 now",
        ),
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


async def test_every_way_to_charge_leaves_the_books_right(conn: Any) -> None:
    """What 0004 writes: none of it is a fault."""
    made = await accounts.create(
        conn, "bob", password="p", credit_micro=20 * MICRO, by="alice", mint=MINT
    )
    assert isinstance(made, accounts.Created)
    bob = made.account_id
    upstream_id = await conn.fetchval("INSERT INTO upstream (name) VALUES ('c') RETURNING id")

    async def grant(days: int) -> None:
        await conn.fetchval(
            "SELECT grant_credit($1, $2, $3, now() + make_interval(days => $4), 'alice', NULL)",
            bob,
            MINT.mint(1)[0],
            3 * MICRO,
            days,
        )

    await grant(1)
    await grant(2)
    sent = [submit(bob, made.login_id) for _ in range(6)]
    assert None not in (await charge(conn, MINT, sent)).balances
    assert await conn.fetchval("SELECT granted_micro FROM account WHERE id = $1", bob) == 0
    assert await audit(conn) == []

    # Charged on delivery: two wait, one of them is released.
    sent[0].asked, sent[1].asked = 0, 1
    await settle(conn, MINT, [Settlement(m, upstream_id, 0, cost_micro=7) for m in sent[:2]])
    await conn.execute("INSERT INTO release_due VALUES ($1, $2, 'UNDELIV')", bob, sent[0].id)
    assert await audit(conn) == []
    assert await release(conn, MINT, [(bob, sent[0].id)]) == {sent[0].id}
    assert await audit(conn) == []

    # Charged though the upstream refused it, given back in part, and as a whole.
    await settle(
        conn,
        MINT,
        [
            Settlement(sent[2], upstream_id, ESME_RTHROTTLED, released=True, back_micro=0),
            Settlement(sent[3], upstream_id, 0, released=True, back_micro=MICRO),
            Settlement(sent[4], upstream_id, ESME_RTHROTTLED, released=True),
        ],
    )
    outcome = await conn.fetchrow("SELECT * FROM outcome WHERE message_id = $1", sent[2].id)
    assert (outcome["state"], outcome["command_status"]) == ("charged", ESME_RTHROTTLED)
    assert await audit(conn) == []

    # One part of three: the price of the others is reserved.
    part = submit(bob, made.login_id)
    part.account.rules = SimpleNamespace(all_parts=True)
    part.part, part.part_key = SimpleNamespace(part=1, total=3), "k"
    part.upstreams = [SimpleNamespace(id=upstream_id, bound=True)]
    assert None not in (await charge(conn, MINT, [part])).balances
    assert await conn.fetchval("SELECT reserved_micro FROM account WHERE id = $1", bob) > 0
    assert await audit(conn) == []

    await grant(1)
    assert await conn.fetchval("SELECT expire_grants($1, now() + interval '2 days')", bob) > 0
    assert await audit(conn) == []


async def test_what_was_used_before_it_was_counted(postgres: Cluster) -> None:
    """A database of the version before: 0003 begins to count at 0."""
    async with postgres.fresh("template1") as url:
        conn = await asyncpg.connect(url)
        try:
            first = migrations.migrations()[:2]
            await conn.execute(migrations._CREATE_TABLE)
            for one in first:
                await conn.execute(one.sql)
                await conn.execute(
                    "INSERT INTO migration (version, name, checksum) VALUES ($1, $2, $3)",
                    one.version,
                    one.name,
                    one.checksum,
                )
            await conn.execute(
                "INSERT INTO account (name, balance_micro) VALUES ('bob', 93), ('eve', 5);"
                " INSERT INTO ledger (id, account_id, operation, counter, amount_micro,"
                " balance_micro) SELECT id_from_time(now()) + n, a, op::operation, 'sold', m, 0"
                " FROM (VALUES (1, 1, 'add', 100), (2, 1, 'use', -10), (3, 1, 'refund', 3),"
                " (4, 2, 'add', 5)) AS l(n, a, op, m)"
            )
            assert await migrations.migrate(conn)
            assert await conn.fetchval("SELECT used_micro FROM account WHERE name = 'bob'") == 0
            rows = await conn.fetch("SELECT account_id, used_micro FROM used_before")
            assert [tuple(row) for row in rows] == [(1, 7)]
            assert [f for f in await audit(conn) if f.check == "used"] == []
            await conn.execute("UPDATE account SET used_micro = used_micro + 1")
            found = [f.detail for f in await audit(conn) if f.check == "used"]
            assert sorted(found) == [
                "used 0.000001, but its rows of use and refund sum to 0",
                "used 0.000001, but its rows of use and refund sum to 0",
            ]
        finally:
            await conn.close()


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
