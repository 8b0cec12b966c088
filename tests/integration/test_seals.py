"""Sealed days: made in order, once, and what was changed afterwards is found."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import asyncpg
import pytest
from support.past import MICRO, add_account, add_message, add_row, at, make_partitions, today

from proxy.flow import seal
from proxy.flow.seal import Seal
from proxy.store.audit import WHOLE_LEDGER, audit
from proxy.store.database import Database
from proxy.store.seals import SealedDay, broken_links, seal_days, verify_seals
from proxy.store.sql import load

DAY = timedelta(days=1)


def ago(days: int) -> date:
    return today() - days * DAY


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[Any]:
    async with database.pool.acquire() as connection:
        yield connection


async def story(conn: Any) -> int:
    """An account with rows of five, four and two days ago, and of today; returns its id."""
    await make_partitions(conn, ago(6), ago(1))
    account_id = await add_account(conn, "bob")
    await add_row(
        conn, account_id, at(ago(5)), "add", 100 * MICRO, actor="alice", note="in\tvoice\n"
    )
    await add_message(conn, account_id, at(ago(5), 23, 59))
    await add_message(conn, account_id, at(ago(4), 0), state="released")
    await add_message(conn, account_id, at(ago(2)))
    await add_message(conn, account_id, now())
    return account_id


@asynccontextmanager
async def tampering(conn: Any) -> AsyncIterator[None]:
    """What no trigger stops: whoever owns the database can do this."""
    await conn.execute("SET session_replication_role = replica")
    yield
    await conn.execute("SET session_replication_role = origin")


async def found(conn: Any) -> list[str]:
    """What the audit says of the seals."""
    findings = [finding for finding in await audit(conn) if finding.check == "seal"]
    assert {finding.account for finding in findings} <= {WHOLE_LEDGER}
    return [finding.detail for finding in findings]


async def sealed_days(conn: Any) -> list[date]:
    return [row["day"] for row in await conn.fetch("SELECT day FROM sealed_day ORDER BY day")]


# ------------------------------------------------------------------------------- sealing


async def test_days_are_sealed_in_order_without_gaps(conn: Any) -> None:
    await story(conn)
    sealed = await seal_days(conn, at(ago(1), 1))
    assert [(day.day, day.rows) for day in sealed] == [
        (ago(5), 2),
        (ago(4), 2),
        (ago(3), 0),
        (ago(2), 1),
    ]
    rows = await conn.fetch("SELECT * FROM sealed_day ORDER BY day")
    assert [row["hash"] for row in rows] == [day.hash for day in sealed]
    assert [row["previous"] for row in rows] == [None, *(day.hash for day in sealed[:-1])]
    assert len({day.hash for day in sealed}) == 4
    assert await seal_days(conn, at(ago(1), 1)) == []
    assert await audit(conn) == []


async def test_the_hash_is_what_the_docstring_says(conn: Any) -> None:
    """Anybody can compute it, without this program."""
    account_id = await story(conn)
    first, second = (await seal_days(conn, at(ago(3), 1)))[:2]
    low, high = [await conn.fetchval("SELECT id_from_time($1)", at(ago(n), 0)) for n in (5, 4)]
    rows = await conn.fetch(
        "SELECT * FROM ledger WHERE id >= $1 AND id < $2 ORDER BY account_id, id", low, high
    )
    credit, use = rows
    text = (
        f"{account_id}\t{credit['id']}\tadd\tpaid_in\t100000000\t100000000\t\\N\talice"
        "\tin\\tvoice\\n\n"
        f"{account_id}\t{use['id']}\tuse\tsold\t-1000000\t99000000\t{use['id']}\t\\N\t\\N\n"
    )
    begin = b"smpp-proxy ledger day, format 1\n"
    expected = hashlib.sha256(begin + bytes(32) + f"{ago(5)}\n{text}".encode()).digest()
    assert first.hash == expected
    assert second.hash != expected
    empty = hashlib.sha256(begin + second.hash + f"{ago(3)}\n".encode()).digest()
    await seal_days(conn, at(ago(2), 1))
    assert await conn.fetchval("SELECT hash FROM sealed_day WHERE day = $1", ago(3)) == empty


async def test_every_column_is_hashed(conn: Any) -> None:
    columns = await conn.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'ledger'::regclass AND attnum > 0"
        " AND NOT attisdropped"
    )
    selected = load("sealed_rows").split("SELECT ")[1].split("\nFROM")[0].split(", ")
    assert sorted(selected) == sorted(row["attname"] for row in columns)


@pytest.mark.parametrize(
    ("when", "days"), [((0, 59), 0), ((1, 0), 1), ((12, 0), 1)], ids=["early", "an hour", "noon"]
)
async def test_a_day_is_sealed_an_hour_after_its_end(
    conn: Any, when: tuple[int, int], days: int
) -> None:
    await story(conn)
    assert len(await seal_days(conn, at(ago(4), *when))) == days


async def test_the_time_zone_of_the_clock_does_not_matter(conn: Any) -> None:
    await story(conn)
    east = timezone(timedelta(hours=14))
    assert await seal_days(conn, at(ago(4), 0, 59).astimezone(east)) == []
    assert len(await seal_days(conn, at(ago(4), 1, 0).astimezone(east))) == 1


async def test_a_clock_that_is_ahead_seals_nothing_early(conn: Any) -> None:
    await story(conn)
    sealed = await seal_days(conn, now() + 1000 * DAY)
    assert [day.day for day in sealed if day.day >= today()] == []
    due = (now() - timedelta(hours=1)).date() - DAY
    assert sealed[-1].day == due


async def test_an_empty_ledger_has_no_days(conn: Any) -> None:
    assert await seal_days(conn, now()) == []
    account_id = await add_account(conn, "bob")
    await add_row(conn, account_id, now(), "add", MICRO)
    assert await seal_days(conn, now()) == []
    assert await audit(conn) == []


async def test_two_at_the_same_time_seal_once(database: Database) -> None:
    async with database.pool.acquire() as one, database.pool.acquire() as two:
        await story(one)
        results = await asyncio.gather(*(seal_days(c, at(ago(1), 1)) for c in (one, two)))
        assert sorted(day.day for days in results for day in days) == [ago(n) for n in (5, 4, 3, 2)]
        assert await audit(one) == []


async def test_who_seals_makes_nobody_wait(database: Database) -> None:
    async with database.pool.acquire() as one, database.pool.acquire() as two:
        await story(one)
        async with one.transaction():
            await one.execute("SELECT pg_advisory_xact_lock(hashtext('smpp_proxy_seals'))")
            assert await asyncio.wait_for(seal_days(two, at(ago(1), 1)), 5) == []
        assert len(await seal_days(two, at(ago(1), 1))) == 4


async def test_an_open_transaction_that_wrote_to_the_day_is_waited_for(database: Database) -> None:
    async with database.pool.acquire() as writer, database.pool.acquire() as sealer:
        account_id = await story(writer)
        transaction = writer.transaction()
        await transaction.start()
        await add_row(writer, account_id, at(ago(4), 5), "adjust", MICRO)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await seal_days(sealer, at(ago(1), 1))
        assert await sealed_days(sealer) == [ago(5)], "the days before are sealed"
        sealing = asyncio.create_task(seal_days(sealer, at(ago(1), 1)))
        await asyncio.sleep(0.1)
        await transaction.commit()
        sealed = await sealing
        assert (sealed[0].day, sealed[0].rows) == (ago(4), 3)
        assert await audit(sealer) == []


async def test_a_statement_timeout_does_not_stop_it(conn: Any) -> None:
    await story(conn)
    await conn.execute("SET statement_timeout = '1ms'")
    try:
        assert len(await seal_days(conn, at(ago(1), 1))) == 4
    finally:
        await conn.execute("RESET statement_timeout")


async def test_a_sealed_day_stands(conn: Any) -> None:
    await story(conn)
    await seal_days(conn, at(ago(1), 1))
    for statement in (
        "UPDATE sealed_day SET rows = 0",
        "DELETE FROM sealed_day",
        "TRUNCATE sealed_day",
    ):
        with pytest.raises(asyncpg.RaiseError, match="sealed_day is append-only"):
            await conn.execute(statement)


# --------------------------------------------------------------------------- what is found

TAMPERED = {
    "amount": "UPDATE ledger SET amount_micro = amount_micro + 1 WHERE operation = 'add'",
    "balance": "UPDATE ledger SET balance_micro = 0 WHERE operation = 'add'",
    "note": "UPDATE ledger SET note = 'invoice' WHERE operation = 'add'",
    "note from NULL to empty": "UPDATE ledger SET note = '' WHERE operation = 'use'",
    "note to the text of NULL": "UPDATE ledger SET note = '\\N' WHERE operation = 'use'",
    "actor": "UPDATE ledger SET actor = 'eve' WHERE operation = 'add'",
    "text from one column to the next": "UPDATE ledger SET actor = 'alice'"
    " || chr(9) || 'in', note = 'voice' || chr(10) WHERE operation = 'add'",
    "operation": "UPDATE ledger SET operation = 'grant' WHERE operation = 'add'",
    "counter": "UPDATE ledger SET counter = 'adjusted' WHERE operation = 'add'",
    "message": "UPDATE ledger SET message_id = 7 WHERE operation = 'add'",
    "id": "UPDATE ledger SET id = id + 1 WHERE operation = 'add'",
    "account": "UPDATE ledger SET account_id = account_id + 1 WHERE operation = 'add'",
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_a_changed_row_is_found(conn: Any, how: str) -> None:
    await story(conn)
    await seal_days(conn, at(ago(1), 1))
    async with tampering(conn):
        # Only of the first day: "use" rows are on others as well.
        low = await conn.fetchval("SELECT id_from_time($1)", at(ago(4), 0))
        await conn.execute(f"{TAMPERED[how]} AND id < {low}")
    assert await found(conn) == [f"the ledger of {ago(5)} has changed since it was sealed"]


async def test_a_deleted_row_is_found(conn: Any) -> None:
    await story(conn)
    await seal_days(conn, at(ago(1), 1))
    async with tampering(conn):
        await conn.execute("DELETE FROM ledger WHERE operation = 'refund'")
    assert await found(conn) == [
        f"the ledger of {ago(4)} has changed since it was sealed: 2 rows then, 1 now"
    ]


@pytest.mark.parametrize("days", [4, 3])
async def test_an_inserted_row_is_found(conn: Any, days: int) -> None:
    """No trigger refuses this: the hot path has no time to look."""
    account_id = await story(conn)
    await seal_days(conn, at(ago(1), 1))
    await add_row(conn, account_id, at(ago(days)), "adjust", MICRO)
    counts = {4: "2 rows then, 3 now", 3: "0 rows then, 1 now"}[days]
    assert await found(conn) == [
        f"the ledger of {ago(days)} has changed since it was sealed: {counts}"
    ]


async def test_a_row_before_the_first_day_is_found(conn: Any) -> None:
    account_id = await story(conn)
    await seal_days(conn, at(ago(1), 1))
    await add_row(conn, account_id, at(ago(6)), "adjust", MICRO)
    assert await found(conn) == [f"the ledger has rows of {ago(6)}, before the first sealed day"]


async def test_rows_that_change_places_are_found(conn: Any) -> None:
    """Two rows that swap their notes: as many rows, with the same values."""
    account_id = await story(conn)
    await add_row(conn, account_id, at(ago(4), 3), "add", MICRO, note="one")
    await add_row(conn, account_id, at(ago(4), 4), "add", MICRO, note="two")
    await seal_days(conn, at(ago(1), 1))
    async with tampering(conn):
        await conn.execute(
            "UPDATE ledger SET note = CASE note WHEN 'one' THEN 'two' ELSE 'one' END"
            " WHERE note IN ('one', 'two')"
        )
    assert await found(conn) == [f"the ledger of {ago(4)} has changed since it was sealed"]


async def test_a_new_hash_for_a_changed_day_is_found(conn: Any) -> None:
    await story(conn)
    await seal_days(conn, at(ago(1), 1))
    async with tampering(conn):
        await conn.execute("DELETE FROM ledger WHERE operation = 'refund'")
        # The forger seals that day anew, and leaves the days after it.
        rest = await conn.fetch("DELETE FROM sealed_day WHERE day >= $1 RETURNING *", ago(4))
        await seal_days(conn, at(ago(3), 1))
        await conn.executemany(
            "INSERT INTO sealed_day VALUES ($1, $2, $3, $4, $5)",
            [tuple(row) for row in rest if row["day"] > ago(4)],
        )
    assert await found(conn) == [f"the seal of {ago(3)} does not follow from that of {ago(4)}"]


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            "UPDATE sealed_day SET hash = sha256('x') WHERE day = $1",
            "the ledger of {0} has changed since it was sealed",
        ),
        (
            "UPDATE sealed_day SET rows = 9 WHERE day = $1",
            "the ledger of {0} has changed since it was sealed: 9 rows then, 2 now",
        ),
        ("DELETE FROM sealed_day WHERE day = $1", "day {0} is missing from the chain"),
        ("DELETE FROM sealed_day WHERE day < $1", "day {1} is missing from the chain"),
        (
            "DELETE FROM sealed_day WHERE day BETWEEN $1 AND $1 + 1",
            "day {0} to {2} is missing from the chain",
        ),
    ],
)
async def test_a_chain_that_was_changed_is_found(conn: Any, statement: str, finding: str) -> None:
    await story(conn)
    await seal_days(conn, at(ago(1), 1))
    async with tampering(conn):
        await conn.execute(statement, ago(4))
    assert finding.format(ago(4), ago(5), ago(3)) in await found(conn)


@pytest.mark.parametrize("first_gone", [2, 3, 5], ids=["the last", "two", "all"])
async def test_a_chain_that_was_cut_off_is_found(conn: Any, first_gone: int) -> None:
    """A proxy charged an hour ago, so a proxy that seals was at work since those days were due."""
    account_id = await story(conn)
    await seal_days(conn, at(ago(1), 1))
    async with tampering(conn):
        await conn.execute("DELETE FROM sealed_day WHERE day >= $1", ago(first_gone))
    assert await found(conn) == [], "nobody was at work since the database was made"
    await conn.execute("UPDATE migration SET applied_at = $1", at(ago(6)))
    await add_message(conn, account_id, at(ago(1), 1, 1))
    cut = [f"day {ago(first_gone)} is missing from the chain, and every day since"]
    assert await found(conn) == cut


async def test_credits_that_a_command_adds_need_no_proxy(conn: Any) -> None:
    """Without a proxy nobody seals; that is no fault of the books."""
    account_id = await story(conn)
    await conn.execute("UPDATE migration SET applied_at = $1", at(ago(6)))
    assert (await seal_days(conn, at(ago(2), 1)))[-1].day == ago(3)
    due = at(ago(1), 1)
    await add_row(conn, account_id, due + timedelta(minutes=1), "add", MICRO)
    assert await found(conn) == []
    await add_message(conn, account_id, due - timedelta(minutes=1))
    assert await found(conn) == []
    await add_message(conn, account_id, due + timedelta(minutes=1))
    assert await found(conn) == [f"day {ago(2)} is missing from the chain, and every day since"]


def test_links() -> None:
    first, second = bytes(32), bytes([1] * 32)
    days = [
        {"day": date(2026, 11, 1), "previous": None, "hash": first},
        {"day": date(2026, 11, 2), "previous": first, "hash": second},
    ]
    assert broken_links([]) == broken_links(days[:1]) == broken_links(days) == []
    assert broken_links(days[1:]) == ["day 2026-11-01 is missing from the chain"]
    assert broken_links([days[0], days[1] | {"day": date(2026, 11, 5)}]) == [
        "day 2026-11-02 to 2026-11-04 is missing from the chain"
    ]
    assert broken_links([days[0], days[1] | {"previous": second}]) == [
        "the seal of 2026-11-02 does not follow from that of 2026-11-01"
    ]


async def test_many_findings_are_cut(conn: Any) -> None:
    await story(conn)
    await seal_days(conn, at(ago(1), 1))
    async with tampering(conn):
        await conn.execute("UPDATE sealed_day SET hash = sha256(day::text::bytea)")
    assert len(await verify_seals(conn, 100)) == 3 + 4
    assert len(await verify_seals(conn, 5)) == 5


async def test_it_is_right_while_a_day_is_sealed(database: Database) -> None:
    async with database.pool.acquire() as sealer, database.pool.acquire() as auditor:
        await story(sealer)
        for day in (5, 4, 3, 2):
            results = await asyncio.gather(audit(auditor), seal_days(sealer, at(ago(day - 1), 1)))
            assert results[0] == [] and len(results[1]) == 1


# -------------------------------------------------------------------------------- the flow


async def test_a_proxy_seals_and_logs_the_hash(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    async with database.pool.acquire() as conn:
        await story(conn)
    work = Seal(lambda: database.pool, lambda: at(ago(4), 1))
    [sealed] = await work.once()
    assert isinstance(sealed, SealedDay) and sealed.day == ago(5)
    out = capsys.readouterr().out
    assert "day_sealed" in out and sealed.hash.hex() in out
    assert await work.once() == []


async def test_it_outlives_a_database_that_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    async with database.pool.acquire() as conn:
        await story(conn)
    monkeypatch.setattr(seal, "_EVERY_S", 0.01)
    calls = 0

    def pool() -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionRefusedError("away")
        if calls == 2:
            raise RuntimeError("a bug")
        return database.pool

    task = asyncio.create_task(Seal(pool, lambda: at(ago(1), 1)).run())
    try:
        async with database.pool.acquire() as conn:

            async def done() -> bool:
                return len(await sealed_days(conn)) == 4

            await eventually(done)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert calls >= 3
