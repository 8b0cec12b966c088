"""Statements: what is in a period, and that the figures add up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from typing import Any, get_args

import pytest
from support.past import MICRO, add_account, add_message, add_row, first_id, make_partitions

from proxy.store.audit import audit
from proxy.store.database import Database
from proxy.store.sql import load
from proxy.store.statements import FETCH, By, Statement, credit_log, snapshot, statement, usage

FIRST, LAST = date(2026, 10, 23), date(2026, 11, 4)
OPERATIONS = ["add", "use", "refund", "expire", "grant", "adjust"]


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[Any]:
    async with database.pool.acquire() as connection:
        await make_partitions(connection, FIRST, LAST)
        yield connection


def utc(month: int, day: int, hour: int = 0, minute: int = 0, us: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, 0, us, UTC)


async def of(conn: Any, *period: Any, by: By | None = None, name: str = "bob") -> Statement:
    found = await statement(conn, name, *period, by=by)
    assert found is not None
    changes = sum(total.change for total in found.totals.values())
    assert found.opening + changes == found.closing, "it adds up"
    assert list(found.totals) == OPERATIONS
    return found


async def log_of(conn: Any, found: Statement) -> list[dict[str, Any]]:
    async with snapshot(conn):
        rows = [row async for row in credit_log(conn, found)]
    assert not rows or rows[-1]["balance"] == found.closing
    return rows


def figures(found: Statement) -> dict[Any, tuple[Any, ...]]:
    """By group: messages, segments, price, released, cost, margin."""
    assert found.by is not None
    assert list(found.usage) == sorted(
        found.usage, key=lambda r: (r[found.by] is None, r[found.by])
    )
    return {row[found.by]: tuple(row.values())[1:] for row in found.usage}


# ---------------------------------------------------------------------------- the period


async def test_from_is_inside_and_to_is_not(conn: Any) -> None:
    bob = await add_account(conn, "bob")
    for micro, when in (
        (1, utc(10, 31, 23, 59)),
        (10, utc(11, 1)),
        (100, utc(11, 1, us=1)),
        (1000, utc(11, 2) - timedelta(microseconds=1)),
        (10_000, utc(11, 2)),
    ):
        await add_row(conn, bob, when, "add", micro * MICRO)
    found = await of(conn, utc(11, 1), utc(11, 2))
    assert (found.opening, found.closing) == (1, 1111)
    assert found.totals["add"] == (3, 1110)
    assert (found.period.start, found.period.end) == (utc(11, 1), utc(11, 2))
    by_day = await of(conn, date(2026, 11, 1), date(2026, 11, 1))
    assert by_day == found, "the last day is inside"
    assert [row["change"] for row in await log_of(conn, found)] == [10, 100, 1000]
    # The first id of a moment: node 0, as commands.
    for day in (1, 2):
        await add_row(
            conn, bob, utc(11, day), "adjust", MICRO, row_id=first_id(date(2026, 11, day))
        )
    found = await of(conn, utc(11, 1), utc(11, 2))
    assert (found.opening, found.closing, found.totals["adjust"]) == (1, 1112, (1, 1))
    assert [row["change"] for row in await log_of(conn, found)] == [1, 10, 100, 1000]
    nothing = await of(conn, utc(11, 1), utc(11, 1))
    assert (nothing.opening, nothing.closing, nothing.totals["add"].rows) == (1, 1, 0)
    assert await log_of(conn, nothing) == []


async def test_periods_that_meet_leave_nothing_out(conn: Any) -> None:
    bob = await add_account(conn, "bob", "Europe/London")
    for hour in range(0, 13 * 24, 5):
        await add_row(conn, bob, utc(10, 23) + timedelta(hours=hour), "add", (hour + 1) * MICRO)
    days = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days)]
    found = [await of(conn, day, day) for day in days]
    for one, next_one in pairwise(found):
        assert one.closing == next_one.opening
        assert one.period.end == next_one.period.start
    whole = await of(conn, days[0], days[-1])
    assert (whole.opening, whole.closing) == (found[0].opening, found[-1].closing)
    assert whole.totals["add"].rows == sum(one.totals["add"].rows for one in found)


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("UTC", date(2026, 10, 25), utc(10, 25), 24),
        ("Europe/London", date(2026, 10, 25), utc(10, 24, 23), 25),
        ("Europe/London", date(2026, 3, 29), utc(3, 29), 23),
        ("Asia/Kolkata", date(2026, 11, 1), utc(10, 31, 18, 30), 24),
        ("America/New_York", date(2026, 11, 1), utc(11, 1, 4), 25),
        ("Australia/Lord_Howe", date(2026, 10, 4), utc(10, 3, 13, 30), 23.5),
        ("Atlantic/Azores", date(2026, 10, 25), utc(10, 25, 0), 25),  # midnight comes twice
        ("Atlantic/Azores", date(2026, 10, 24), utc(10, 24, 0), 24),
        ("Atlantic/Azores", date(2026, 10, 26), utc(10, 26, 1), 24),
        ("America/Havana", date(2026, 11, 1), utc(11, 1, 4), 25),  # the same
        ("Asia/Beirut", date(2026, 3, 29), utc(3, 28, 22), 23),  # midnight does not come
    ],
)
async def test_a_day_is_that_of_the_account(
    conn: Any, zone: str, day: date, start: datetime, hours: float
) -> None:
    await add_account(conn, "bob", zone)
    period = (await of(conn, day, day)).period
    assert period.timezone == zone
    assert (period.start, period.end) == (start, start + timedelta(hours=hours))
    # What belongs to the day by the clock on the wall is inside, and nothing else.
    inside = "SELECT ($1::timestamptz AT TIME ZONE $2)::date"
    moment = timedelta(microseconds=1)
    assert await conn.fetchval(inside, period.start, zone) == day
    assert await conn.fetchval(inside, period.end - moment, zone) == day
    assert await conn.fetchval(inside, period.end, zone) == day + timedelta(days=1)
    assert await conn.fetchval(inside, period.start - moment, zone) == day - timedelta(days=1)


async def test_usage_by_day_agrees_with_the_days(conn: Any) -> None:
    """An hour a message, over the day on which clocks are put back."""
    for name, zone in (("bob", "Europe/London"), ("eve", "Atlantic/Azores")):
        account_id = await add_account(conn, name, zone)
        await conn.execute(
            "UPDATE account SET credit_limit_micro = 10^12 WHERE id = $1", account_id
        )
        for hour in range(96):
            await add_message(conn, account_id, utc(10, 24) + timedelta(hours=hour))
        month = await of(conn, date(2026, 10, 24), date(2026, 10, 26), by="day", name=name)
        assert {day: row[0] for day, row in figures(month).items()} == {
            "2026-10-24": 24 if name == "eve" else 23,  # London's began at 23:00 UTC
            "2026-10-25": 25,
            "2026-10-26": 24,
        }
        for day, row in figures(month).items():
            one = await of(conn, date.fromisoformat(day), date.fromisoformat(day), name=name)
            assert one.totals["use"].rows == row[0]


async def test_moments_may_be_in_any_zone(conn: Any) -> None:
    await add_account(conn, "bob", "Asia/Tokyo")
    east = timezone(timedelta(hours=5))
    aware = await of(conn, datetime(2026, 11, 1, 5, tzinfo=east), utc(11, 2))
    assert (aware.period.start, aware.period.end) == (utc(11, 1), utc(11, 2))
    naive = await of(conn, datetime(2026, 11, 1, 9), datetime(2026, 11, 2, 9))
    assert naive.period == aware.period
    assert naive.period.local_start == datetime(2026, 11, 1, 9)


async def test_without_a_period_it_is_this_month(conn: Any) -> None:
    await add_account(conn, "bob", "Pacific/Kiritimati")
    period = (await of(conn, None, None)).period
    now = await conn.fetchval("SELECT now()")
    assert now - timedelta(minutes=1) < period.end <= now
    assert period.local_start == period.local_end.replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    october = (await of(conn, None, date(2026, 10, 31))).period
    assert october.local_start == datetime(2026, 10, 1)
    assert october.local_end == datetime(2026, 11, 1)
    middle = (await of(conn, None, datetime(2026, 10, 15, 3))).period
    assert middle.local_start == datetime(2026, 10, 1)
    since = (await of(conn, date(2026, 1, 2), None)).period
    assert since.end > now and since.local_start == datetime(2026, 1, 2)


async def test_a_period_that_ends_before_it_begins_is_refused(conn: Any) -> None:
    await add_account(conn, "bob")
    for period in (
        (utc(11, 2), utc(11, 1)),
        (date(2026, 11, 2), date(2026, 10, 31)),
        (date(2199, 1, 1), None),
    ):
        with pytest.raises(ValueError, match="ends before it begins"):
            await statement(conn, "bob", *period)
    assert (await of(conn, date(2026, 11, 2), date(2026, 11, 2))).closing == 0


@pytest.mark.parametrize(
    "period", [(date.min, date.max), (datetime.min, datetime.max), (date(2400, 1, 1), date.max)]
)
async def test_far_away_times_are_harmless(conn: Any, period: tuple[date, date]) -> None:
    bob = await add_account(conn, "bob")
    await add_row(conn, bob, utc(11, 1), "add", MICRO)
    found = await of(conn, *period)
    assert found.closing == 1


async def test_an_account_that_is_not_there(conn: Any) -> None:
    assert await statement(conn, "nobody", None, None) is None


async def test_an_account_without_rows(conn: Any) -> None:
    await add_account(conn, "bob")
    for by in get_args(By):
        found = await of(conn, FIRST, LAST, by=by)
        assert (found.opening, found.closing, found.usage) == (0, 0, [])
        assert set(found.totals.values()) == {(0, 0)}
    assert await log_of(conn, found) == []


# --------------------------------------------------------------------------- the balances


async def test_every_operation_has_its_total(conn: Any) -> None:
    bob, eve = await add_account(conn, "bob"), await add_account(conn, "eve")
    await add_row(conn, bob, utc(10, 25), "grant", 50 * MICRO)
    for number, (operation, micro) in enumerate(
        [
            ("add", 100 * MICRO),
            ("grant", 20 * MICRO),
            ("grant", 5 * MICRO),
            ("add", -3 * MICRO),
            ("adjust", -MICRO // 2),
            ("expire", -7 * MICRO),
            ("expire", -1),
        ]
    ):
        await add_row(conn, bob, utc(11, 1, number), operation, micro)
    await add_message(conn, bob, utc(11, 1, 9), price_micro=4 * MICRO)
    await add_message(conn, bob, utc(11, 1, 10), price_micro=6 * MICRO, state="released")
    await add_row(conn, bob, utc(11, 3), "add", 1000 * MICRO)
    await add_row(conn, eve, utc(11, 1), "add", 999 * MICRO)
    found = await of(conn, date(2026, 11, 1), date(2026, 11, 1))
    assert found.opening == 50
    assert found.totals == {
        "add": (2, 97),
        "use": (2, -10),
        "refund": (1, 6),
        "expire": (2, Decimal("-7.000001")),
        "grant": (2, 25),
        "adjust": (1, Decimal("-0.5")),
    }
    assert found.closing == Decimal("160.499999")
    assert await audit(conn) == []


async def test_rows_that_were_written_in_another_order_than_their_ids(conn: Any) -> None:
    """The balance that is noted in the last row by id is not the balance then."""
    bob = await add_account(conn, "bob")
    await add_row(conn, bob, utc(10, 31, 12), "add", 100 * MICRO)
    await add_row(conn, bob, utc(10, 31, 14), "use", -MICRO)  # balance 99
    await add_row(conn, bob, utc(10, 31, 13), "use", -2 * MICRO)  # balance 97, a smaller id
    found = await of(conn, utc(11, 1), utc(11, 2))
    assert (found.opening, found.closing) == (97, 97)
    october = await of(conn, date(2026, 10, 31), date(2026, 10, 31))
    assert [(r["change"], r["balance"]) for r in await log_of(conn, october)] == [
        (100, 100),
        (-2, 98),
        (-1, 97),
    ]


async def test_a_debt_and_large_amounts(conn: Any) -> None:
    bob = await add_account(conn, "bob")
    await conn.execute("UPDATE account SET credit_limit_micro = 10^12")
    await add_message(conn, bob, utc(10, 31), price_micro=5 * MICRO)
    assert (await of(conn, FIRST, LAST)).closing == -5
    await add_row(conn, bob, utc(11, 1), "add", 9 * 10**17)
    found = await of(conn, utc(11, 1), utc(11, 2))
    assert (found.opening, found.closing) == (-5, 900_000_000_000 - 5)


async def test_the_log(conn: Any) -> None:
    bob = await add_account(conn, "bob")
    await add_row(conn, bob, utc(10, 31), "add", 10 * MICRO)
    added = utc(11, 1, 8)
    await add_row(conn, bob, added, "add", 5 * MICRO, actor="alice", note="=1+1")
    message = await add_message(
        conn, bob, utc(11, 1, 9), price_micro=2 * MICRO, state="released", back_at=utc(11, 1, 10)
    )
    await add_row(conn, bob, utc(11, 1, 11), "expire", -MICRO, note="what was left")
    rows = await log_of(conn, await of(conn, utc(11, 1), utc(11, 2)))
    assert list(rows[0]) == ["at", "by", "operation", "change", "balance", "message_id", "note"]
    assert [tuple(row.values())[1:] for row in rows] == [
        ("alice", "add", 5, 15, None, "=1+1"),
        ("bob", "use", -2, 13, message, None),
        ("smpp-proxy", "refund", 2, 15, message, None),
        ("smpp-proxy", "expire", -1, 14, None, "what was left"),
    ]
    assert rows[0]["at"] == added


async def test_the_log_agrees_with_the_view(conn: Any) -> None:
    bob = await add_account(conn, "bob")
    await add_row(conn, bob, utc(10, 31), "add", 10 * MICRO, actor="alice")
    await add_message(conn, bob, utc(11, 1), state="released", back_at=utc(11, 2))
    view = await conn.fetch(
        "SELECT at, actor AS by, operation, change, balance, message_id, note FROM v_credit_log"
        " WHERE account = 'bob' ORDER BY id"
    )
    assert await log_of(conn, await of(conn, FIRST, LAST)) == [dict(row) for row in view]


async def test_a_log_of_more_rows_than_are_fetched_at_once(conn: Any) -> None:
    bob = await add_account(conn, "bob")
    await conn.execute(
        "INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro)"
        " SELECT id_from_time($2) + (n << 10), $1, 'add', 'paid_in', 1000000, 0"
        " FROM generate_series(1, $3::bigint) n",
        bob,
        utc(11, 1),
        2 * FETCH + 5,
    )
    rows = await log_of(conn, await of(conn, FIRST, LAST))
    assert [row["balance"] for row in rows] == list(range(1, 2 * FETCH + 6))


# ------------------------------------------------------------------------------- the usage


async def prices(conn: Any) -> dict[str, int]:
    rows = await conn.fetch(
        "INSERT INTO price (tariff_id, prefix, service, price_micro)"
        ' SELECT 1, * FROM unnest(\'{44,447,44,49}\'::text[], \'{"","",binary,""}\'::text[],'
        " '{1000000,2000000,3000000,4000000}'::bigint[]) RETURNING prefix || service AS key, id"
    )
    return {row["key"]: row["id"] for row in rows}


async def story(conn: Any) -> int:
    """A message of every fate, and more outside of November 1 and 2; returns the account."""
    price = await prices(conn)
    bob, eve = await add_account(conn, "bob"), await add_account(conn, "eve")
    for account_id in (bob, eve):
        await add_row(conn, account_id, utc(10, 25), "add", 1000 * MICRO)
    c = MICRO
    at = utc(11, 1, 12)
    await add_message(conn, bob, utc(10, 31, 12), price_id=price["44"])
    await add_message(conn, bob, at, price_id=price["44"], sender="one", cost_micro=c // 2)
    await add_message(  # charged on delivery, not delivered yet
        conn, bob, at, price_id=price["44"], sender="one", awaits=True, cost_micro=c // 4
    )
    await add_message(  # released later, and the carrier keeps its part
        conn, bob, at, segments=2, price_micro=4 * c, price_id=price["447"], sender="two",
        state="released", back_at=utc(11, 4), cost_micro=c,
    )  # fmt: skip
    await add_message(  # submit_multi: two of three taken
        conn, bob, at, command_id=0x21, destination="441,442,49", segments=3, price_micro=6 * c,
        price_id=price["44"], sender="two", back_micro=4 * c,
    )  # fmt: skip
    tomorrow = at + timedelta(days=1)
    await add_message(
        conn, bob, tomorrow, price_id=price["44binary"], price_micro=3 * c, state=None
    )
    await add_message(conn, bob, tomorrow, state="in_doubt", sender="=cmd")
    await add_message(conn, bob, utc(11, 3), price_id=price["44"])
    await add_message(conn, eve, at, price_id=price["44"], sender="one")
    return bob


WHEN = (date(2026, 11, 1), date(2026, 11, 2))


async def test_usage_by_day(conn: Any) -> None:
    await story(conn)
    assert figures(await of(conn, *WHEN, by="day")) == {
        "2026-11-01": (4, 7, 12, 8, Decimal("1.75"), Decimal("0.25")),
        "2026-11-02": (2, 2, 4, 0, None, None),
    }


async def test_usage_by_prefix(conn: Any) -> None:
    """A message from before there were prices has none."""
    await story(conn)
    assert figures(await of(conn, *WHEN, by="prefix")) == {
        "44": (4, 6, 11, 4, Decimal("0.75"), Decimal("1.25")),
        "447": (1, 2, 4, 4, 1, -1),
        None: (1, 1, 1, 0, None, None),
    }


async def test_usage_by_sender_state_and_service(conn: Any) -> None:
    await story(conn)
    assert figures(await of(conn, *WHEN, by="sender")) == {
        "=cmd": (1, 1, 1, 0, None, None),
        "me": (1, 1, 3, 0, None, None),
        "one": (2, 2, 2, 0, Decimal("0.75"), Decimal("1.25")),
        "two": (2, 5, 10, 8, 1, -1),
    }
    assert {k: v[:4] for k, v in figures(await of(conn, *WHEN, by="state")).items()} == {
        "accepted": (1, 1, 1, 0),
        "charged": (2, 4, 7, 4),
        "held": (1, 1, 3, 0),
        "in_doubt": (1, 1, 1, 0),
        "released": (1, 2, 4, 4),
    }
    assert {k: v[:4] for k, v in figures(await of(conn, *WHEN, by="service")).items()} == {
        "": (4, 7, 12, 8),
        "binary": (1, 1, 3, 0),
        None: (1, 1, 1, 0),
    }


@pytest.mark.parametrize("by", get_args(By))
async def test_usage_agrees_with_the_ledger_and_with_v_message(conn: Any, by: By) -> None:
    await story(conn)
    found = await of(conn, *WHEN, by=by)
    sums = [sum(row[n] or 0 for row in figures(found).values()) for n in range(6)]
    assert sums[2] == -found.totals["use"].change
    assert sums[0] == found.totals["use"].rows
    view = await conn.fetchrow(
        "SELECT count(*), sum(segments), sum(price), sum(released), sum(cost), sum(margin)"
        " FROM v_message WHERE account = 'bob' AND submitted_at >= '2026-11-01Z'"
        " AND submitted_at < '2026-11-03Z'"
    )
    assert sums == list(view)


async def test_a_refund_in_the_period_of_a_message_before_it(conn: Any) -> None:
    await story(conn)
    found = await of(conn, date(2026, 11, 4), date(2026, 11, 4), by="state")
    assert found.totals["refund"] == (1, 4)
    assert found.usage == []


async def test_usage_that_is_read_row_by_row(conn: Any) -> None:
    bob = await add_account(conn, "bob")
    await conn.execute(
        "INSERT INTO message (id, account_id, login_id, command_id, source_addr,"
        " destination_addr, segments, price_micro, esm_class, data_coding, registered_delivery)"
        " SELECT id_from_time($2) + (n << 10), $1, 1, 4, 'sender ' || n, '44', 1, 1, 0, 0, 0"
        " FROM generate_series(1, $3::bigint) n",
        bob,
        utc(11, 1),
        2 * FETCH + 5,
    )
    found = await statement(conn, "bob", FIRST, LAST)
    assert found is not None and found.by is None and found.usage == []
    async with snapshot(conn):
        senders = [row["sender"] async for row in usage(conn, found.period, "sender")]
    assert len(senders) == 2 * FETCH + 5 and senders == sorted(senders)


# ----------------------------------------------------------------------- how it is worked out


@pytest.mark.parametrize("name", ["statement_totals", "statement_usage", "statement_log"])
async def test_only_the_days_of_the_period_are_read(conn: Any, name: str) -> None:
    bob = await story(conn)
    ids = [await conn.fetchval("SELECT id_from_time($1)", utc(11, day)) for day in (1, 3)]
    more = {"statement_usage": ("day", "UTC"), "statement_log": (0,)}.get(name, ())
    plan = await conn.fetch("EXPLAIN " + load(name), bob, *ids, *more)
    text = "\n".join(row[0] for row in plan)
    assert "_20261101" in text and "_20261102" in text
    for day in ("20261031", "20261103"):
        assert f"_{day}" not in text


async def test_all_of_a_statement_is_of_one_moment(database: Database, conn: Any) -> None:
    bob = await story(conn)
    async with snapshot(conn):
        before = await of(conn, FIRST, LAST, by="state")
        async with database.pool.acquire() as other:
            await add_message(other, bob, utc(11, 1))
        assert await of(conn, FIRST, LAST, by="state") == before
        rows = [row async for row in credit_log(conn, before)]
        assert rows[-1]["balance"] == before.closing
    assert await of(conn, FIRST, LAST, by="state") != before


async def test_it_adds_up_while_traffic_flows(database: Database, conn: Any) -> None:
    bob = await add_account(conn, "bob")
    await add_row(conn, bob, utc(10, 25), "add", 100_000 * MICRO)
    stop = asyncio.Event()

    async def flow(hour: int) -> None:
        async with database.pool.acquire() as other:
            while not stop.is_set():
                async with other.transaction():
                    await add_message(other, bob, utc(11, 1, hour), state="released")

    async with asyncio.TaskGroup() as group:
        for hour in (1, 2):
            group.create_task(flow(hour))
        for _ in range(20):
            async with snapshot(conn):
                found = await of(conn, *WHEN, by="state")
                rows = [row async for row in credit_log(conn, found)]
                assert not rows or rows[-1]["balance"] == found.closing
                sent = sum(row["price"] for row in found.usage)
                assert sent == -found.totals["use"].change
        stop.set()
