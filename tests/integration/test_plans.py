"""Plans: once per period of the account's calendar, whatever the clocks and proxies do."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs
from support.purse import MICRO, Purse, new_purse
from typer.testing import CliRunner

from proxy import cli
from proxy.credit.money import MAX_MICRO
from proxy.credit.plans import valid_timezone
from proxy.flow.grants import Grants
from proxy.store import history, plans
from proxy.store.audit import audit
from proxy.store.credit import add_credit
from proxy.store.database import Database
from proxy.store.grants import expire_due, grants_of
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.outcomes import NotFound, Refused
from proxy.store.plans import Assigned, Done, Granted

# Days on which messages are charged are far ahead: what is due by its own clock charge_batch
# expires.  2082 to 2084 have the calendar of 2026 to 2028.
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Subscriber:
    """An account with a plan, and proxies that come by at moments that the test chooses."""

    def __init__(self, purse: Purse, plan: str) -> None:
        self.purse = purse
        self.conn = purse.conn
        self.plan = plan
        self.mint = IdMint(1)

    async def assign(self, now: datetime) -> Any:
        return await plans.assign(
            self.conn, self.plan, self.purse.name, by="anna", mint=IdMint(COMMAND_NODE), now=now
        )

    async def end(self, now: datetime) -> Any:
        return await plans.end(self.conn, self.plan, self.purse.name, "anna", now)

    async def come_by(self, now: datetime) -> list[str]:
        """A proxy grants and expires; returns the periods it granted for."""
        granted = await plans.grant_due(self.conn, self.mint, now)
        await expire_due(self.conn, now)
        return [one.period for one in granted]

    async def at(self, now: datetime) -> int:
        """The balance once a proxy came by."""
        await self.come_by(now)
        return await self.purse.balance()


async def subscribe(
    conn: Any,
    every: plans.Every,
    credits: int = 100,
    *,
    roll_over: bool = False,
    timezone: str = "UTC",
    name: str = "anna",
    limit: int = 0,
) -> Subscriber:
    """A new account, and a plan that is not assigned yet."""
    await plans.create_plan(conn, f"plan-{name}", credits * MICRO, every, roll_over, "anna")
    purse = await new_purse(conn, name, timezone=timezone, limit=limit)
    return Subscriber(purse, f"plan-{name}")


# -------------------------------------------------------------------- creating, listing


async def test_plans_are_created_and_listed(conn: Any) -> None:
    made = await plans.create_plan(conn, "monthly", 100 * MICRO, "month", False, "anna")
    assert isinstance(made, Done)
    again = await plans.create_plan(conn, "monthly", MICRO, "day", False, "anna")
    assert again == Refused("there is already a plan 'monthly'")
    assert isinstance(await plans.create_plan(conn, "a b", MICRO, "day", False, "anna"), Refused)
    assert isinstance(await plans.create_plan(conn, "none", 0, "day", False, "anna"), Refused)
    wrong: Any = "year"
    assert isinstance(await plans.create_plan(conn, "x", MICRO, wrong, False, "anna"), Refused)
    await plans.create_plan(conn, "daily", 2_500_000, "day", True, "anna")
    daily, monthly = await plans.list_plans(conn)
    assert (daily["name"], daily["every"], daily["roll_over"]) == ("daily", "day", True)
    assert (str(daily["credits"]), monthly["credits"]) == ("2.5", 100)
    assert monthly["accounts"] == [] and monthly["roll_over"] is False
    texts = [event["text"] for event in await history.events(conn, kind="plan_added")]
    assert sorted(texts) == [
        "Plan daily added: 2.5 credits each day, rolling over by anna",
        "Plan monthly added: 100 credits each month by anna",
    ]


async def test_assigning_grants_the_current_period_at_once(conn: Any) -> None:
    one = await subscribe(conn, "month")
    outcome = await one.assign(utc("2082-11-22T12:00"))
    assert isinstance(outcome, Assigned) and outcome.granted is not None
    assert outcome.granted.period == "2082-11"
    assert outcome.granted.expires_at == utc("2082-12-01T00:00")
    assert outcome.granted.balance_micro == 100 * MICRO
    [row] = await history.credit_log(conn, "anna")
    assert (row["operation"], row["by"], row["change"]) == ("grant", "anna", 100)
    assert row["note"] == "plan plan-anna, 2082-11"
    [grant] = await grants_of(conn, "anna")
    assert (grant["left"], grant["expires_at"]) == (100, utc("2082-12-01T00:00"))
    texts = {event["text"] for event in await history.events(conn, account="anna")}
    assert texts == {"Plan plan-anna assigned by anna", "Credits granted: 100 by plan plan-anna"}
    [plan] = await plans.list_plans(conn)
    assert plan["accounts"] == ["anna"]
    assert await one.come_by(utc("2082-11-22T12:00:01")) == []
    assert await one.assign(utc("2082-11-23T12:00")) == Refused(
        "account 'anna' has plan 'plan-anna' already"
    )
    await one.purse.assert_books_balance()


async def test_what_does_not_exist(conn: Any) -> None:
    one = await subscribe(conn, "day")
    now = utc("2082-11-22T12:00")
    assert await one.end(now) == Refused("account 'anna' does not have plan 'plan-anna'")
    for plan, account, reason in [
        ("gold", "anna", "there is no plan 'gold'"),
        ("plan-anna", "bob", "there is no account 'bob'"),
    ]:
        mint = IdMint(COMMAND_NODE)
        assigned = await plans.assign(conn, plan, account, by="anna", mint=mint, now=now)
        assert assigned == NotFound(reason)
        assert await plans.end(conn, plan, account, "anna", now) == NotFound(reason)
    assert await plans.remove_plan(conn, "gold", "anna") == NotFound("there is no plan 'gold'")


async def test_a_plan_that_an_account_has_is_not_removed(conn: Any) -> None:
    one = await subscribe(conn, "day")
    now = utc("2082-11-22T12:00")
    await one.assign(now)
    refused = await plans.remove_plan(conn, "plan-anna", "anna")
    assert refused == Refused("1 account has plan 'plan-anna': end it first")
    assert isinstance(await one.end(now), Done)
    assert isinstance(await plans.remove_plan(conn, "plan-anna", "anna"), Done)
    assert await plans.list_plans(conn) == []
    assert await one.purse.balance() == 100
    assert await one.at(now + DAY) == 0, "what it granted still expires"
    await one.purse.assert_books_balance()


# ------------------------------------------------------------------------ the calendar


async def test_a_month_ends_at_its_last_second(conn: Any) -> None:
    one = await subscribe(conn, "month")
    await one.assign(utc("2083-01-31T23:59:58"))
    await one.purse.add(1)
    await one.purse.charge(30)
    assert await one.at(utc("2083-01-31T23:59:59")) == 71
    # The new credits come, what was left of the old ones goes.
    assert await one.come_by(utc("2083-02-01T00:00:00")) == ["2083-02"]
    assert [row for row in await one.purse.log() if row[0] != "add"] == [
        ("grant", 100, 100), ("use", -30, 71), ("grant", 100, 171), ("expire", -70, 101),
    ]  # fmt: skip
    for end in ("2083-02-28T23:59:59", "2083-03-31T23:59:59", "2083-04-30T23:59:59"):
        assert await one.come_by(utc(end) - SECOND) in ([], [end[:7]])
        assert await one.come_by(utc(end)) == []
        after = utc(end) + SECOND
        assert await one.come_by(after) == [f"{after:%Y-%m}"]
        assert await one.purse.balance() == 101
    await one.purse.assert_books_balance()


async def test_a_leap_day_is_a_day(conn: Any) -> None:
    one = await subscribe(conn, "day")
    await one.assign(utc("2084-02-27T12:00"))
    granted = [await one.come_by(utc("2084-02-27T12:00") + n * DAY) for n in range(1, 5)]
    assert granted == [["2084-02-28"], ["2084-02-29"], ["2084-03-01"], ["2084-03-02"]]
    assert await one.purse.balance() == 100


async def test_a_week_begins_on_monday(conn: Any) -> None:
    one = await subscribe(conn, "week", timezone="Asia/Tokyo")
    await one.assign(utc("2082-12-30T12:00"))
    assert await one.come_by(utc("2083-01-03T14:59:59")) == []
    assert await one.come_by(utc("2083-01-03T15:00:00")) == ["2083-W01"]
    periods = await conn.fetch("SELECT period FROM plan_grant ORDER BY 1")
    assert [row["period"] for row in periods] == [date(2082, 12, 28), date(2083, 1, 4)]


@pytest.mark.parametrize(
    ("timezone", "before", "starts_at", "ends_at"),
    [
        ("Europe/Berlin", "2025-03-29T12:00", "2025-03-29T23:00", "2025-03-30T22:00"),
        ("Europe/Berlin", "2025-10-25T12:00", "2025-10-25T22:00", "2025-10-26T23:00"),
        # No midnight: the day begins at 01:00.
        ("Africa/Cairo", "2025-04-24T12:00", "2025-04-24T22:00", "2025-04-25T21:00"),
        # Put back from midnight to 23:00.
        ("Africa/Cairo", "2025-10-29T12:00", "2025-10-29T21:00", "2025-10-30T22:00"),
        ("America/New_York", "2025-11-01T12:00", "2025-11-02T04:00", "2025-11-03T05:00"),
    ],
)
async def test_days_when_the_clock_changes(
    conn: Any, timezone: str, before: str, starts_at: str, ends_at: str
) -> None:
    one = await subscribe(conn, "day", timezone=timezone)
    await one.assign(utc(before))
    assert await one.come_by(utc(starts_at) - SECOND) == []
    assert len(await one.come_by(utc(starts_at))) == 1
    [grant] = await grants_of(conn, "anna")
    assert grant["expires_at"] == utc(ends_at)
    hour = utc(starts_at)
    while hour < utc(ends_at):
        assert await one.come_by(hour) == []
        hour += timedelta(minutes=30)
    assert await one.come_by(utc(ends_at) - SECOND) == []
    assert await one.purse.balance() == 100
    assert len(await one.come_by(utc(ends_at))) == 1
    assert [op for op, *_ in await one.purse.log()] == [
        "grant", "grant", "expire", "grant", "expire",
    ]  # fmt: skip
    await one.purse.assert_books_balance()


# ---------------------------------------------------------------------------- downtime


async def test_a_week_without_a_proxy(conn: Any) -> None:
    start = utc("2082-11-22T12:00")
    expiring = await subscribe(conn, "day")
    rolling = await subscribe(conn, "day", roll_over=True, name="bob")
    for one in (expiring, rolling):
        await one.assign(start)
        await one.purse.charge(40)
    granted = await plans.grant_due(conn, IdMint(1), start + 7 * DAY)
    await expire_due(conn, start + 7 * DAY)
    by_account = {
        one.purse.account_id: [g.period for g in granted if g.account_id == one.purse.account_id]
        for one in (expiring, rolling)
    }
    assert by_account[expiring.purse.account_id] == ["2082-11-29"]
    assert by_account[rolling.purse.account_id] == [
        "2082-11-23", "2082-11-24", "2082-11-25", "2082-11-26", "2082-11-27", "2082-11-28",
        "2082-11-29",
    ]  # fmt: skip
    assert (await expiring.purse.balance(), await expiring.purse.granted()) == (100, 100)
    assert (await rolling.purse.balance(), await rolling.purse.granted()) == (760, 0)
    assert len(await rolling.purse.log()) == 9, "each its own row"
    assert await plans.grant_due(conn, IdMint(1), start + 7 * DAY + SECOND) == []
    assert await audit(conn) == []


async def test_rolling_over_never_expires(conn: Any) -> None:
    one = await subscribe(conn, "month", roll_over=True)
    await one.assign(utc("2082-10-31T12:00"))
    assert await one.at(utc("2083-03-01T00:00")) == 600
    assert await one.at(utc("2083-03-31T23:59:59")) == 600
    assert await grants_of(conn, "anna") == []


async def test_several_proxies_grant_once(database: Database, conn: Any) -> None:
    start = utc("2082-11-22T12:00")
    purses = [await new_purse(conn, f"account{n}") for n in range(8)]
    await plans.create_plan(conn, "daily", 5 * MICRO, "day", True, "anna")
    for purse in purses:
        mint = IdMint(COMMAND_NODE)
        await plans.assign(conn, "daily", purse.name, by="anna", mint=mint, now=start)

    async def proxy(node: int) -> list[Granted]:
        async with database.pool.acquire() as own:
            return await plans.grant_due(own, IdMint(node), start + 3 * DAY)

    found = await asyncio.gather(*(proxy(node) for node in range(1, 5)))
    granted = sorted((one.account_id, one.period) for some in found for one in some)
    days = ["2082-11-23", "2082-11-24", "2082-11-25"]
    assert granted == [(purse.account_id, day) for purse in purses for day in days]
    assert [await purse.balance() for purse in purses] == [20] * 8
    assert await audit(conn) == []


async def test_assigning_from_several_places_grants_once(database: Database, conn: Any) -> None:
    one = await subscribe(conn, "day")
    now = utc("2082-11-22T12:00")

    async def command() -> Any:
        async with database.pool.acquire() as own:
            mint = IdMint(COMMAND_NODE)
            return await plans.assign(own, one.plan, "anna", by="anna", mint=mint, now=now)

    outcomes = await asyncio.gather(*(command() for _ in range(6)))
    assert sum(isinstance(outcome, Assigned) for outcome in outcomes) == 1
    assert await one.purse.balance() == 100


async def test_a_locked_account_does_not_hold_up_the_others(database: Database, conn: Any) -> None:
    start = utc("2082-11-22T12:00")
    for name in ("locked", "free"):
        one = await subscribe(conn, "day", name=name)
        await one.assign(start)
    async with database.pool.acquire() as other:
        await other.execute("SET lock_timeout = '50ms'")
        async with conn.transaction():
            await conn.execute("SELECT FROM account WHERE name = 'locked' FOR UPDATE")
            granted = await plans.grant_due(other, IdMint(1), start + DAY)
            assert [one.plan for one in granted] == ["plan-free"]
        granted = await plans.grant_due(other, IdMint(1), start + DAY)
        assert [one.plan for one in granted] == ["plan-locked"]


# ------------------------------------------------------------------ ending, changing


async def test_ending_stops_the_grants_and_takes_nothing(conn: Any) -> None:
    one = await subscribe(conn, "month")
    await one.assign(utc("2082-11-10T00:00"))
    assert isinstance(await one.end(utc("2082-11-12T00:00")), Done)
    assert await one.purse.balance() == 100
    assert await one.at(utc("2082-11-30T23:59:59")) == 100
    assert await one.come_by(utc("2082-12-01T00:00:00")) == []
    assert await one.purse.balance() == 0
    texts = [event["text"] for event in await history.events(conn, kind="plan_ended")]
    assert texts == ["Plan plan-anna ended by anna"]
    assert await one.end(utc("2082-12-01T00:00")) == Refused(
        "account 'anna' does not have plan 'plan-anna'"
    )
    await one.purse.assert_books_balance()


async def test_assigning_again_in_the_same_period_does_not_grant_again(conn: Any) -> None:
    one = await subscribe(conn, "month", roll_over=True)
    await one.assign(utc("2082-11-10T00:00"))
    for day in (12, 14, 16):
        assert isinstance(await one.end(utc(f"2082-11-{day}T00:00")), Done)
        outcome = await one.assign(utc(f"2082-11-{day + 1}T00:00"))
        assert isinstance(outcome, Assigned) and outcome.granted is None
    assert await one.at(utc("2082-11-30T00:00")) == 100
    assert await one.at(utc("2082-12-01T00:00")) == 200
    # Nothing for the months between the end and the next assignment.
    await one.end(utc("2082-12-15T00:00"))
    assert await one.at(utc("2083-04-01T00:00")) == 200
    outcome = await one.assign(utc("2083-04-01T00:00"))
    assert isinstance(outcome, Assigned) and outcome.granted is not None
    assert outcome.granted.period == "2083-04"
    assert await one.at(utc("2083-04-30T00:00")) == 300
    await one.purse.assert_books_balance()


async def test_two_plans_of_one_account(conn: Any) -> None:
    await plans.create_plan(conn, "weekly", 50 * MICRO, "week", False, "anna")
    one = await subscribe(conn, "day", 10)
    await one.assign(utc("2082-11-22T12:00"))
    other = Subscriber(one.purse, "weekly")
    await other.assign(utc("2082-11-22T12:00"))
    await one.purse.charge(15)
    assert await one.purse.left() == [45], "both expire at midnight; the first made is first spent"
    assert sorted(await one.come_by(utc("2082-11-23T00:00"))) == ["2082-11-23", "2082-W48"]
    assert await one.purse.left() == [10, 50]
    await one.end(utc("2082-11-23T12:00"))
    assert await one.come_by(utc("2082-11-24T00:00")) == []
    assert await one.purse.left() == [50]
    await one.purse.assert_books_balance()


async def test_another_time_zone_counts_at_once(conn: Any) -> None:
    one = await subscribe(conn, "day")
    await one.assign(utc("2082-11-22T12:00"))
    await conn.execute("UPDATE account SET timezone = 'Asia/Tokyo'")
    # In Tokyo it is the 23rd by now.
    assert await one.come_by(utc("2082-11-22T15:00")) == ["2082-11-23"]
    # In Honolulu the 22nd again, which was granted.
    await conn.execute("UPDATE account SET timezone = 'Pacific/Honolulu'")
    assert await one.come_by(utc("2082-11-22T15:01")) == []
    assert await one.come_by(utc("2082-11-23T12:00")) == [], "and so was the 23rd"
    assert await one.come_by(utc("2082-11-24T10:00")) == ["2082-11-24"]
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await conn.execute("UPDATE account SET timezone = 'Atlantis/Capital'")
    await one.purse.assert_books_balance()


async def test_postgresql_knows_the_time_zones(conn: Any) -> None:
    """charge_batch works with the zones that valid_timezone() lets in."""
    rows = await conn.fetch("SELECT name FROM pg_timezone_names")
    known = {row["name"] for row in rows}
    for zone in ("UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Beirut", "Africa/Cairo"):
        assert valid_timezone(zone) and zone in known


async def test_a_clock_that_goes_back_grants_nothing_twice(conn: Any) -> None:
    one = await subscribe(conn, "day")
    await one.assign(utc("2082-11-22T12:00"))
    assert await one.come_by(utc("2082-11-23T00:00")) == ["2082-11-23"]
    await conn.execute("UPDATE account_plan SET next_at = '-infinity'")
    assert await one.come_by(utc("2082-11-22T23:59")) == []
    assert await one.come_by(utc("2082-11-23T00:01")) == []


async def test_a_disabled_account_is_granted_too(conn: Any) -> None:
    one = await subscribe(conn, "day")
    await one.assign(utc("2082-11-22T12:00"))
    await conn.execute("UPDATE account SET enabled = false")
    assert await one.come_by(utc("2082-11-23T00:00")) == ["2082-11-23"]


async def test_a_plan_pays_a_debt(conn: Any) -> None:
    one = await subscribe(conn, "day", 10, limit=50)
    await one.purse.charge(25)
    await one.assign(utc("2082-11-22T12:00"))
    assert (await one.purse.balance(), await one.purse.granted()) == (-15, 0)
    assert await one.at(utc("2082-11-23T00:00")) == -5
    assert await one.at(utc("2082-11-24T00:00")) == 5
    assert await one.at(utc("2082-11-25T00:00")) == 10
    await one.purse.assert_books_balance()


async def test_a_full_balance_is_not_granted_more(conn: Any) -> None:
    one = await subscribe(conn, "day")
    await add_credit(conn, "anna", MAX_MICRO - 99 * MICRO, by="anna", mint=IdMint(COMMAND_NODE))
    outcome = await one.assign(utc("2082-11-22T12:00"))
    assert isinstance(outcome, Assigned) and outcome.granted is None
    [event] = await history.events(conn, kind="credit_not_granted")
    assert event["severity"] == "warning"
    await one.purse.add(-1)
    assert await one.come_by(utc("2082-11-23T00:00")) == ["2082-11-23"]
    await one.purse.assert_books_balance()


async def test_a_zone_that_this_machine_does_not_know_stops_nobody_else(conn: Any) -> None:
    start = utc("2082-11-22T12:00")
    for name in ("anna", "bob"):
        one = await subscribe(conn, "day", name=name)
        await one.assign(start)
    await conn.execute("ALTER TABLE account DISABLE TRIGGER account_zone_changed")
    await conn.execute("UPDATE account SET timezone = 'Atlantis/Capital' WHERE name = 'anna'")
    granted = await plans.grant_due(conn, IdMint(1), start + DAY)
    assert [one.plan for one in granted] == ["plan-bob"]


# ------------------------------------------------------------------------ the flow's part


async def test_the_round_grants_and_expires(database: Database, conn: Any) -> None:
    one = await subscribe(conn, "day")
    await one.assign(utc("2082-11-22T12:00"))
    await one.purse.charge(1)
    now = utc("2082-11-22T23:59:59")
    grants = Grants(lambda: database.pool, IdMint(1), lambda: now)
    await grants.once()
    assert await one.purse.balance() == 99
    now += SECOND
    await grants.once()
    assert await one.purse.balance() == 100
    assert [op for op, *_ in await one.purse.log()] == ["grant", "use", "grant", "expire"]


async def test_it_runs_until_cancelled_and_survives_the_database(
    database: Database, conn: Any, eventually: Any
) -> None:
    one = await subscribe(conn, "day")
    await one.assign(utc("2082-11-22T12:00"))
    failures = [OSError("no route"), RuntimeError("a bug")]

    def pool() -> Any:
        if failures:
            raise failures.pop()
        return database.pool

    with capture_logs() as logs:
        task = asyncio.create_task(Grants(pool, IdMint(1), lambda: utc("2082-11-23T00:00")).run())
        try:
            await eventually(lambda: len(logs) >= 4)
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    said = [line["event"] for line in logs]
    assert said == ["grants_failed", "grants_wait", "credit_granted", "credit_expired"]
    assert await one.purse.balance() == 100


# ------------------------------------------------------------------------- the commands


class Commands:
    """Runs commands on a database, in this process."""

    def __init__(self, config: Path) -> None:
        self.runner = CliRunner(env={"SMPP_PROXY_CONFIG": str(config)})

    async def __call__(self, line: str, status: int = 0) -> str:
        """Returns stdout; of a refusal the reason."""
        done = await asyncio.to_thread(self.runner.invoke, cli.app, line.split())
        assert done.exit_code == status, (line, done.output, done.exception)
        return (done.stderr if status == 1 else done.stdout).strip()


@pytest.fixture
def run(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr("proxy.commands.common.setup_logging", lambda _settings: None)
    config = tmp_path / "proxy.toml"
    config.write_text(f'[database]\nurl = "{database_url}"\n')
    return Commands(config)


async def test_the_commands_of_plans(conn: Any, run: Commands) -> None:
    await new_purse(conn, "eve")
    said = await run("plan add monthly --credits 100 --every month")
    assert said.startswith("Plan monthly is there: 100 credits each month.")
    made = json.loads(await run("plan add daily --credits 2.5 --every day --roll-over --json"))
    assert (made["name"], made["credits"], made["roll_over"]) == ("daily", 2.5, True)
    said = await run("plan assign monthly eve")
    assert "eve has plan monthly; 100 credits granted for " in said
    assigned = json.loads(await run("plan assign daily eve --json"))
    assert (assigned["change"], assigned["expires_at"]) == (2.5, None)
    for line, reason in [
        ("plan add monthly --credits 1 --every day", "there is already a plan 'monthly'"),
        ("plan assign monthly eve", "account 'eve' has plan 'monthly' already"),
        ("plan assign weekly eve", "there is no plan 'weekly'"),
        ("plan remove daily", "1 account has plan 'daily': end it first"),
    ]:
        assert await run(line, status=1) == reason
    await run("plan add yearly --credits 1 --every year", status=2)
    await run("plan add yearly --every day", status=2)
    assert [
        (row["name"], row["accounts"]) for row in json.loads(await run("plan list --json"))
    ] == [("daily", ["eve"]), ("monthly", ["eve"])]
    heading = (await run("plan list")).splitlines()[0]
    assert heading.split() == ["name", "credits", "every", "roll", "over", "accounts"]
    said = await run("plan end daily eve")
    assert said == "Account eve no longer has plan daily; what was granted stays"
    reason = await run("plan end daily eve", status=1)
    assert reason == "account 'eve' does not have plan 'daily'"
    assert await run("plan remove daily") == "Plan daily is removed; what it granted stays"
    assert json.loads(await run("plan end monthly eve --json"))["ended"] is True
    assert "this period was granted before" in await run("plan assign monthly eve")
    assert await conn.fetchval("SELECT balance FROM v_account") == Decimal("102.5")
    assert await audit(conn) == []


async def test_credits_with_an_expiry(conn: Any, run: Commands) -> None:
    await new_purse(conn, "eve", timezone="America/New_York")
    said = await run("credit add eve 10 --expires 2099-12-31")
    assert said == "10 credits added to eve until 2099-12-31; the balance is 10"
    added = json.loads(await run("credit add eve 5 --expires 2099-06-30T18:00 --json"))
    assert added["expires_at"] == "2099-06-30T22:00:00+00:00"
    assert [row["expires_at"] for row in await grants_of(conn, "eve")] == [
        utc("2099-06-30T22:00"),
        utc("2100-01-01T05:00"),
    ]
    texts = [event["text"] for event in await history.events(conn, kind="credit_added")]
    assert [text.partition(", ")[2] for text in texts] == [
        "until 2099-12-31",
        "until 2099-06-30 18:00",
    ]
    for line, reason in [
        ("eve 10 --expires 2026-01-31", "credits can't be added that have expired already"),
        ("eve -1 --expires 2099-12-31", "only credits that are added can expire"),
        ("eve 1 --expires 9999-12-31", "9999-12-31 is too far away"),
        ("bob 1 --expires 2099-12-31", "there is no account 'bob'"),
    ]:
        assert await run(f"credit add {line}", status=1) == reason
    await run("credit add eve 1 --expires tomorrow", status=2)
    assert await audit(conn) == []
