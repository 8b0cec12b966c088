"""Several proxies and people work on one queue at the same time, as their statements do."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from support.messages import MICRO, bare_message
from support.queued import account
from support.submissions import body_of

from proxy.config import QueueSettings, RetrySettings, StatusSettings
from proxy.flow import homeless
from proxy.flow.failover import Failover
from proxy.flow.forward import Forward
from proxy.flow.operate_queue import OperateQueue
from proxy.flow.queue import Queue
from proxy.flow.settle import Settle
from proxy.flow.waiting import message_of as message_of_queue
from proxy.flow.waiting import receipts_of, withdraw
from proxy.routing.table import Conditions, Route, RouteTable
from proxy.smpp.times import time_fields
from proxy.smpp.vocabulary import ESME_RINVEXPIRY, REPLACE_SM, SUBMIT_MULTI, SUBMIT_SM, MessageState
from proxy.store import ledger, queue, queue_pages
from proxy.store.audit import audit
from proxy.store.ids import IdMint
from proxy.store.ledger import Settlement
from proxy.store.queue import Claimed, Ended, Place, Postponed

SECONDS = float(os.environ.get("SMPP_PROXY_TEST_RACES_S", "3"))
ROUTES = ("a", "B")  # "C" sorts them otherwise than most collations
NUMBERS = [f"44770000{n}" for n in range(6)]


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database_url, min_size=10, max_size=10) as opened:
        yield opened


def message_to(account_id: int, number: str, route: str, life_s: float = 60) -> Any:
    now = time.time()
    place = Place(route, queue.line_of(number), 0.0, now + life_s)
    body = body_of(text=b"hello", destinations=((1, 1, number.encode()),))
    return bare_message(account_id, destination_addr=number, queue=place, body=body)


def message_of(claimed: Claimed) -> Any:
    place = Place(claimed.route, claimed.line, claimed.due_s, claimed.expires_s, claimed.attempts)
    message = bare_message(claimed.account_id, claimed.price_micro, queue=place)
    message.id = claimed.id
    return message


class World:
    """What all of them do, and what was sent."""

    def __init__(self, pool: asyncpg.Pool, accounts: list[int]) -> None:
        self.pool = pool
        self.accounts = accounts
        self.ends_at = time.monotonic() + SECONDS
        self.sent: Counter[int] = Counter()
        self.ids: set[int] = set()
        self.not_confirmed: set[int] = set()
        self.deadlocks: list[str] = []
        self.random = random.Random(4)

    async def until_the_end(self, what: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self.ends_at:
            try:
                await what()
            except asyncpg.DeadlockDetectedError as error:
                self.deadlocks.append(f"{what.__qualname__}: {error.detail}")
            await asyncio.sleep(0)

    def some(self, number: int) -> list[Any]:
        r = self.random
        return [
            message_to(
                r.choice(self.accounts), r.choice(NUMBERS), r.choice(ROUTES), r.choice((0.05, 60))
            )
            for _ in range(number)
        ]


class Proxy:
    """One that charges, claims, sends and hears; its node number may be another's as well."""

    def __init__(self, world: World, node: int) -> None:
        self.world = world
        self.node = node
        self.run = node * 1000
        self.mint = IdMint(node)
        self.here: dict[int, Claimed] = {}

    async def charge(self) -> None:
        world = self.world
        messages = world.some(world.random.randint(1, 8))
        async with world.pool.acquire() as connection:
            await ledger.charge(connection, self.mint, messages)
            ids = {m.id for m in messages}
            world.ids |= ids
            if world.random.random() < 0.2:  # its answer was lost
                lost = [Settlement(m, None, 8, released=True, reason="lost") for m in messages]
                kept = await queue.give_up(connection, self.mint, lost)
                # Its answer was lost as well; who kept them may have refused them meanwhile.
                assert await queue.give_up(connection, self.mint, lost) <= kept
                world.not_confirmed |= ids - kept

    async def put(self) -> None:
        """A direct message whose upstream went away."""
        world = self.world
        (message,) = world.some(1)
        place, message.queue = message.queue, None
        async with world.pool.acquire() as connection:
            await ledger.charge(connection, self.mint, [message])
            message.queue = place
            world.ids.add(message.id)
            await queue.put(connection, [message])
            await queue.put(connection, [message])

    async def claim(self) -> None:
        world, r = self.world, self.world.random
        async with world.pool.acquire() as connection:
            claimed = await queue.claim(
                connection, self.node, dict.fromkeys(ROUTES, r.randint(1, 4)), self.run
            )
        if r.random() < 0.1:  # the answer is lost, nothing is sent
            return
        self.here.update({one.id: one for one in claimed})

    async def work(self) -> None:
        world, r = self.world, self.world.random
        ended: list[Ended] = []
        postponed: list[Postponed] = []
        chosen = r.sample(sorted(self.here), min(len(self.here), 4))
        worked = [self.here[i] for i in chosen]
        for one in worked:
            message = message_of(one)
            match r.randint(0, 5):
                case 0:
                    postponed.append(Postponed(message, "busy", 0x58))
                case 1:
                    postponed.append(Postponed(message, "no room", at_once=True))
                case 2:
                    world.sent[one.id] += 1
                    ended.append(Ended(Settlement(message, None, 8, in_doubt=True, reason="-")))
                case 3:
                    ended.append(Ended(Settlement(message, None, 11, released=True)))
                case _:
                    world.sent[one.id] += 1
                    ended.append(Ended(Settlement(message, None, 0)))
        if not chosen:
            return
        async with world.pool.acquire() as connection:
            for _ in range(r.randint(1, 2)):  # the answer is lost: once more
                while True:
                    try:
                        await queue.work(
                            connection, self.mint, ended, postponed,
                            retry_min_s=0.01, retry_max_s=0.05,
                        )  # fmt: skip
                        break
                    except asyncpg.DeadlockDetectedError as error:
                        world.deadlocks.append(f"work: {error.detail}")
        for one in worked:
            if self.here.get(one.id) is one:  # not claimed again meanwhile
                del self.here[one.id]

    async def remember(self) -> None:
        async with self.world.pool.acquire() as connection:
            await queue.free_unknown_claims(connection, self.node, list(self.here), self.run)

    async def claim_or_remember(self) -> None:
        """One after the other, as the flow does it."""
        if self.world.random.random() < 0.1:
            await self.remember()
        await self.claim()


class People:
    """Who takes out, changes, moves and hurries what waits."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.mint = IdMint(99)

    async def _any(self, number: int) -> list[Any]:
        rows = await self.world.pool.fetch(
            "SELECT account_id, id, line, route FROM queued ORDER BY random() LIMIT $1", number
        )
        return list(rows)

    async def cancel(self) -> None:
        wanted = [(row["account_id"], row["id"]) for row in await self._any(3)]
        await withdraw(
            self.world.pool, self.mint, wanted, MessageState.DELETED, "cancelled", time.time()
        )

    async def expire(self) -> None:
        async with self.world.pool.acquire() as connection:
            wanted = await queue.expired(connection, 100)
        await withdraw(
            self.world.pool, self.mint, wanted, MessageState.EXPIRED, "expired", time.time()
        )

    async def replace(self) -> None:
        for row in await self._any(1):
            due = self.world.random.choice((None, time.time() + 0.1))
            async with self.world.pool.acquire() as connection:
                body = body_of(text=b"other", destinations=((1, 1, row["line"].encode()),))
                await queue.replace(connection, row["account_id"], row["id"], body, due, None)

    async def move(self) -> None:
        for row in await self._any(1):
            other = next(route for route in ROUTES if route != row["route"])
            async with self.world.pool.acquire() as connection:
                await queue.move_line(
                    connection, row["account_id"], row["line"], row["route"], other
                )

    async def hurry(self) -> None:
        async with self.world.pool.acquire() as connection:
            async for lines in queue_pages.lines(connection, queue_pages.Selection(route="a")):
                await queue_pages.retry(connection, lines)


async def test_whatever_happens_at_once_no_message_is_lost_or_sent_twice(
    pool: asyncpg.Pool,
) -> None:
    accounts = [await account(pool, name, credits=100_000) for name in ("one", "two", "three")]
    world = World(pool, accounts)
    people = People(world)
    proxies = [Proxy(world, node) for node in (1, 2, 3)]
    dead = Proxy(world, 4)
    await asyncio.gather(
        *(
            world.until_the_end(what)
            for proxy in proxies
            for what in (proxy.charge, proxy.put, proxy.claim_or_remember, proxy.work)
        ),
        *(
            world.until_the_end(what)
            for what in (
                people.cancel, people.expire, people.replace, people.move, people.hurry, dead.claim
            )
        ),
    )  # fmt: skip
    assert world.deadlocks == []
    world.ends_at = float("inf")
    async with pool.acquire() as connection:
        assert await audit(connection) == []
        await queue.forget_claims(connection, [4])
        for proxy in proxies:
            while proxy.here:
                await proxy.work()
            await proxy.remember()
        stuck = await connection.fetch("SELECT 1 FROM queue_line WHERE claimed_by IS NOT NULL")
        assert stuck == []
        assert await connection.fetchval("SELECT count(*) FROM queued WHERE sending") == 0
        await connection.execute("UPDATE queue_line SET next_at = now()")
        deadline = time.monotonic() + 20
        while await connection.fetchval("SELECT count(*) FROM queued"):
            assert time.monotonic() < deadline, "they are stuck"
            await people.expire()
            await proxies[0].claim()
            while proxies[0].here:
                await proxies[0].work()
            await proxies[0].remember()
        assert await connection.fetchval("SELECT count(*) FROM queue_line") == 0
        assert await audit(connection) == []
        held = await connection.fetchval(
            "SELECT count(*) FROM message m WHERE NOT EXISTS (SELECT FROM outcome o"
            " WHERE o.account_id = m.account_id AND o.message_id = m.id) AND NOT EXISTS"
            " (SELECT FROM in_doubt d WHERE d.account_id = m.account_id AND d.message_id = m.id)"
        )
        assert held == 0
        free = await connection.fetch(
            "SELECT message_id FROM outcome WHERE state = 'released' AND message_id = ANY ($1)",
            list(world.sent),
        )
        assert free == [], "sent, and not charged"
    assert [i for i, times in world.sent.items() if times > 1] == [], "sent twice"
    assert world.not_confirmed & world.sent.keys() == set(), "refused, and sent"
    assert world.sent
    assert world.not_confirmed


async def test_a_claim_is_of_one_moment(pool: asyncpg.Pool) -> None:
    """A line's first message is taken out while a claim goes through many lines."""
    shop = await account(pool, credits=100_000)
    mint = IdMint(5)
    async with pool.acquire() as connection:
        many = [message_to(shop, f"4477{n:06d}", "a") for n in range(2500)]
        await ledger.charge(connection, mint, many)
        first, second = message_to(shop, "999", "a"), message_to(shop, "999", "a")
        await ledger.charge(connection, mint, [first, second])  # the last to be looked at

    async def claim() -> None:
        async with pool.acquire() as connection:
            await queue.claim(connection, 1, {"a": 3000})

    async def cancel() -> None:
        wanted = [(shop, first.id)]
        await withdraw(pool, mint, wanted, MessageState.DELETED, "cancelled", time.time())

    await asyncio.gather(claim(), cancel())
    rows = await pool.fetch("SELECT id, sending FROM queued WHERE line = '999'")
    claimed_by = await pool.fetchval("SELECT claimed_by FROM queue_line WHERE line = '999'")
    sending = [row["id"] for row in rows if row["sending"]]
    assert (claimed_by is not None) == (len(sending) == 1)
    assert len(rows) == 1 or sending == [first.id]


async def test_who_takes_over_a_number_frees_nothing_of_its_holder(pool: asyncpg.Pool) -> None:
    shop = await account(pool)
    async with pool.acquire() as connection:
        message = message_to(shop, "1", "a")
        await ledger.charge(connection, IdMint(1), [message])
        (claimed,) = await queue.claim(connection, 1, {"a": 9}, run=11)
        # It lost its connection, another one began with its number, and it has another now.
        await queue.free_unknown_claims(connection, 1, [], run=22)
        assert await queue.claim(connection, 1, {"a": 9}, run=22) == []
        await queue.free_unknown_claims(connection, 2, [claimed.id], run=11)
        assert await connection.fetchval("SELECT claimed_by FROM queue_line") == 2
        assert await queue.forget_claims(connection, [1]) == []
        await queue.free_unknown_claims(connection, 2, [], run=11)
        assert [c.id for c in await queue.claim(connection, 1, {"a": 9}, run=22)] == [message.id]


async def test_what_ends_behind_it_does_not_hurry_a_message_that_was_put_off(
    pool: asyncpg.Pool,
) -> None:
    shop = await account(pool)
    mint = IdMint(1)
    async with pool.acquire() as connection:
        first, second = message_to(shop, "1", "a"), message_to(shop, "1", "a")
        await ledger.charge(connection, mint, [first, second])
        (claimed,) = await queue.claim(connection, 1, {"a": 9})
        put_off = [Postponed(message_of(claimed), "busy", 0x58)]
        await queue.work(connection, mint, [], put_off, retry_min_s=60, retry_max_s=60)
        wanted = [(shop, second.id)]
        await withdraw(pool, mint, wanted, MessageState.DELETED, "cancelled", time.time())
        assert await queue.claim(connection, 1, {"a": 9}) == []
        third = message_to(shop, "1", "a")
        await ledger.charge(connection, mint, [third])
        wanted = [(shop, first.id)]
        await withdraw(pool, mint, wanted, MessageState.DELETED, "cancelled", time.time())
        assert [c.id for c in await queue.claim(connection, 1, {"a": 9})] == [third.id]


async def test_lines_without_a_route_stand_in_nobodys_way(pool: asyncpg.Pool) -> None:
    shop = await account(pool)
    events: list[int] = []

    def record(kind: str, text: str, *, severity: str, count: int) -> None:
        events.append(count)

    new: Route[Any] = Route("new", (), conditions=Conditions(["2"]))
    async with pool.acquire() as connection:
        messages = [message_to(shop, f"1{n:03d}", "old") for n in range(homeless._AT_ONCE)]
        messages += [message_to(shop, f"2{n}", "old") for n in range(3)]
        await ledger.charge(connection, IdMint(1), messages)
    job = homeless.Homeless(lambda: pool, record)
    job.begin()
    for _ in range(2):
        await job.move(RouteTable([new]))
    assert await pool.fetchval("SELECT count(*) FROM queued WHERE route = 'new'") == 3
    assert events == [homeless._AT_ONCE]


def flow_of(pool: Any) -> tuple[Queue, Settle]:
    """A queue and what it settles with; nothing of them runs."""
    mint, told = IdMint(1), lambda *_, **__: None
    settle = Settle(pool.acquire, mint, StatusSettings(), Any, told)  # type: ignore[arg-type]
    forward = Forward(settle.not_sent)
    made = Queue(lambda: pool, pool.acquire, mint, QueueSettings(), settle, forward, told)
    settle.queue = made
    return made, settle


async def test_a_claim_may_be_heard_of_before_the_end_of_the_one_before(pool: asyncpg.Pool) -> None:
    made, _ = flow_of(pool)
    before, again = bare_message(1), bare_message(1)
    before.id = again.id = 7
    made._here[7] = again
    made._committed([Postponed(before, "no room", at_once=True)], set())
    assert made._here == {7: again}, "what is being sent would be free"
    made._committed([Postponed(again, "no room", at_once=True)], set())
    assert made._here == {}


async def test_what_the_queue_can_not_take_is_not_offered_to_it_for_ever(
    pool: asyncpg.Pool,
) -> None:
    made, settle = flow_of(pool)
    body = body_of(text=b"hello", destinations=((1, 1, b"1"),))
    now = time.time()
    message = message_of_queue(
        Claimed(7, 1, "shop", "accept", "1", "a", 4, body, MICRO, "", "", -1, 1, now, now + 60), now
    )
    message.route = Route("a", (), queue_when_down=True)
    made._failed([message])
    assert (made.lane.depth, settle.release_lane.depth) == (0, 1)


@pytest.mark.parametrize("charge_on", ["submit", "accept"])
async def test_a_client_hears_of_each_refused_destination(charge_on: str) -> None:
    """The response to its submit_multi could not tell."""
    numbers = (b"447", b"999", b"49")
    body = b"\0\1\1\x31\0\3" + b"".join(b"\1\1\1" + n + b"\0" for n in numbers)
    body += b"\0\0\0\0\0\1\0\0\0\2hi"
    now = time.time()
    claimed = Claimed(
        IdMint(1).mint(1)[0], 1, "shop", charge_on, "447,999,49", "a", SUBMIT_MULTI, body,  # type: ignore[arg-type]
        3 * MICRO, ",".join([str(MICRO)] * 3), "", -1, 1, now, now + 60,
    )  # fmt: skip
    message = message_of_queue(claimed, now)
    answer = b"id\0\1\1\1999\0\0\0\0\x0b"
    upstream = SimpleNamespace(
        id=1, name="c", response_key=lambda _: None, cost_micro=lambda _: None
    )
    ended: list[Ended] = []
    _, settle = flow_of(SimpleNamespace(acquire=None))
    settle.queue = SimpleNamespace(
        ended=lambda s: ended.extend(Ended(one, receipts_of(one, now)) for one in s)
    )
    settle.answered(upstream, [(message, 0, answer)])
    (one,) = ended
    assert [receipt.state for receipt in one.receipts] == [MessageState.UNDELIVERABLE]
    assert one.settlement.released == (charge_on == "accept")


async def test_another_schedule_leaves_a_message_its_own_validity(pool: asyncpg.Pool) -> None:
    shop = await account(pool)
    made, _ = flow_of(pool)
    operate = OperateQueue(lambda: pool, made)
    plain = body_of(text=b"hello", destinations=((1, 1, b"1"),))
    fields = time_fields(SUBMIT_SM, plain)
    body = plain[: fields.start] + b"\0000000010000000R\0" + plain[fields.end :]  # an hour
    message = message_to(shop, "1", "a", life_s=3600)
    message.body = body
    async with pool.acquire() as connection:
        await ledger.charge(connection, IdMint(1), [message])

    async def schedule(relative: bytes) -> int:
        operation = b"%d\0\0\0\0%b\0\0\0\0\2hi" % (message.id, relative)
        answer = await operate.received(shop, REPLACE_SM, message.id, operation)
        assert answer is not None
        return answer[0]

    assert await schedule(b"000000020000000R") == ESME_RINVEXPIRY
    assert await schedule(b"000000001000000R") == 0
    left_s = await pool.fetchval(
        "SELECT extract(epoch FROM expires_at - now())::float8 FROM queued"
    )
    assert left_s < 3601


async def test_a_refused_message_waits_anew_at_the_next_upstream() -> None:
    """It has waited at the first one for as long as that takes."""
    made, settle = flow_of(SimpleNamespace(acquire=None))
    sent: list[Any] = []
    one = SimpleNamespace(name="one", pool=None, bound=True, rule=lambda _: "next")
    other = SimpleNamespace(name="other", pool=None, bound=True)
    message = bare_message(1)
    message.tried, message.tries, message.upstreams = (), 0, (one, other)
    message.arrived_at = asyncio.get_running_loop().time()
    message.waits_until = message.arrived_at
    forward = SimpleNamespace(send=sent.extend)
    failover = Failover(RetrySettings(), settle, forward, made)  # type: ignore[arg-type]
    failover.answered(one, [(message, 8, b"")])
    assert sent == [message]
    assert message.waits_until == 0
