"""Looks at a database beside the proxies that use it, and checks the promises from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import asyncpg
from support.esme import SUBMIT_SM, Esme, Received, message_id, submit_body
from support.waiting import eventually

from proxy.simulator.smsc import SimulatedSmsc
from proxy.store import accounts, credit
from proxy.store.audit import audit
from proxy.store.ids import COMMAND_NODE, IdMint


class Books:
    """A connection pool of its own, which no fault of the test touches."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.mint = IdMint(COMMAND_NODE)

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """Rows."""
        return list(await self.pool.fetch(sql, *args))

    async def fetchval(self, sql: str, *args: object) -> Any:
        """One value."""
        return await self.pool.fetchval(sql, *args)

    async def execute(self, sql: str, *args: object) -> None:
        """A statement."""
        await self.pool.execute(sql, *args)

    async def add_account(self, name: str = "demo", credits: int = 1000) -> int:
        """An account with a login of the same name and password; returns its id."""
        async with self.pool.acquire() as connection:
            await accounts.create(
                connection,
                name,
                password=name,
                credit_micro=credits * 1_000_000,
                by="test",
                mint=self.mint,
            )
        return int(await self.fetchval("SELECT id FROM account WHERE name = $1", name))

    async def add_credit(self, name: str, credits: int) -> None:
        """Top up."""
        async with self.pool.acquire() as connection:
            await credit.add_credit(
                connection, name, credits * 1_000_000, note="test", by="test", mint=self.mint
            )

    async def balance(self, name: str = "demo") -> Decimal:
        """In credits."""
        return Decimal(await self.fetchval("SELECT balance FROM v_account WHERE name = $1", name))

    async def held(self, name: str = "demo") -> Decimal:
        """In credits."""
        return Decimal(await self.fetchval("SELECT held FROM v_account WHERE name = $1", name))

    async def states(self) -> dict[str, str]:
        """The state of every message by its destination."""
        rows = await self.fetch("SELECT destination_addr, state FROM v_message")
        assert len({r["destination_addr"] for r in rows}) == len(rows)
        return {r["destination_addr"]: r["state"] for r in rows}

    async def events(self, kind: str) -> int:
        """How often an event happened."""
        return int(
            await self.fetchval("SELECT coalesce(sum(count), 0) FROM v_event WHERE kind = $1", kind)
        )

    async def becomes(self, expected: object, sql: str, *args: object) -> None:
        """Returns once the query gives the value; fails with what it gave instead."""
        seen: list[object] = [None]

        async def reached() -> bool:
            seen[0] = await self.fetchval(sql, *args)
            return seen[0] == expected

        try:
            await eventually(reached)
        except AssertionError:
            raise AssertionError(f"{sql}: {seen[0]!r}, not {expected!r}") from None

    async def assert_books_balance(self) -> None:
        """The audit finds nothing."""
        async with self.pool.acquire() as connection:
            assert await audit(connection) == []

    async def assert_promises(
        self, carriers: Iterable[SimulatedSmsc], answers: dict[str, Received]
    ) -> dict[str, str]:
        """What holds after any fault, message by message; returns their states.

        Each message has a destination of its own; `answers` are the clients' by destination.
        """
        await self.assert_books_balance()
        states = await self.states()
        taken = Counter(
            submit.destination_addrs[0] for carrier in carriers for submit in carrier.submits
        )
        assert [d for d, times in taken.items() if times > 1] == [], "sent twice"
        accepted = {
            submit.destination_addrs[0]
            for carrier in carriers
            for submit in carrier.submits
            if submit.status == 0
        }
        assert taken.keys() - states.keys() == set(), "the carrier has it, and it was not debited"
        assert {d for d in accepted if states[d] == "released"} == set(), "a free message"
        for destination, answer in answers.items():
            if answer.status == 0:
                assert states[destination] == "charged", destination
                assert destination in accepted, destination
        charged = {d for d, state in states.items() if state == "charged"}
        assert charged <= taken.keys(), "charged, and never sent"
        return states


@asynccontextmanager
async def open_books(database_url: str) -> AsyncIterator[Books]:
    """Books on a database."""
    pool = await asyncpg.create_pool(database_url, min_size=1, max_size=4)
    try:
        yield Books(pool)
    finally:
        await pool.close()


class Traffic:
    """Submits of one client, each to a destination of its own, and their answers."""

    def __init__(self, esme: Esme, prefix: int = 1) -> None:
        self.esme = esme
        self.sent: dict[int, str] = {}
        self._prefix = prefix

    def send(self, number: int, *, registered_delivery: int = 0) -> list[str]:
        """Sends without waiting; returns the destinations."""
        destinations = []
        for _ in range(number):
            destination = f"447{self._prefix:03d}{len(self.sent):06d}"
            body = submit_body(
                b"hello", destination=destination.encode(), registered_delivery=registered_delivery
            )
            self.sent[self.esme.send(SUBMIT_SM, body)] = destination
            destinations.append(destination)
        return destinations

    @property
    def answers(self) -> dict[str, Received]:
        """What has been answered, by destination; fails when one was answered twice."""
        answers: dict[str, Received] = {}
        for one in self.esme.received:
            if one.command_id == SUBMIT_SM | 0x80000000:
                destination = self.sent[one.sequence_number]
                assert destination not in answers, "answered twice"
                answers[destination] = one
        return answers

    @property
    def accepted(self) -> dict[str, int]:
        """Our message ids of what was answered with ESME_ROK, by destination."""
        return {d: message_id(one) for d, one in self.answers.items() if one.status == 0}

    def statuses(self) -> list[int]:
        """Of the answers, in order of sending."""
        answers = self.answers
        return [answers[d].status for d in self.sent.values() if d in answers]

    async def wait(self, number: int | None = None, timeout_s: float = 10) -> None:
        """Until so many are answered (all)."""
        wanted = len(self.sent) if number is None else number
        await self.esme.wait(lambda: len(self.answers) >= wanted or self.esme.closed, timeout_s)
        assert len(self.answers) >= wanted, (len(self.answers), wanted)

    async def flow(self, number: int, window: int = 40) -> None:
        """Sends as a busy client does, keeping its window full; ends with the connection."""
        left = number
        while left and not self.esme.closed:
            room = min(left, window - (len(self.sent) - self.answered))
            if room > 0:
                self.send(room)
                left -= room
            await self.esme.wait(lambda: self.esme.closed or self.open < window, 60)

    @property
    def answered(self) -> int:
        """How many."""
        return sum(1 for one in self.esme.received if one.command_id == SUBMIT_SM | 0x80000000)

    @property
    def open(self) -> int:
        """How many are not answered."""
        return len(self.sent) - self.answered
