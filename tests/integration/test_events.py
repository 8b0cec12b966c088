"""The event log: aggregation, when it is written, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from support.waiting import eventually

from proxy.store import events as module
from proxy.store import history
from proxy.store.database import Database
from proxy.store.events import DROPPED_KIND, EventLog, write_event

NO_CREDIT = "Could not send message. Insufficient credits"


class Clock:
    """Time that moves when told; it begins at the start of a minute of today."""

    def __init__(self) -> None:
        self.now_s = datetime.now(UTC).timestamp() // 60 * 60

    def __call__(self) -> float:
        return self.now_s


class Gate:
    """A pool in front of the real one, which can be shut, and counts who came through."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.fails = False
        self.acquired = 0

    @property
    def pool(self) -> Gate:
        return self

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        self.acquired += 1
        if self.fails:
            raise ConnectionRefusedError("the database is away")
        async with self._database.pool.acquire() as conn:
            yield conn


@asynccontextmanager
async def running(log: EventLog) -> AsyncIterator[None]:
    task = asyncio.create_task(log.run())
    try:
        yield
    finally:
        await log.close()
        await asyncio.wait_for(task, 10)


async def rows(database: Database, **filters: Any) -> list[history.Row]:
    async with database.pool.acquire() as conn:
        return await history.events(conn, **filters)


def written(database: Database, count: int) -> Callable[[], Any]:
    async def check() -> bool:
        found: int = sum(row["count"] for row in await rows(database))
        return found == count

    return check


async def test_an_event_is_counted_per_account_kind_text_and_minute(database: Database) -> None:
    async with database.pool.acquire() as conn:
        bob = await conn.fetchval("INSERT INTO account (name) VALUES ('bob') RETURNING id")
    clock = Clock()
    log = EventLog(database, clock_s=clock)
    for _ in range(3):
        log.record("no_credit", NO_CREDIT, severity="warning", account_id=bob, message_id=7)
        clock.now_s += 1
    log.record("no_credit", NO_CREDIT, severity="warning", account_id=bob, message_id=8, count=10)
    log.record("started", "Started")
    clock.now_s += 60
    log.record("no_credit", NO_CREDIT, severity="warning", account_id=bob)
    await log.close()

    found = {(row["kind"], row["count"]): row for row in await rows(database)}
    assert set(found) == {("no_credit", 13), ("started", 1), ("no_credit", 1)}
    counted = found["no_credit", 13]
    assert (counted["account"], counted["text"]) == ("bob", NO_CREDIT)
    assert (counted["severity"], counted["message_id"]) == ("warning", 7)
    assert counted["last_at"] - counted["at"] == timedelta(seconds=3)
    assert found["started", 1]["account"] is None


async def test_counts_of_several_writers_add_up(database: Database) -> None:
    clock = Clock()
    logs = [EventLog(database, clock_s=clock) for _ in range(4)]
    for number, log in enumerate(logs):
        # In a different order each, which must not make them wait for each other in a ring.
        for kind in sorted("abcdef", reverse=bool(number % 2)):
            log.record(kind, "text", count=number + 1)
    await asyncio.gather(*(log.close() for log in logs))
    assert [row["count"] for row in await rows(database)] == [10] * 6


async def test_the_first_event_is_written_at_once_and_the_next_ones_together(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_INTERVAL_S", 2.0)
    gate = Gate(database)
    log = EventLog(gate)
    async with running(log):
        log.record("first", "first")
        await eventually(written(database, 1), timeout_s=1.8)
        for number in range(100):
            log.record("next", f"next {number % 10}")
            await asyncio.sleep(0)
        assert gate.acquired == 1, "not before the interval is over"
        await eventually(written(database, 101))
        assert gate.acquired == 2


async def test_close_writes_what_is_left(database: Database) -> None:
    log = EventLog(database)
    async with running(log):
        log.record("first", "first")
        await eventually(written(database, 1))
        log.record("last", "last")
    assert [row["kind"] for row in await rows(database)] == ["first", "last"]


async def test_nothing_is_lost_while_the_database_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_INTERVAL_S", 0.01)
    gate = Gate(database)
    gate.fails = True
    log = EventLog(gate, clock_s=Clock())
    with structlog.testing.capture_logs() as logged:
        async with running(log):
            log.record("kept", "kept", count=2)
            await eventually(lambda: gate.acquired >= 3)
            log.record("kept", "kept", count=3)
            log.record("other", "other")
            gate.fails = False
            await eventually(written(database, 6))
    assert [entry["event"] for entry in logged] == ["kept", "events_not_written", "other"]


async def test_what_does_not_fit_is_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYS_MAX", 10)
    gate = Gate(database)
    gate.fails = True
    log = EventLog(gate)
    for number in range(15):
        log.record("many", f"number {number}", count=2)
    with suppress(TimeoutError):
        await log.close()
    log.record("many", "one more")
    gate.fails = False
    await log.close()
    found = await rows(database)
    assert sum(row["kind"] == "many" for row in found) == 10
    [dropped] = [row for row in found if row["kind"] == DROPPED_KIND]
    assert (dropped["count"], dropped["severity"]) == (11, "warning")


async def test_what_is_too_old_for_the_database_is_counted(database: Database) -> None:
    clock = Clock()
    clock.now_s -= 3 * 86400
    log = EventLog(database, clock_s=clock)
    log.record("old", "before the outage", count=5)
    clock.now_s += 3 * 86400
    log.record("new", "after it")
    await log.close()
    assert {row["kind"]: row["count"] for row in await rows(database)} == {
        DROPPED_KIND: 5,
        "new": 1,
    }


async def test_a_missing_partition_is_made(database: Database) -> None:
    async with database.pool.acquire() as conn:
        for name in await conn.fetch("SELECT inhrelid::regclass::text AS name FROM pg_inherits"
                                     " WHERE inhparent = 'event'::regclass"):  # fmt: skip
            await conn.execute(f"DROP TABLE {name['name']}")
    log = EventLog(database)
    log.record("kind", "text")
    await log.close()
    assert [row["kind"] for row in await rows(database)] == ["kind"]


@pytest.mark.parametrize(
    "text", ["nul \0 here", "lone \ud800 surrogate", "long " * 1000, "é" * 999]
)
async def test_any_text_can_be_written(database: Database, text: str) -> None:
    log = EventLog(database, clock_s=Clock())
    log.record("kind" * 50, text)
    log.record("kind" * 50, text)
    await log.close()
    [row] = await rows(database)
    assert row["count"] == 2 and row["text"][:3] == text[:3]


async def test_only_the_first_of_a_minute_is_logged(database: Database) -> None:
    clock = Clock()
    log = EventLog(database, clock_s=clock)
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            log.record("no_credit", NO_CREDIT, severity="warning", account_id=5)
            log.record("started", "Started")
            await log.close()  # also when it was written in between
        clock.now_s += 60
        log.record("started", "Started")
    assert [entry["event"] for entry in logged] == ["no_credit", "started", "started"]
    assert logged[0] == {
        "event": "no_credit",
        "log_level": "warning",
        "text": NO_CREDIT,
        "account": 5,
    }


async def test_events_are_read_by_account_kind_severity_and_age(database: Database) -> None:
    async with database.pool.acquire() as conn:
        bob = await conn.fetchval("INSERT INTO account (name) VALUES ('bob') RETURNING id")
        await write_event(conn, "a", "one", "debug")
        await write_event(conn, "a", "two", "error", bob)
        await write_event(conn, "b", "three", "warning", bob, message_id=5)
    assert [row["text"] for row in await rows(database)] == ["one", "two", "three"]
    assert [row["text"] for row in await rows(database, limit=2)] == ["two", "three"]
    assert [row["text"] for row in await rows(database, account="bob")] == ["two", "three"]
    assert [row["text"] for row in await rows(database, kind="a")] == ["one", "two"]
    assert [row["text"] for row in await rows(database, severity="error")] == ["two"]
    last = (await rows(database))[-1]
    assert last["message_id"] == 5
    assert [row["text"] for row in await rows(database, since=last["last_at"])] == ["three"]
