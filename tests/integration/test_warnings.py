"""Low-balance thresholds: what fires, how often, and the pace behind it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import asyncpg
import pytest
from support.clock import Clock

from proxy.config import DatabaseSettings
from proxy.flow.warn import Warn
from proxy.store import history, warnings
from proxy.store.credit import Added, add_credit
from proxy.store.database import Database
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.telemetry import metrics

MICRO = 1_000_000
_numbers = count()


def full_hour() -> datetime:
    """The last one: samples are taken at full five minutes."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


@pytest.fixture
def clock() -> Clock:
    return Clock(full_hour())


@pytest.fixture
def warn(database: Database, clock: Clock) -> Warn:
    return Warn(lambda: database.pool, webhooks=True, clock=clock)


async def account(conn: Any, *low_balance: str, credits: int = 0, age_h: float = 0) -> str:
    """A new account; `age_h` makes it older than the clock's time."""
    name = f"low{next(_numbers)}"
    await conn.execute(
        "INSERT INTO account (name, low_balance, created_at) VALUES ($1, $2, $3)",
        name,
        list(low_balance),
        full_hour() - timedelta(hours=age_h),
    )
    if credits:
        await top_up(conn, name, credits)
    return name


async def top_up(conn: Any, name: str, credits: int) -> None:
    """Negative: removes."""
    mint = IdMint(COMMAND_NODE)
    assert isinstance(await add_credit(conn, name, credits * MICRO, by="test", mint=mint), Added)


async def use(conn: Any, name: str, credits: float) -> None:
    """As charge_batch does; negative: as give_back does."""
    await conn.execute(
        "UPDATE account SET balance_micro = balance_micro - $2, used_micro = used_micro + $2"
        " WHERE name = $1",
        name,
        round(credits * MICRO),
    )


async def texts(warn: Warn) -> list[str]:
    return [one.text for one in await warn.once()]


async def pace(conn: Any, clock: Clock, name: str) -> tuple[float, float | None]:
    """Credits an hour, hours to empty."""
    row = await conn.fetchrow("SELECT * FROM pace($1) WHERE account = $2", clock.now, name)
    return row["used_micro_per_hour"] / MICRO, row["hours_to_empty"]


# ------------------------------------------------------------------------------ amounts


async def test_a_threshold_fires_once_when_it_is_crossed(conn: Any, warn: Warn) -> None:
    name = await account(conn, "10", credits=100)
    assert await texts(warn) == []
    await use(conn, name, 89)
    assert await texts(warn) == []
    await use(conn, name, 1.5)
    [fired] = await warn.once()
    assert fired == warnings.Fired(
        account=name,
        threshold_kind="absolute",
        kind="low_balance",
        severity="warning",
        text="Low balance: 9.5 credits left, the threshold is 10",
    )
    await use(conn, name, 1)
    assert await texts(warn) == []
    events = await history.events(conn, account=name, kind="low_balance")
    assert [(e["severity"], e["text"], e["count"]) for e in events] == [("warning", fired.text, 1)]


async def test_exactly_at_the_threshold_it_fires(conn: Any, warn: Warn) -> None:
    name = await account(conn, "10", credits=100)
    await warn.once()
    await use(conn, name, 89.999999)
    assert await texts(warn) == []
    await use(conn, name, 0.000001)
    assert await texts(warn) == ["Low balance: 10 credits left, the threshold is 10"]


async def test_at_zero_every_account_is_told(conn: Any, warn: Warn) -> None:
    name = await account(conn, credits=3)
    await use(conn, name, 2)
    assert await texts(warn) == []
    await use(conn, name, 1)
    [fired] = await warn.once()
    assert (fired.threshold_kind, fired.kind, fired.text) == (
        "zero",
        "no_credits",
        "No credits left",
    )
    assert await texts(warn) == []
    [event] = await history.events(conn, account=name, kind="no_credits")
    assert (event["severity"], event["count"]) == ("error", 1)


async def test_what_pays_for_no_message_is_nothing_left(conn: Any, warn: Warn) -> None:
    name = await account(conn, credits=3)
    await use(conn, name, 2.5)
    assert await texts(warn) == []  # half a credit, and nobody has been refused
    await conn.execute("UPDATE account SET dry = true WHERE name = $1", name)
    assert await texts(warn) == ["No credits left for a message: 0.5 is less than the lowest price"]
    assert await texts(warn) == []
    await conn.execute(
        "INSERT INTO price (tariff_id, prefix, price_micro) VALUES (1, '44', 400000)"
    )
    other = await account(conn, credits=3)
    await use(conn, other, 2.5)
    await conn.execute("UPDATE account SET dry = true WHERE name = $1", other)
    assert await texts(warn) == []  # a message to 44… is paid for


async def test_what_is_reserved_is_not_left_and_a_credit_limit_is(conn: Any, warn: Warn) -> None:
    name = await account(conn, "10", credits=20)
    await accounts_set_limit(conn, name, 50)
    await use(conn, name, 20)
    assert await texts(warn) == []  # 50 left of the limit
    await conn.execute("UPDATE account SET reserved_micro = 41000000 WHERE name = $1", name)
    assert await texts(warn) == ["Low balance: 9 credits left, the threshold is 10"]


async def accounts_set_limit(conn: Any, name: str, credits: int) -> None:
    await conn.execute(
        "UPDATE account SET credit_limit_micro = $2 WHERE name = $1", name, credits * MICRO
    )


async def test_every_threshold_that_is_crossed_fires(conn: Any, warn: Warn) -> None:
    name = await account(conn, "50", "10", credits=100)
    await use(conn, name, 99)
    assert await texts(warn) == [
        "Low balance: 1 credit left, the threshold is 10",
        "Low balance: 1 credit left, the threshold is 50",
    ]


async def test_it_fires_again_after_a_top_up(conn: Any, warn: Warn, clock: Clock) -> None:
    name = await account(conn, "10", credits=12)
    await use(conn, name, 12)
    assert len(await texts(warn)) == 2  # and at zero
    await top_up(conn, name, 5)  # not above 10: only zero is armed
    assert await texts(warn) == []
    await use(conn, name, 5)
    assert await texts(warn) == ["No credits left"]
    await top_up(conn, name, 30)
    assert await texts(warn) == []
    await use(conn, name, 25)
    assert await texts(warn) == ["Low balance: 5 credits left, the threshold is 10"]


async def test_credit_that_was_removed_does_not_hide_a_top_up(conn: Any, warn: Warn) -> None:
    name = await account(conn, "10", credits=100)
    await use(conn, name, 91)
    assert len(await texts(warn)) == 1
    await use(conn, name, -5)
    await top_up(conn, name, -10)
    assert await texts(warn) == []  # 4 left
    await top_up(conn, name, 8)  # more than 10 left, though less was paid in than at first
    assert await texts(warn) == []
    await use(conn, name, 3)
    assert await texts(warn) == ["Low balance: 9 credits left, the threshold is 10"]


async def test_at_zero_a_top_up_that_is_spent_within_one_look_is_told(
    conn: Any, warn: Warn
) -> None:
    name = await account(conn, credits=1)
    await use(conn, name, 1)
    assert await texts(warn) == ["No credits left"]
    await top_up(conn, name, 50)
    await use(conn, name, 50)
    assert await texts(warn) == ["No credits left"]
    assert await texts(warn) == []


async def test_credit_that_comes_back_is_no_top_up(conn: Any, warn: Warn, clock: Clock) -> None:
    """An upstream that refuses everything: taken and given back, again and again."""
    name = await account(conn, "10", credits=11)
    await use(conn, name, 1)
    assert len(await texts(warn)) == 1
    for _ in range(5):
        await use(conn, name, -1)
        assert await texts(warn) == []
        await use(conn, name, 1)
        clock.forward(minutes=20)
        assert await texts(warn) == []
    await use(conn, name, -1)  # and it stays: that is news when it is crossed again
    await warn.once()
    clock.forward(hours=1)
    await warn.once()
    await use(conn, name, 1)
    assert len(await texts(warn)) == 1


async def test_a_new_account_is_not_told_that_it_is_empty(conn: Any, warn: Warn) -> None:
    name = await account(conn, "10", "24h")
    assert await texts(warn) == []
    await conn.execute("UPDATE account SET low_balance = '{10,20,24h}' WHERE name = $1", name)
    assert await texts(warn) == []
    await top_up(conn, name, 30)
    assert await texts(warn) == []
    await use(conn, name, 30)
    fired = await texts(warn)
    assert "No credits left" in fired
    assert "Low balance: 0 credits left, the threshold is 20" in fired


async def test_an_account_that_had_credit_before_its_first_look(conn: Any, warn: Warn) -> None:
    name = await account(conn, credits=5)
    await use(conn, name, 5)  # sent everything at once
    assert await texts(warn) == ["No credits left"]
    removed = await account(conn, credits=5)
    await warn.once()
    await top_up(conn, removed, -5)
    assert await texts(warn) == ["No credits left"]


async def test_thresholds_change_while_it_runs(conn: Any, warn: Warn) -> None:
    name = await account(conn, "10", credits=15)
    await warn.once()
    await conn.execute("UPDATE account SET low_balance = '{20}' WHERE name = $1", name)
    assert await texts(warn) == ["Low balance: 15 credits left, the threshold is 20"]
    await conn.execute("UPDATE account SET low_balance = '{}' WHERE name = $1", name)
    await use(conn, name, 10)
    assert await texts(warn) == []


@pytest.mark.parametrize("wrong", ["soon", "1.5h", "0", "0.000", "-3", "1e3", "", "100\n"])
async def test_the_database_refuses_what_is_no_threshold(conn: Any, wrong: str) -> None:
    name = await account(conn, credits=1)
    with pytest.raises(asyncpg.CheckViolationError, match="low_balance"):
        await conn.execute("UPDATE account SET low_balance = $2 WHERE name = $1", name, [wrong])


async def test_a_disabled_account_is_left_alone(conn: Any, warn: Warn) -> None:
    name = await account(conn, "10", credits=15)
    await warn.once()
    await conn.execute("UPDATE account SET enabled = false WHERE name = $1", name)
    await use(conn, name, 15)
    assert await texts(warn) == []
    await conn.execute("UPDATE account SET enabled = true WHERE name = $1", name)
    assert len(await texts(warn)) == 2


async def test_two_proxies_fire_each_once(conn: Any, database_url: str, clock: Clock) -> None:
    names = [await account(conn, "10", "5", credits=20) for _ in range(50)]
    databases = [Database(DatabaseSettings(url=database_url)) for _ in range(2)]
    for one in databases:
        await one.open(wait=False)
    try:
        warns = [Warn(lambda d=d: d.pool, webhooks=True, clock=clock) for d in databases]
        for times in (1, 2, 3):
            await asyncio.gather(*(w.once() for w in warns))
            await conn.execute(
                "UPDATE account SET balance_micro = 0, used_micro = used_micro + 20000000"
            )
            fired = await asyncio.gather(*(w.once() for w in warns), *(w.once() for w in warns))
            assert sum(len(one) for one in fired) == 3 * len(names)
            assert (
                await conn.fetchval(
                    "SELECT sum(count) FROM event WHERE kind IN ('low_balance', 'no_credits')"
                )
                == 3 * len(names) * times
            )
            assert await conn.fetchval("SELECT count(*) FROM webhook") == 3 * len(names) * times
            for name in names:
                await top_up(conn, name, 20)
    finally:
        for one in databases:
            await one.close()


async def test_the_webhook_is_queued_with_the_event_or_not_at_all(
    conn: Any, database: Database, warn: Warn, clock: Clock
) -> None:
    name = await account(conn, "10", credits=100, age_h=2)
    await use(conn, name, 90.5)
    await warn.once()
    [row] = await conn.fetch("SELECT kind, body FROM webhook")
    assert row["kind"] == "low_balance"
    assert json.loads(row["body"], parse_float=Decimal) == {
        "event": "low_balance",
        "account": name,
        "balance": Decimal("9.5"),
        "left": Decimal("9.5"),
        "threshold": "10",
        "hours_to_empty": Decimal("0.10"),  # 90.5 credits in the hour
        "at": clock.now.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    }
    quiet = Warn(lambda: database.pool, webhooks=False, clock=clock)
    await use(conn, name, 9.5)
    assert [one.text for one in await quiet.once()] == ["No credits left"]
    assert await conn.fetchval("SELECT count(*) FROM webhook") == 1


async def test_metrics(conn: Any, warn: Warn) -> None:
    def value(name: str, **labels: str) -> float:
        return metrics.REGISTRY.get_sample_value(f"smpp_proxy_{name}", labels) or 0.0

    before = {k: value("low_balance_warnings_total", kind=k) for k in ("absolute", "hours", "zero")}
    low, empty = await account(conn, "10", credits=20), await account(conn, credits=20)
    await account(conn, "10")  # never had credit
    await use(conn, low, 15)
    await use(conn, empty, 20)
    await warn.once()
    assert (value("accounts_low"), value("accounts_empty")) == (1, 1)
    assert value("low_balance_warnings_total", kind="absolute") == before["absolute"] + 1
    assert value("low_balance_warnings_total", kind="zero") == before["zero"] + 1
    await top_up(conn, low, 20)
    await top_up(conn, empty, 20)
    await warn.once()
    assert (value("accounts_low"), value("accounts_empty")) == (0, 0)


# -------------------------------------------------------------------------------- pace


async def test_the_pace_of_a_steady_account(conn: Any, warn: Warn, clock: Clock) -> None:
    name = await account(conn, credits=1000, age_h=5)
    assert await pace(conn, clock, name) == (0, None)
    for _ in range(24):  # two hours
        clock.forward(minutes=5)
        await use(conn, name, 1)
        await warn.once()
    per_hour, hours = await pace(conn, clock, name)
    assert per_hour == pytest.approx(12)
    assert hours == pytest.approx((1000 - 24) / 12)
    clock.forward(minutes=4)  # between two samples, with its share of use
    await use(conn, name, 0.8)
    assert (await pace(conn, clock, name))[0] == pytest.approx(12)


async def test_an_idle_account_has_no_pace_and_no_end(conn: Any, warn: Warn, clock: Clock) -> None:
    name = await account(conn, credits=10, age_h=50)
    await use(conn, name, 5)
    await warn.once()
    clock.forward(minutes=59)
    assert (await pace(conn, clock, name))[0] == pytest.approx(5)
    clock.forward(minutes=6)
    await warn.once()
    assert await pace(conn, clock, name) == (0, None)


async def test_an_account_that_was_idle_has_the_pace_of_the_hour(
    conn: Any, warn: Warn, clock: Clock
) -> None:
    name = await account(conn, credits=1000, age_h=50)
    await use(conn, name, 500)
    await warn.once()
    clock.forward(days=3)  # the only sample is older than what is kept
    await warn.once()
    assert await conn.fetchval("SELECT count(*) FROM usage_sample") == 1
    await use(conn, name, 30)
    clock.forward(minutes=3)
    per_hour, hours = await pace(conn, clock, name)
    assert per_hour == pytest.approx(30)
    assert hours == pytest.approx(470 / 30)


async def test_the_pace_of_a_new_account(conn: Any, clock: Clock) -> None:
    name = await account(conn, credits=100)
    await use(conn, name, 6)
    clock.forward(minutes=3)
    assert (await pace(conn, clock, name))[0] == pytest.approx(6 * 60 / 5)  # at least 5 minutes
    clock.forward(minutes=17)
    assert (await pace(conn, clock, name))[0] == pytest.approx(6 * 60 / 20)


async def test_credit_given_back_makes_no_negative_pace(
    conn: Any, warn: Warn, clock: Clock
) -> None:
    name = await account(conn, credits=100, age_h=5)
    await use(conn, name, 50)
    await warn.once()
    clock.forward(minutes=65)
    await warn.once()
    await use(conn, name, -20)
    assert await pace(conn, clock, name) == (0, None)


async def test_samples_are_of_full_five_minutes_and_only_of_changes(
    conn: Any, warn: Warn, clock: Clock
) -> None:
    start = clock.now
    name = await account(conn, credits=100, age_h=5)
    await account(conn, credits=100, age_h=5)  # never used
    await use(conn, name, 1)
    for _ in range(20):  # a look a minute
        await warn.once()
        clock.forward(minutes=1)
        if clock.now <= start + timedelta(minutes=7):
            await use(conn, name, 1)
    rows = await conn.fetch("SELECT at, used_micro FROM usage_sample ORDER BY at")
    assert [(row["at"] - start, row["used_micro"] / MICRO) for row in rows] == [
        (timedelta(minutes=0), 1),
        (timedelta(minutes=5), 6),
        (timedelta(minutes=10), 8),
    ]
    clock.forward(hours=25)
    await warn.once()
    assert await conn.fetchval("SELECT count(*) FROM usage_sample") == 1


async def test_two_proxies_take_one_sample(conn: Any, database: Database, clock: Clock) -> None:
    name = await account(conn, credits=100, age_h=5)
    await use(conn, name, 1)
    warns = [Warn(lambda: database.pool, webhooks=False, clock=clock) for _ in range(4)]
    await asyncio.gather(*(w.once() for w in warns))
    assert await conn.fetchval("SELECT count(*) FROM usage_sample") == 1


async def test_the_view_for_people(conn: Any) -> None:
    name = await account(conn, credits=100)
    await conn.execute("UPDATE account SET created_at = now() - interval '2 days'")
    row = await conn.fetchrow("SELECT * FROM v_pace WHERE account = $1", name)
    assert (row["used_per_hour"], row["hours_to_empty"]) == (0, None)
    await use(conn, name, 40.5)
    row = await conn.fetchrow("SELECT * FROM v_pace WHERE account = $1", name)
    assert (row["used_per_hour"], row["hours_to_empty"]) == (Decimal("40.5"), Decimal("1.47"))
    assert set(row.keys()) == {"account_id", "account", "used_per_hour", "hours_to_empty"}


# ------------------------------------------------------------------------ hours to empty


async def test_hours_fire_once_and_again_after_a_top_up(
    conn: Any, warn: Warn, clock: Clock
) -> None:
    name = await account(conn, "24h", credits=1000, age_h=5)
    await use(conn, name, 38)
    assert await texts(warn) == []  # 962 / 38 = 25.3
    await use(conn, name, 10)
    assert await texts(warn) == [
        "Low balance: about 20 hours left at the current pace, the threshold is 24 hours"
    ]
    await use(conn, name, 10)
    assert await texts(warn) == []
    await top_up(conn, name, 1000)
    assert await texts(warn) == []
    await use(conn, name, 40)
    assert await texts(warn) == [
        "Low balance: about 19 hours left at the current pace, the threshold is 24 hours"
    ]


async def test_hours_do_not_flap(conn: Any, warn: Warn, clock: Clock) -> None:
    """A pace that swings around the threshold warns once; one that was low for an hour, again."""
    name = await account(conn, "24h", credits=1000, age_h=5)
    await use(conn, name, 50)
    assert len(await texts(warn)) == 1
    for _ in range(3):  # sends in bursts: an hour's pause and a little, then as before
        await pause(warn, clock)
        assert (await pace(conn, clock, name))[1] is None
        await use(conn, name, 50)
        assert await texts(warn) == []
    await pause(warn, clock)
    clock.forward(minutes=61)
    await warn.once()
    await use(conn, name, 50)
    assert len(await texts(warn)) == 1


async def pause(warn: Warn, clock: Clock) -> None:
    """Nothing is sent until the pace is zero."""
    for minutes in (5, 61):
        clock.forward(minutes=minutes)
        assert await texts(warn) == []


async def test_hours_are_looked_at_only_when_asked_for(conn: Any, warn: Warn) -> None:
    name = await account(conn, "24h", "10", credits=1000, age_h=5)
    await warn.once()
    await use(conn, name, 995)
    fired = await warn.once(hours=False)
    assert [one.threshold_kind for one in fired] == ["absolute"]
    fired = await warn.once()
    assert [one.threshold_kind for one in fired] == ["hours"]
    assert fired[0].text == (
        "Low balance: less than an hour left at the current pace, the threshold is 24 hours"
    )
