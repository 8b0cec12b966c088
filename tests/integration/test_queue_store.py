"""The statements of the durable queue, called as the flow calls them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.messages import MICRO, bare_message

from proxy.store import ledger, queue, sweeps
from proxy.store.audit import audit
from proxy.store.database import Database
from proxy.store.ids import IdMint
from proxy.store.ledger import Settlement
from proxy.store.queue import Claimed, Ended, Place, Postponed, Receipt


@pytest.fixture
def mint() -> IdMint:
    return IdMint(7)


async def account(connection: Any, name: str = "shop", credits: int = 1000) -> int:
    account_id = await connection.fetchval(
        "INSERT INTO account (name, balance_micro) VALUES ($1, $2) RETURNING id",
        name,
        credits * MICRO,
    )
    await connection.execute(
        "INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro)"
        " VALUES (id_from_time(now()), $1, 'add', 'paid_in', $2, $2)",
        account_id,
        credits * MICRO,
    )
    return int(account_id)


def queued(
    account_id: int, to: str, *, route: str = "modems", due_in_s: float = 0, life_s: float = 60
) -> Any:
    now = time.time()
    place = Place(route, queue.line_of(to), now + due_in_s if due_in_s else 0.0, now + life_s)
    return bare_message(account_id, destination_addr=to, queue=place, body=to.encode())


class Node:
    """What a proxy does."""

    def __init__(self, connection: Any, mint: IdMint, number: int = 1) -> None:
        self.connection = connection
        self.mint = mint
        self.number = number

    async def charge(self, *messages: Any) -> list[Any]:
        await ledger.charge(self.connection, self.mint, messages)
        return list(messages)

    async def claim(self, route: str = "modems", limit: int = 100) -> list[Claimed]:
        return await queue.claim(self.connection, self.number, {route: limit})

    async def work(self, ended: list[Ended], postponed: list[Postponed] | None = None) -> set[int]:
        return await queue.work(
            self.connection, self.mint, ended, postponed or [], retry_min_s=5, retry_max_s=60
        )

    async def send(self, claimed: list[Claimed]) -> None:
        await self.work([Ended(Settlement(message_of(c), None, 0)) for c in claimed])

    async def lines(self) -> int:
        return int(await self.connection.fetchval("SELECT count(*) FROM queue_line"))

    async def waiting(self) -> int:
        return int(await self.connection.fetchval("SELECT count(*) FROM queued"))


def message_of(claimed: Claimed) -> Any:
    place = Place(claimed.route, claimed.line, claimed.due_s, claimed.expires_s, claimed.attempts)
    message = bare_message(claimed.account_id, claimed.price_micro, queue=place)
    message.id = claimed.id
    return message


@pytest.fixture
def node(conn: Any, mint: IdMint) -> Node:
    return Node(conn, mint)


async def test_order_is_kept_for_each_destination_and_one_is_on_its_way(node: Node) -> None:
    shop = await account(node.connection)
    other = await account(node.connection, "other")
    first, second, elsewhere = await node.charge(
        queued(shop, "447001"), queued(shop, "+447001"), queued(shop, "447002")
    )
    (foreign,) = await node.charge(queued(other, "447001"))
    claimed = await node.claim()
    assert {c.id for c in claimed} == {first.id, elsewhere.id, foreign.id}
    assert {c.body for c in claimed} == {b"447001", b"447002"}
    assert await node.claim() == []
    await node.send([c for c in claimed if c.id == first.id])
    assert [c.id for c in await node.claim()] == [second.id]


async def test_what_is_refused_by_the_charge_is_not_queued(node: Node) -> None:
    poor = await account(node.connection, credits=1)
    direct = bare_message(poor)
    one, two = queued(poor, "1"), queued(poor, "2")
    await node.charge(direct, one, two)
    assert await node.waiting() == 0
    assert await node.lines() == 0
    rich = await account(node.connection, "rich", credits=1)
    await node.charge(queued(rich, "1"), queued(rich, "2"), bare_message(rich))
    assert await node.waiting() == 1
    assert [c.line for c in await node.claim()] == ["1"]


async def test_a_line_goes_when_its_last_message_ends(node: Node) -> None:
    shop = await account(node.connection)
    await node.charge(queued(shop, "1"), queued(shop, "1"))
    for left in (1, 0):
        await node.send(await node.claim())
        assert await node.waiting() == left
    assert await node.lines() == 0
    assert await audit(node.connection) == []


async def test_a_message_that_is_put_off_holds_its_line_but_no_other(node: Node) -> None:
    shop = await account(node.connection)
    first, _, other = await node.charge(queued(shop, "1"), queued(shop, "1"), queued(shop, "2"))
    claimed = {c.id: c for c in await node.claim()}
    postponed = Postponed(message_of(claimed[first.id]), "busy", 0x58)
    await node.work([], [postponed])
    await node.send([claimed[other.id]])
    await node.charge(queued(shop, "1"))
    assert await node.claim() == [], "its pause is not over"
    row = await node.connection.fetchrow(
        "SELECT tries, next_at - now() AS pause FROM queue_line WHERE line = '1'"
    )
    assert row["tries"] == 1
    assert 4 < row["pause"].total_seconds() <= 5
    await node.connection.execute("UPDATE queue_line SET next_at = now()")
    again = await node.claim()
    assert [c.id for c in again] == [first.id]
    # Said once more, because its first answer was lost: about a claim that is over.
    await node.work([], [postponed])
    assert await node.claim() == []
    await node.send(again)
    assert len(await node.claim()) == 1


async def test_pauses_double_up_to_the_longest(node: Node) -> None:
    shop = await account(node.connection)
    await node.charge(queued(shop, "1"))
    pauses = []
    for _ in range(6):
        (claimed,) = await node.claim()
        await node.work([], [Postponed(message_of(claimed), "busy", 8)])
        pauses.append(
            await node.connection.fetchval(
                "SELECT round(extract(epoch FROM next_at - now())) FROM queue_line"
            )
        )
        await node.connection.execute("UPDATE queue_line SET next_at = now()")
    assert pauses == [5, 10, 20, 40, 60, 60]


async def test_scheduled_messages_stand_in_nobodys_way(node: Node) -> None:
    shop = await account(node.connection)
    scheduled, now = await node.charge(queued(shop, "1", due_in_s=3600), queued(shop, "1"))
    assert [c.id for c in await node.claim()] == [now.id]
    await node.connection.execute("UPDATE queued SET due_at = now() WHERE id = $1", scheduled.id)
    assert await node.claim() == [], "one at a time"
    await node.send([await claimed_again(node, now.id)])
    assert [c.id for c in await node.claim()] == [scheduled.id]


async def claimed_again(node: Node, message_id: int) -> Claimed:
    row = await node.connection.fetchrow("SELECT * FROM queued WHERE id = $1", message_id)
    return Claimed(
        row["id"], row["account_id"], "", "accept", row["line"], row["route"], 4, b"",
        row["price_micro"], "", "", -1, row["attempts"], 0.0, 0.0,
    )  # fmt: skip


async def test_two_proxies_never_claim_the_same(database: Database, mint: IdMint) -> None:
    async with database.pool.acquire() as one, database.pool.acquire() as two:
        a, b = Node(one, mint, 1), Node(two, mint, 2)
        shop = await account(one)
        await a.charge(*[queued(shop, str(n)) for n in range(20)])
        async with one.transaction():
            first = await a.claim(limit=8)
            # The other one does not wait for the first one's commit, and skips what it has.
            second = await b.claim()
        assert len(first) == 8
        assert len(second) == 12
        assert not {c.id for c in first} & {c.id for c in second}


async def test_what_a_dead_proxy_was_sending_is_in_doubt_and_not_sent_again(node: Node) -> None:
    shop = await account(node.connection)
    first, second = await node.charge(queued(shop, "1"), queued(shop, "1"))
    await node.claim()
    assert await queue.forget_claims(node.connection, [2, 3]) == []
    assert await queue.forget_claims(node.connection, [1]) == [(shop, 1)]
    assert await queue.forget_claims(node.connection, [1]) == []
    states = dict(await node.connection.fetch("SELECT id, state FROM v_message"))
    assert states == {first.id: "in_doubt", second.id: "queued"}
    assert [c.id for c in await node.claim()] == [second.id]
    assert await audit(node.connection) == []


async def test_claims_whose_answer_was_lost_are_free_again(node: Node) -> None:
    shop = await account(node.connection)
    first, second = await node.charge(queued(shop, "1"), queued(shop, "2"))
    await node.claim()
    await queue.free_unknown_claims(node.connection, 1, [first.id])
    assert [c.id for c in await node.claim()] == [second.id]
    states = {r["state"] for r in await node.connection.fetch("SELECT state FROM v_message")}
    assert states == {"sending"}


async def test_an_end_with_credit_back_and_a_receipt_comes_once(node: Node) -> None:
    shop = await account(node.connection, credits=10)
    (message,) = await node.charge(queued(shop, "1"))
    (claimed,) = await node.claim()
    settlement = Settlement(message_of(claimed), None, 0x0B, released=True, reason="refused")
    ended = [Ended(settlement, [Receipt(5, "011", b"receipt")])]
    assert await node.work(ended) == {message.id}
    assert await node.work(ended) == set()
    assert await node.connection.fetchval("SELECT balance FROM v_account") == 10
    rows = await node.connection.fetch("SELECT message_id, message_state, body FROM delivery")
    assert [tuple(r) for r in rows] == [(message.id, 5, b"receipt")]
    assert (await node.waiting(), await node.lines()) == (0, 0)
    assert await audit(node.connection) == []


async def test_putting_what_was_charged_before_can_be_repeated(node: Node) -> None:
    shop = await account(node.connection)
    message = bare_message(shop, destination_addr="1")
    await node.charge(message)
    message.queue = Place("modems", "1", 0.0, time.time() + 60)
    await queue.put(node.connection, [message])
    await queue.put(node.connection, [message])
    claimed = await node.claim()
    assert [c.id for c in claimed] == [message.id]
    await node.send(claimed)
    await queue.put(node.connection, [message])
    assert await node.waiting() == 0, "it has its end: it is not sent again"


async def test_what_expired_is_not_claimed_and_can_be_taken_out(node: Node) -> None:
    shop = await account(node.connection)
    old, young = await node.charge(queued(shop, "1", life_s=-1), queued(shop, "1"))
    assert await queue.expired(node.connection, 10) == [(shop, old.id)]
    assert [c.id for c in await node.claim()] == [young.id]
    async with node.connection.transaction():
        locked = await queue.lock(node.connection, [(shop, old.id), (shop, young.id)])
        assert [c.id for c in locked] == [old.id], "what is on its way stays"
        settlement = Settlement(message_of(locked[0]), None, 0, released=True, reason="expired")
        await node.work([Ended(settlement)])
    assert await node.claim() == [], "the other one of its line is still on its way"
    assert await node.waiting() == 1


async def test_a_replaced_message_keeps_its_place_or_moves(node: Node) -> None:
    shop = await account(node.connection)
    first, second = await node.charge(queued(shop, "1"), queued(shop, "1"))
    assert await queue.replace(node.connection, shop, first.id, b"new", time.time() + 99, None)
    (claimed,) = await node.claim()
    assert claimed.id == second.id
    assert not await queue.replace(node.connection, shop, second.id, b"x", None, None)
    await node.send([claimed])
    assert await node.claim() == []
    body = await node.connection.fetchval("SELECT body FROM queued WHERE id = $1", first.id)
    assert body == b"new"


async def test_lines_move_to_another_route(node: Node) -> None:
    shop = await account(node.connection)
    await node.charge(queued(shop, "1", route="old"), queued(shop, "1", route="old"))
    await node.charge(queued(shop, "1", route="new"))
    (first,) = await queue.homeless(node.connection, ["new"], 10)
    await queue.move_line(node.connection, shop, first.line, "old", "new")
    assert await queue.homeless(node.connection, ["new"], 10) == []
    assert await queue.routes_waiting(node.connection) == ["new"]
    seen = []
    for _ in range(3):
        (claimed,) = await node.claim("new")
        seen.append(claimed.id)
        await node.send([claimed])
    assert seen == sorted(seen)
    assert await node.lines() == 0


async def test_waiting_messages_are_held_and_no_doubt(node: Node) -> None:
    shop = await account(node.connection, credits=10)
    old = IdMint(7, clock_ns=lambda: time.time_ns() - 3600 * 10**9)
    await ledger.charge(node.connection, old, [queued(shop, "1")])
    await node.connection.execute(
        "UPDATE sweep SET swept_through = id_from_time(now() - interval '2 h')"
    )
    assert await sweeps.lost_holds(node.connection, 60) == []
    row = await node.connection.fetchrow("SELECT balance, held FROM v_account")
    assert tuple(row) == (9, 1)
    assert await audit(node.connection) == []
    assert [d.route for d in await queue.depths(node.connection)] == ["modems"]
