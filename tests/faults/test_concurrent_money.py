"""Many connections, and several proxies, at one account at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from support.books import Books, Traffic, open_books
from support.esme import Received
from support.messages import bare_message
from support.running import Running, running_proxy
from support.waiting import eventually

from proxy.simulator.smsc import SimulatedSmsc, SmscOptions
from proxy.store import ledger
from proxy.store.credit import Added, add_credit
from proxy.store.database import Database
from proxy.store.grants import expire_due
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.ledger import Charged, Settlement
from proxy.store.outcomes import Refused

CONNECTIONS = 8
INSUFFICIENT, UNREACHABLE = 0x45, 0x08


async def new_account(connection: Any, name: str, **columns: int) -> int:
    """Without credits; its columns by their names."""
    names = "".join(f", {column}" for column in columns)
    values = "".join(f", {value:d}" for value in columns.values())
    sql = f"INSERT INTO account (name{names}) VALUES ($1{values}) RETURNING id"
    return int(await connection.fetchval(sql, name))


@asynccontextmanager
async def connections(database: Database, number: int) -> AsyncIterator[list[Any]]:
    """Of their own, as lanes have them."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(number):
            connection = await database.connect()
            stack.push_async_callback(connection.close)
            opened.append(connection)
        yield opened


class Worker:
    """One proxy with a command line beside it: it does what it likes, and counts what it did."""

    def __init__(self, connection: Any, node: int, accounts: list[tuple[int, str]]) -> None:
        self.connection = connection
        self.mint = IdMint(node)
        self.command_mint = IdMint(COMMAND_NODE)
        self.accounts = accounts
        self.random = random.Random(node)
        self.open: list[Any] = []
        self.changes = dict.fromkeys((account_id for account_id, _ in accounts), 0)

    async def work(self, times: int) -> None:
        """So many operations."""
        doing: list[Callable[[], Awaitable[None]]] = [
            *(self.charge,) * 4, *(self.settle,) * 2, self.add, self.grant, self.remove,
        ]  # fmt: skip
        for _ in range(times):
            await self.random.choice(doing)()

    async def charge(self) -> None:
        """A batch of several accounts, which arrive in any order."""
        batch = [
            bare_message(self.random.choice(self.accounts)[0], self.random.randint(1, 3))
            for _ in range(self.random.randint(1, 8))
        ]
        charged = await ledger.charge(self.connection, self.mint, batch)
        for message in admitted(charged):
            self.changes[message.account.id] -= message.price_micro
            self.open.append(message)

    async def settle(self) -> None:
        """Everything that is open: one half is refused."""
        ends = [
            Settlement(m, 1, 0, smsc_message_id=str(m.id))
            if self.random.random() < 0.5
            else Settlement(m, 1, 8, released=True, reason="refused")
            for m in self.open
        ]
        self.open = []
        released = await ledger.settle(self.connection, self.mint, ends)
        assert released == {end.message.id for end in ends if end.released}
        for end in ends:
            if end.released:
                self.changes[end.message.account.id] += end.message.price_micro

    async def add(self) -> None:
        """A top-up."""
        await self._credit(self.random.randint(1, 12))

    async def remove(self) -> None:
        """A removal, where there is enough."""
        await self._credit(-self.random.randint(1, 12))

    async def grant(self) -> None:
        """A top-up that expires some milliseconds later, or not soon."""
        milliseconds = self.random.choice([20, 3_600_000])
        await self._credit(
            self.random.randint(1, 6), datetime.now(UTC) + timedelta(milliseconds=milliseconds)
        )

    async def _credit(self, amount: int, expires_at: datetime | None = None) -> None:
        account_id, name = self.random.choice(self.accounts)
        outcome = await add_credit(
            self.connection, name, amount,
            by="test", mint=self.command_mint, expires_at=expires_at,
        )  # fmt: skip
        if isinstance(outcome, Added):
            self.changes[account_id] += amount
        else:
            # Under this load the lock may take longer than the grant lives.
            assert isinstance(outcome, Refused) and (amount < 0 or expires_at)


def admitted(charged: Charged) -> list[Any]:
    """The messages that were charged."""
    both = zip(charged.messages, charged.balances, strict=True)
    return [message for message, balance in both if balance is not None]


async def test_eight_connections_never_overdraw_and_always_balance(
    database: Database, database_url: str
) -> None:
    limits = {"none": 0, "some": 7}
    async with (
        open_books(database_url) as books, connections(database, CONNECTIONS + 1) as opened,
    ):  # fmt: skip
        *eight, ninth = opened
        accounts = [
            (await new_account(ninth, name, credit_limit_micro=limit), name)
            for name, limit in limits.items()
        ]
        workers = [Worker(connection, node, accounts) for node, connection in enumerate(eight, 1)]
        samples = await beside(partial(look, ninth), *(worker.work(250) for worker in workers))
        assert samples > 20
        for worker in workers:
            await worker.settle()
        for account_id, name in accounts:
            expired = await ninth.fetchval(
                "SELECT coalesce(sum(amount_micro), 0)::bigint FROM ledger"
                " WHERE account_id = $1 AND operation = 'expire'",
                account_id,
            )
            assert expired < 0
            expected = expired + sum(worker.changes[account_id] for worker in workers)
            row = await ninth.fetchrow(
                "SELECT balance_micro, (SELECT min(l.balance_micro) FROM ledger l"
                " WHERE l.account_id = a.id) AS lowest FROM account a WHERE id = $1",
                account_id,
            )
            assert row["balance_micro"] == expected
            assert row["lowest"] == -limits[name], "every credit was used, and not one more"
        await expire_due(ninth, datetime.now(UTC))
        await books.assert_books_balance()


async def look(connection: Any) -> None:
    """One look at the balances, and at what must be true whenever one looks."""
    row = await connection.fetchrow(
        "SELECT bool_and(balance_micro >= -credit_limit_micro) AS floor,"
        " bool_and(granted_micro BETWEEN 0 AND greatest(balance_micro, 0)) AS granted,"
        " bool_and(balance_micro = (SELECT coalesce(sum(amount_micro), 0) FROM ledger l"
        " WHERE l.account_id = a.id)) AS rows FROM account a"
    )
    assert dict(row) == {"floor": True, "granted": True, "rows": True}


async def beside(look: Callable[[], Awaitable[None]], *work: Awaitable[Any]) -> int:
    """Looks again and again until the work is done; returns how often."""
    working = asyncio.gather(*work)
    looks = 0
    try:
        while not working.done():
            await look()
            looks += 1
    finally:
        await working
    return looks


NUMBER = 400
"""How many messages may pass."""


@pytest.mark.parametrize(
    ("columns", "credit", "granted"),
    [
        ({}, NUMBER, 0),
        ({}, NUMBER // 4, NUMBER - NUMBER // 4),
        ({"credit_limit_micro": NUMBER - 10}, 10, 0),
        ({"daily_cap_micro": NUMBER}, 10 * NUMBER, 0),
        ({"monthly_cap_micro": NUMBER}, 10 * NUMBER, 0),
        ({"daily_messages": NUMBER}, 10 * NUMBER, 0),
    ],
    ids=["credit", "grants", "credit limit", "daily cap", "monthly cap", "daily messages"],
)
async def test_exactly_as_many_as_there_are_credits_or_the_limit_says(
    database: Database, database_url: str, columns: dict[str, int], credit: int, granted: int
) -> None:
    async with open_books(database_url) as books, connections(database, CONNECTIONS) as eight:
        account_id = await new_account(eight[0], "shared", **columns)
        await fund(eight[0], credit, granted)

        async def submit(connection: Any, mint: IdMint) -> int:
            sizes = random.Random(mint.node)
            passed = 0
            for _ in range(50):
                batch = [bare_message(account_id, 1) for _ in range(sizes.randint(1, 5))]
                passed += len(admitted(await ledger.charge(connection, mint, batch)))
            return passed

        passed = await asyncio.gather(
            *(submit(connection, IdMint(node)) for node, connection in enumerate(eight, 1))
        )
        assert sum(passed) == NUMBER
        assert sum(1 for number in passed if number) > 1, "one was done before the others began"
        assert await books.fetchval("SELECT count(*) FROM message") == NUMBER
        balance = await books.fetchval("SELECT balance_micro FROM account")
        assert balance == credit + granted - NUMBER
        await books.assert_books_balance()


async def fund(connection: Any, credit: int, granted: int) -> None:
    """Gives the account "shared" credit, some of which expires in an hour."""
    mint, later = IdMint(COMMAND_NODE), datetime.now(UTC) + timedelta(hours=1)
    for amount, expires_at in ((credit, None), (granted, later)):
        if amount:
            outcome = await add_credit(
                connection, "shared", amount, by="test", mint=mint, expires_at=expires_at
            )
            assert isinstance(outcome, Added)


async def test_long_messages_pass_whole_or_not_at_all(
    database: Database, database_url: str
) -> None:
    """Eight connections send messages of three parts, in any order of their parts."""
    parts = 3
    async with open_books(database_url) as books, connections(database, CONNECTIONS) as eight:
        account_id = await new_account(eight[0], "shared")
        await eight[0].execute("UPDATE account SET all_parts = true")
        await fund(eight[0], 100 * parts + 2, 0)

        async def submit(connection: Any, mint: IdMint) -> list[int]:
            order = random.Random(mint.node)
            whole = []
            for number in range(25):
                sent = [part_of(account_id, mint.node, number, n, parts) for n in (1, 2, 3)]
                order.shuffle(sent)
                batches = [sent] if number % 2 else [[message] for message in sent]
                passed = [await ledger.charge(connection, mint, batch) for batch in batches]
                whole.append(sum(len(admitted(charged)) for charged in passed))
            return whole

        passed = await asyncio.gather(
            *(submit(connection, IdMint(node)) for node, connection in enumerate(eight, 1))
        )
        each = [number for numbers in passed for number in numbers]
        assert set(each) == {0, parts}
        assert each.count(parts) == 100
        assert await books.fetchval("SELECT balance_micro FROM account") == 2
        assert await books.fetchval("SELECT reserved_micro FROM account") == 0
        await books.assert_books_balance()


def part_of(account_id: int, node: int, number: int, part: int, parts: int) -> Any:
    """One part at the price 1."""
    message = bare_message(
        account_id, 1,
        part=SimpleNamespace(part=part, total=parts),
        part_key=f"{node} {number}",
        upstreams=[SimpleNamespace(id=1, bound=True)],
    )  # fmt: skip
    message.account.rules.all_parts = True
    return message


# -------------------------------------------------------------------- with SMPP clients


@dataclass
class Pair:
    """Two proxies on one database and one carrier, each with two clients of account "demo"."""

    books: Books
    smsc: SimulatedSmsc
    running: list[Running]
    clients: list[Traffic]
    backends: list[set[int]]
    """The processes of PostgreSQL that each of them began with."""

    @property
    def answers(self) -> dict[str, Received]:
        """By destination."""
        return {k: v for client in self.clients for k, v in client.answers.items()}

    @property
    def statuses(self) -> list[int]:
        """Of all clients."""
        return [status for client in self.clients for status in client.statuses()]

    async def cut(self, spared: set[int]) -> int:
        """Ends the connections to the database but these; returns how many."""
        return int(
            await self.books.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'smpp-proxy'"
                " AND pid <> ALL ($1)",
                spared,
            )
        )

    async def backends_now(self) -> set[int]:
        """Of all proxies."""
        rows = await self.books.fetch(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'smpp-proxy'"
        )
        return {row["pid"] for row in rows}


@asynccontextmanager
async def two_proxies(database_url: str, credits: int, **options: Any) -> AsyncIterator[Pair]:
    """One message of each client has passed already."""
    smsc = SimulatedSmsc(SmscOptions(receipt_delay_s=0.0))
    async with AsyncExitStack() as stack:
        await smsc.start()
        stack.push_async_callback(smsc.stop)
        pair = Pair(await stack.enter_async_context(open_books(database_url)), smsc, [], [], [])
        for _ in range(2):
            run = await stack.enter_async_context(
                running_proxy(database_url, smsc=smsc, credits=credits)
            )
            pair.running.append(run)
            for _ in range(2):
                esme = await stack.enter_async_context(run.esme())
                assert (await esme.bind()).status == 0
                pair.clients.append(Traffic(esme, len(pair.clients)))
                pair.clients[-1].send(1)
                await pair.clients[-1].wait()
            before = set[int]().union(*pair.backends)
            pair.backends.append(await pair.backends_now() - before)
        assert pair.statuses == [0] * 4
        for key, value in options.items():
            setattr(smsc.options, key, value)
        yield pair


async def test_a_top_up_while_two_proxies_send_is_spent_to_the_last_credit(
    database_url: str,
) -> None:
    async with two_proxies(database_url, 200) as pair:
        books, smsc, clients = pair.books, pair.smsc, pair.clients
        flows = asyncio.gather(*(client.flow(200) for client in clients))
        await smsc.wait_for(lambda s: len(s.submits) >= 100)
        await asyncio.gather(*(books.add_credit("demo", 25) for _ in range(8)))
        await flows
        for client in clients:
            await client.wait()

        async def spent() -> bool:  # who was refused from memory hears of it within a second
            for client in clients:
                client.send(5)
                await client.wait()
            return pair.statuses.count(0) >= 400

        await eventually(spent)
        assert pair.statuses.count(0) == 400 == len(smsc.submits)
        assert set(pair.statuses) == {0, INSUFFICIENT}
        assert await books.balance() == 0
        assert await books.fetchval("SELECT min(balance) FROM v_credit_log") == 0
        await books.assert_promises([smsc], pair.answers)


async def test_one_proxy_loses_its_database_again_and_again(database_url: str) -> None:
    refusing = {"refuse_rate": 0.1, "refuse_status": 0x0B}
    async with two_proxies(database_url, 100_000, **refusing) as pair:
        books, clients = pair.books, pair.clients
        victim, spared = pair.running[0].proxy, pair.backends[1]
        flowing = [asyncio.create_task(client.flow(1_000_000)) for client in clients]
        for _ in range(4):
            await served(clients)
            assert await pair.cut(spared) >= 2
            await books.add_credit("demo", 10)
        await served(clients)
        for task in flowing:
            task.cancel()
        for client in clients:
            await client.wait()
        assert set(pair.statuses) <= {0, 0x0B, UNREACHABLE}
        lucky = {status for client in clients[2:] for status in client.statuses()}
        assert lucky == {0, 0x0B}, "the other one noticed nothing"
        # What was charged and never forwarded is given back.
        await books.becomes(0, "SELECT held::int FROM v_account WHERE name = 'demo'")
        states = await books.assert_promises([pair.smsc], pair.answers)
        accepted = pair.statuses.count(0)
        assert await books.balance() == 100_040 - accepted
        assert list(states.values()).count("charged") == accepted
        assert victim.charge.up


async def served(clients: list[Traffic]) -> None:
    """Returns when each of them has had fifty more messages accepted."""
    for client in clients:
        before = len(client.accepted)
        await eventually(lambda c=client, b=before: len(c.accepted) > b + 50)  # type: ignore[misc]
