"""Credits that expire: the grant that expires first is spent first, and what is left leaves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.purse import MICRO, Clock, Purse, new_purse, submit

from proxy.store import history, ledger
from proxy.store.audit import audit
from proxy.store.credit import Added, Exists
from proxy.store.database import Database
from proxy.store.grants import expire_due, grants_of
from proxy.store.ids import IdMint
from proxy.store.outcomes import Refused

HOUR_S = 3600
_numbers = count()


@pytest.fixture
async def purse(conn: Any) -> Purse:
    return await new_purse(conn, "anna")


# ------------------------------------------------------------------------------- expiry


async def test_what_is_left_leaves_at_the_hour(purse: Purse) -> None:
    await purse.add(3)
    await purse.add(10, HOUR_S)
    await purse.charge(4)
    purse.clock.wait(HOUR_S - 1)
    assert await purse.expire() == 0
    assert (await purse.balance(), await purse.granted(), await purse.left()) == (9, 6, [6])
    purse.clock.wait(1)
    assert await purse.expire() == 6
    assert (await purse.balance(), await purse.granted(), await purse.left()) == (3, 0, [])
    assert (await purse.log())[-1] == ("expire", -6, 3)
    assert await purse.expire() == 0, "once"
    row = await history.credit_log(purse.conn, "anna", limit=100)
    expired = next(r for r in row if r["operation"] == "expire")
    assert expired["by"] == "smpp-proxy"
    assert (
        expired["note"]
        == f"what was left of 10 credits of {purse.clock.now - timedelta(hours=1):%F}"
    )
    [event] = await history.events(purse.conn, account="anna", kind="credit_expired")
    assert event["text"] == "Credits expired: 6"
    await purse.assert_books_balance()


async def test_a_grant_that_is_spent_expires_in_silence(purse: Purse) -> None:
    await purse.add(5, HOUR_S)
    await purse.add(2)
    await purse.charge(5)
    purse.clock.wait(HOUR_S)
    assert await expire_due(purse.conn, purse.clock.now) == []
    assert await purse.balance() == 2
    assert [op for op, *_ in await purse.log()] == ["grant", "add", "use"]
    assert await history.events(purse.conn, kind="credit_expired") == []
    still_due = "SELECT count(*) FROM account WHERE next_expiry_at < 'infinity'"
    assert await purse.conn.fetchval(still_due) == 0, "nobody looks at it again"


async def test_several_grants_expire_each_with_a_row(purse: Purse) -> None:
    for credits, seconds in [(1, 10), (2, 30), (3, 20), (4, 40)]:
        await purse.add(credits, seconds)
    purse.clock.wait(30)
    assert await purse.expire() == 6
    assert (await purse.log())[4:] == [("expire", -1, 9), ("expire", -3, 6), ("expire", -2, 4)]
    assert await purse.left() == [4]
    purse.clock.wait(10)
    assert await purse.expire() == 4
    await purse.assert_books_balance()


async def test_the_charge_itself_expires_what_is_due(purse: Purse) -> None:
    """Whatever the proxies' clocks do: not one message is paid with credits that are due."""
    purse.clock.now = await purse.conn.fetchval("SELECT now()") - timedelta(hours=2)
    await purse.add(10, HOUR_S)
    await purse.add(1)
    messages = [submit(purse.account_id, 1), submit(purse.account_id, 1)]
    outcome = await ledger.charge(purse.conn, IdMint(9), messages)
    assert outcome.balances == [0, None]
    expected = {("grant", 10, 10), ("add", 1, 11), ("expire", -10, 1), ("use", -1, 0)}
    assert set(await purse.log()) == expected
    taken = "SELECT granted_micro FROM message WHERE id = $1"
    assert await purse.conn.fetchval(taken, messages[0].id) == 0
    await purse.assert_books_balance()


async def test_two_proxies_expire_once(database: Database, conn: Any) -> None:
    clock = Clock()
    purses = [await new_purse(conn, f"account{n}", clock=clock) for n in range(10)]
    for purse in purses:
        await purse.add(7, HOUR_S)
    clock.wait(HOUR_S)

    async def proxy() -> list[tuple[int, int]]:
        async with database.pool.acquire() as own:
            return await expire_due(own, clock.now)

    expired = [one for found in await asyncio.gather(*(proxy() for _ in range(4))) for one in found]
    assert sorted(expired) == [(purse.account_id, 7 * MICRO) for purse in purses]
    assert [await purse.balance() for purse in purses] == [0] * 10
    assert await audit(conn) == []


async def test_a_locked_account_does_not_hold_up_the_others(database: Database, conn: Any) -> None:
    clock = Clock()
    locked, free = [await new_purse(conn, name, clock=clock) for name in ("locked", "free")]
    for purse in (locked, free):
        await purse.add(5, HOUR_S)
    clock.wait(HOUR_S)
    async with database.pool.acquire() as other:
        await other.execute("SET lock_timeout = '50ms'")
        async with conn.transaction():
            await conn.execute("SELECT FROM account WHERE name = 'locked' FOR UPDATE")
            assert await expire_due(other, clock.now) == [(free.account_id, 5 * MICRO)]
        assert await expire_due(other, clock.now) == [(locked.account_id, 5 * MICRO)]


# ----------------------------------------------------------------------------- spending


async def test_the_grant_that_expires_first_is_spent_first(purse: Purse) -> None:
    await purse.add(100)
    await purse.add(10, 3 * HOUR_S)
    await purse.add(10, HOUR_S)
    await purse.add(10, 2 * HOUR_S)
    assert await purse.left() == [10, 10, 10]
    await purse.charge(4)
    assert await purse.left() == [6, 10, 10]
    await purse.charge(5, 5, 5)
    assert await purse.left() == [1, 10]
    assert await purse.charge(20)
    assert (await purse.left(), await purse.granted(), await purse.balance()) == ([], 0, 91)
    await purse.assert_books_balance()


async def test_a_later_grant_does_not_pay_for_what_was_spent_before(purse: Purse) -> None:
    await purse.add(10, 2 * HOUR_S)
    await purse.charge(4)
    await purse.add(5, HOUR_S)
    assert await purse.left() == [5, 6]
    await purse.charge(6)
    assert await purse.left() == [5]
    await purse.assert_books_balance()


async def test_a_message_knows_what_it_took_from_grants(purse: Purse) -> None:
    await purse.add(5)
    await purse.add(5, HOUR_S)
    messages = await purse.charge(3, 4, 3)
    taken = await purse.conn.fetch("SELECT granted_micro FROM message ORDER BY id")
    assert len(messages) == 3
    assert [row["granted_micro"] // MICRO for row in taken] == [3, 2, 0]


# ------------------------------------------------------------------------ what comes back


async def test_a_release_restores_the_grants(purse: Purse) -> None:
    for seconds in (10, 20, 30):
        await purse.add(10, seconds)
    await purse.add(5)
    await purse.charge(3)
    before = (await purse.left(), await purse.granted(), await purse.balance())
    [message] = await purse.charge(30)
    assert await purse.left() == []
    await purse.release(message)
    assert (await purse.left(), await purse.granted(), await purse.balance()) == before
    [message] = await purse.charge(12)
    await purse.release(message, back=4)
    # As though it had cost 8: all of the second grant's is back.
    assert await purse.left() == [9, 10]
    await purse.assert_books_balance()


async def test_a_release_into_a_grant_that_has_expired(purse: Purse) -> None:
    await purse.add(10, HOUR_S)
    [message] = await purse.charge(4)
    purse.clock.wait(HOUR_S)
    assert await purse.expire() == 6
    await purse.add(3, HOUR_S)
    await purse.charge(2)
    await purse.release(message)
    assert (await purse.left(), await purse.balance()) == ([4, 1], 5)
    assert await purse.expire() == 4, "not into the grant that was made afterwards"
    assert (await purse.left(), await purse.balance()) == ([1], 1)
    await purse.assert_books_balance()


async def test_a_release_goes_to_the_grants_that_were_there(purse: Purse) -> None:
    await purse.add(10, HOUR_S)
    [early] = await purse.charge(4)
    purse.clock.wait(1)
    await purse.add(10, 2 * HOUR_S)
    [late] = await purse.charge(12)
    assert await purse.left() == [4]
    purse.clock.wait(HOUR_S)
    await purse.release(early, late)
    assert await purse.left() == [10, 10]
    assert await purse.expire() == 10
    await purse.assert_books_balance()


async def test_clocks_that_differ_lose_no_credits(purse: Purse) -> None:
    """The proxy that charges is behind the one that granted: its id is older than the grant."""
    added = await purse.add(10, HOUR_S)
    purse.mint = IdMint(3, lambda: purse.clock.ns() - 10**9)
    [message] = await purse.charge(4)
    assert isinstance(added, Added) and message.id < added.ledger_id
    await purse.release(message)
    assert (await purse.left(), await purse.granted()) == ([10], 10)
    await purse.assert_books_balance()


async def test_a_release_goes_where_it_came_from_whatever_came_between(purse: Purse) -> None:
    await purse.add(10, 3 * HOUR_S)
    [first] = await purse.charge(4)
    await purse.add(5, HOUR_S)
    [second] = await purse.charge(7)
    assert await purse.left() == [4]
    await purse.release(first)
    assert await purse.left() == [8]
    await purse.add(-3)
    assert await purse.left() == [5]
    await purse.release(second)
    assert await purse.left() == [5, 7]
    await purse.assert_books_balance()


async def test_a_batch_that_is_refused_restores_every_account(conn: Any) -> None:
    clock = Clock()
    purses = [await new_purse(conn, f"batch{n}", clock=clock) for n in range(3)]
    for n, purse in enumerate(purses):
        await purse.add(5)
        await purse.add(5 + n, HOUR_S)
        await purse.add(5, 2 * HOUR_S)
    messages = [submit(purse.account_id, 4) for _ in range(3) for purse in purses]
    outcome = await ledger.charge(conn, IdMint(9), messages)
    assert None not in outcome.balances
    assert [await purse.left() for purse in purses] == [[], [], []]
    await purses[0].release(*messages[:6])
    assert [await purse.left() for purse in purses] == [[5, 3], [6, 2], [7, 1]]
    await purses[0].release(*messages[6:])
    assert [await purse.left() for purse in purses] == [[5, 5], [6, 5], [7, 5]]
    assert await audit(conn) == []


async def test_what_was_not_taken_from_grants_does_not_expire(purse: Purse) -> None:
    await purse.add(5)
    [message] = await purse.charge(5)
    await purse.add(5, HOUR_S)
    await purse.release(message)
    assert (await purse.granted(), await purse.balance()) == (5, 10)


# --------------------------------------------------------------------------- debts


async def test_a_grant_pays_the_debt_first(conn: Any) -> None:
    purse = await new_purse(conn, "later", limit=20)
    await purse.charge(8)
    await purse.add(5, HOUR_S)
    assert (await purse.balance(), await purse.granted(), await purse.left()) == (-3, 0, [])
    await purse.add(10, HOUR_S)
    assert (await purse.balance(), await purse.granted(), await purse.left()) == (7, 7, [7])
    purse.clock.wait(HOUR_S)
    assert await purse.expire() == 7
    assert await purse.balance() == 0, "what paid the debt is gone for good, the rest expires"
    await purse.assert_books_balance()


async def test_a_release_pays_the_debt_first(conn: Any) -> None:
    purse = await new_purse(conn, "later", limit=20)
    await purse.add(5, HOUR_S)
    await purse.add(5, 2 * HOUR_S)
    [message] = await purse.charge(10)
    await purse.charge(3)
    await purse.release(message)
    # The debt is paid with what expires first.
    assert (await purse.balance(), await purse.granted(), await purse.left()) == (7, 7, [2, 5])
    purse.clock.wait(HOUR_S)
    assert await purse.expire() == 2
    await purse.assert_books_balance()


# --------------------------------------------------------------- adding and removing


async def test_a_removal_takes_what_does_not_expire_first(purse: Purse) -> None:
    await purse.add(10)
    await purse.add(6, 2 * HOUR_S)
    await purse.add(4, HOUR_S)
    await purse.add(-7)
    assert (await purse.balance(), await purse.granted(), await purse.left()) == (13, 10, [4, 6])
    await purse.add(-5)
    assert (await purse.balance(), await purse.granted(), await purse.left()) == (8, 8, [2, 6])
    await purse.add(1)
    assert (await purse.balance(), await purse.granted()) == (9, 8)
    assert await purse.add(-10) == Refused("only 9 credits can be removed")
    assert isinstance(await purse.add(-9), Added)
    assert (await purse.granted(), await purse.left()) == (0, [])
    await purse.assert_books_balance()


async def test_what_is_due_cannot_be_removed(purse: Purse) -> None:
    await purse.add(4)
    await purse.add(6, HOUR_S)
    purse.clock.wait(HOUR_S)
    assert await purse.add(-5) == Refused("only 4 credits can be removed")
    assert await purse.add(-1) == Added(3 * MICRO, await newest(purse))
    assert await purse.log() == [
        ("add", 4, 4), ("grant", 6, 10), ("expire", -6, 4), ("add", -1, 3),
    ]  # fmt: skip


async def newest(purse: Purse) -> int:
    sql = (
        "SELECT id FROM ledger WHERE account_id = $1 AND operation = 'add' ORDER BY id DESC LIMIT 1"
    )
    return int(await purse.conn.fetchval(sql, purse.account_id))


async def test_added_credits_that_expire_are_a_grant(database: Database, conn: Any) -> None:
    purse = await new_purse(conn, "anna", timezone="Europe/Berlin")
    await conn.execute("UPDATE account SET dry = true")
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await database.connect()
    try:
        await listener.add_listener(
            "smpp_proxy_credit", lambda _conn, _pid, _channel, payload: heard.put_nowait(payload)
        )
        added = await purse.add(
            10, expires_at=datetime(2099, 12, 31, 23, tzinfo=UTC), note="a gift"
        )
        assert await asyncio.wait_for(heard.get(), 5) == str(purse.account_id)
    finally:
        await listener.close()
    assert isinstance(added, Added) and added.balance_micro == 10 * MICRO
    assert await conn.fetchval("SELECT dry FROM account") is False
    [row] = await conn.fetch("SELECT * FROM v_credit_log")
    assert (row["operation"], row["actor"], row["note"]) == ("grant", "anna", "a gift")
    assert row["change"] == row["balance"] == 10
    [event] = await history.events(conn, kind="credit_added")
    assert event["text"] == "Credits added: 10 by anna, until 2099-12-31"
    [grant] = await grants_of(conn, "anna")
    assert (grant["id"], grant["by"], grant["note"]) == (added.ledger_id, "anna", "a gift")
    assert (grant["amount"], grant["left"]) == (10, 10)
    assert grant["expires_at"] == datetime(2099, 12, 31, 23, tzinfo=UTC)
    assert await audit(conn) == []


async def test_a_top_up_wakes_a_dry_account(purse: Purse) -> None:
    for credits in (5, -1):
        await purse.conn.execute("UPDATE account SET dry = true")
        await purse.add(credits)
        assert await purse.conn.fetchval("SELECT dry FROM account") is False


async def test_the_same_key_grants_once(purse: Purse) -> None:
    first = await purse.add(5, HOUR_S, key="invoice 7")
    assert isinstance(first, Added)
    assert await purse.add(5, HOUR_S, key="invoice 7") == Exists(5 * MICRO, first.ledger_id)
    refused = await purse.add(6, HOUR_S, key="invoice 7")
    assert refused == Refused("this key was used before, with the amount 5")
    assert await purse.left() == [5]
    # Also when the same request comes once more after the hour.
    until = purse.clock.now + timedelta(hours=1)
    purse.clock.wait(HOUR_S)
    assert await purse.add(5, expires_at=until, key="invoice 7") == Exists(0, first.ledger_id)
    await purse.assert_books_balance()


async def test_a_grant_that_cannot_be(purse: Purse) -> None:
    assert await purse.add(5, 0) == Refused("credits can't be added that have expired already")
    assert await purse.add(-5, HOUR_S) == Refused("only credits that are added can expire")
    assert await purse.add(0, HOUR_S) == Refused("the amount is zero")
    assert await purse.log() == []


SPOILED = {
    "UPDATE credit_grant SET left_micro = left_micro - 1":
        "7 credits expire one day, but its grants have only 6.999999 left",
    "UPDATE account SET next_expiry_at = 'infinity'": "but its next expiry is infinity",
    "UPDATE credit_grant SET amount_micro = amount_micro + 1":
        "is of 10.000001 credits, its ledger row of 10",
    "UPDATE account SET grant_base_micro = grant_base_micro - 1":
        "messages took 3 credits of grants, its grants say 2.999999",
}  # fmt: skip


@pytest.mark.parametrize("statement", SPOILED)
async def test_the_audit_sees_grants_that_do_not_add_up(purse: Purse, statement: str) -> None:
    await purse.add(10, HOUR_S)
    await purse.charge(3)
    await purse.conn.execute("SELECT spread_grants(id) FROM account")
    await purse.assert_books_balance()
    await purse.conn.execute(statement)
    [finding] = await audit(purse.conn)
    assert (finding.check, finding.account) == ("grant", "anna")
    assert SPOILED[statement] in finding.detail


# ------------------------------------------------------------- any sequence of all that


@dataclass
class Grant:
    """One grant of the model."""

    id: int
    expires_at: datetime
    left: int


Parts = list[tuple[Grant, int]]


@dataclass
class Model:
    """The rules in their simplest form: every credit is moved when it is spent."""

    limit: int
    permanent: int = 0
    grants: list[Grant] = field(default_factory=list)

    @property
    def granted(self) -> int:
        return sum(grant.left for grant in self.grants)

    @property
    def balance(self) -> int:
        return self.permanent + self.granted

    def by_expiry(self) -> list[Grant]:
        return sorted(self.grants, key=lambda grant: (grant.expires_at, grant.id))

    def take(self, credits: int) -> Parts:
        """From the grants, the one that expires first first."""
        parts: Parts = []
        for grant in self.by_expiry():
            micro = min(grant.left, credits)
            grant.left, credits = grant.left - micro, credits - micro
            parts.append((grant, micro))
        return parts

    def grant(self, credits: int, expires_at: datetime) -> None:
        pays = min(credits, max(-self.permanent, 0))
        self.permanent += pays
        self.grants.append(Grant(len(self.grants), expires_at, credits - pays))

    def expire(self, now: datetime) -> int:
        due = [grant for grant in self.grants if grant.expires_at <= now]
        total = sum(grant.left for grant in due)
        for grant in due:
            grant.left = 0
        return total

    def charge(self, price: int) -> Parts | None:
        """What of it was taken from which grant; None: refused."""
        if self.balance - price < -self.limit:
            return None
        parts = self.take(price)
        self.permanent -= price - sum(micro for _, micro in parts)
        return parts

    def remove(self, credits: int) -> bool:
        if self.balance - credits < -self.limit:
            return False
        from_grants = max(0, min(self.granted, credits - self.permanent))
        self.take(from_grants)
        self.permanent -= credits - from_grants
        return True

    def release(self, back: int, parts: Parts) -> None:
        """Gives back all or a part of the price: what was taken of grants first, and a debt
        is paid before that."""
        granted = min(back, sum(micro for _, micro in parts))
        self.permanent += back - granted
        pays = min(granted, max(-self.permanent, 0))
        self.permanent += pays
        room = granted - pays
        for grant, micro in reversed(parts):
            grant.left, room = grant.left + min(micro, room), room - min(micro, room)


STEP = st.one_of(
    st.tuples(st.just("grant"), st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.just("add"), st.integers(1, 8)),
    st.tuples(st.just("remove"), st.integers(1, 12)),
    st.tuples(st.just("charge"), st.integers(1, 12)),
    st.tuples(st.just("charge"), st.integers(1, 12)),
    st.tuples(st.just("release"), st.integers(0, 20), st.sampled_from([12, 12, 1, 3])),
    st.tuples(st.just("undo"), st.integers(1, 12)),
    st.tuples(st.just("wait"), st.integers(1, 6)),
    st.tuples(st.just("expire")),
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEP, min_size=3, max_size=20), limit=st.sampled_from([0, 0, 5]))
@example(  # what was released into an expired grant goes before a charge can take it
    steps=[("grant", 5, 2), ("charge", 5), ("wait", 3), ("release", 0, 12), ("charge", 1)], limit=0
)
async def test_any_sequence_spends_what_expires_first(
    conn: Any, steps: list[tuple[Any, ...]], limit: int
) -> None:
    purse = await new_purse(conn, f"any{next(_numbers)}", limit=limit)
    model = Model(limit)
    open_messages: list[tuple[Any, int, Parts]] = []
    expired = 0
    for step in steps:
        purse.clock.wait(1)  # ids of one moment have no order
        now = purse.clock.now
        match step:
            case ("grant", credits, minutes):
                # What was due goes first, as the transaction does it.
                expired += model.expire(now)
                assert isinstance(await purse.add(credits, minutes * 60), Added)
                model.grant(credits, now + timedelta(minutes=minutes))
            case ("add", credits):
                expired += model.expire(now)
                assert isinstance(await purse.add(credits), Added)
                model.permanent += credits
            case ("remove", credits):
                expired += model.expire(now)
                removed = model.remove(credits)
                assert isinstance(await purse.add(-credits), Added if removed else Refused)
            case ("charge", price):
                expired += model.expire(now)
                parts = model.charge(price)
                charged = await purse.charge(price)
                assert len(charged) == (parts is not None)
                if parts is not None:
                    open_messages.append((charged[0], price, parts))
            case ("release", which, back) if open_messages:
                message, price, parts = open_messages.pop(which % len(open_messages))
                await purse.release(message, back=back)
                model.release(min(back, price), parts)
            case ("undo", price):
                await purse.expire()
                expired += model.expire(now)
                before = (await purse.left(), await purse.granted(), await purse.balance())
                await purse.release(*await purse.charge(price))
                after = (await purse.left(), await purse.granted(), await purse.balance())
                assert after == before
            case ("wait", minutes):
                purse.clock.wait(minutes * 60)
            case ("expire",):
                await purse.expire()
                expired += model.expire(now)
        assert (await purse.balance(), await purse.granted()) == (model.balance, model.granted)
        assert await purse.left() == [grant.left for grant in model.by_expiry() if grant.left]
    log = await purse.log()
    assert -sum(change for operation, change, _ in log if operation == "expire") == expired
    await purse.assert_books_balance()
