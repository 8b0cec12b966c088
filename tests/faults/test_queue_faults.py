"""The durable queue under kill -9, lost connections and several proxies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

from support.books import Books, Traffic, open_books
from support.esme import SUBMIT_SM, submit_body
from support.faults import ProxyProcess, abandon, carrier, client_of, proxy_on
from support.waiting import eventually

from proxy.config import QueueSettings, RouteSettings
from proxy.simulator.smsc import SimulatedSmsc
from proxy.store import queue

QUEUED = """
[[route]]
name = "q"
upstreams = ["carrier1"]
mode = "queued"
"""
ROUTE = RouteSettings(name="q", upstreams=["carrier1"], mode="queued")
FAST = QueueSettings(retry_min_s=0.05, retry_max_s=0.2)
MANY = int(os.environ.get("SMPP_PROXY_TEST_QUEUED", "3000"))
"""100,000 takes a few minutes."""


async def waiting(books: Books) -> int:
    return int(await books.fetchval("SELECT count(*) FROM queued"))


async def assert_sent_once_or_in_doubt(books: Books, smsc: SimulatedSmsc, number: int) -> int:
    """What holds for every queued message at the end; returns how many are in doubt."""
    states = await books.states()
    assert len(states) == number
    taken = Counter(submit.destination_addrs[0] for submit in smsc.submits)
    assert [d for d, times in taken.items() if times > 1] == [], "sent twice"
    doubtful = {d for d, state in states.items() if state == "in_doubt"}
    charged = {d for d, state in states.items() if state == "charged"}
    assert charged | doubtful == states.keys()
    assert charged <= taken.keys(), "charged, and never sent"
    assert states.keys() - taken.keys() <= doubtful, "lost"
    await books.assert_books_balance()
    return len(doubtful)


async def test_after_kill_9_every_queued_message_is_sent_once_or_in_doubt(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        ProxyProcess(tmp_path, smsc, url=database_url) as process,
    ):  # fmt: skip
        process.config.write_text(process.config.read_text() + QUEUED)
        await smsc.pause_listening()
        await process.start()
        await books.add_account(credits=MANY)
        async with process.esme() as esme:
            await esme.bind()
            traffic = Traffic(esme)
            await asyncio.wait_for(traffic.flow(MANY, window=500), 300)
            await traffic.wait(timeout_s=60)
            assert Counter(traffic.statuses()) == {0: MANY}
        assert await waiting(books) == MANY
        await smsc.resume_listening()
        for share in (1, 2):
            await smsc.wait_for(lambda s, n=share: len(s.submits) > n * MANY // 4, 60)  # type: ignore[misc]
            assert await process.end(signal.SIGKILL) == -signal.SIGKILL
            await process.start()

        async def drained() -> bool:
            return await waiting(books) == 0

        await eventually(drained, timeout_s=30 + MANY / 500)
        in_doubt = await assert_sent_once_or_in_doubt(books, smsc, MANY)
        # On their way, or answered and not yet committed, at each of two kills.
        assert 0 < in_doubt <= 2 * 4 * 20
        assert await books.balance() == 0
        assert await process.end(signal.SIGTERM) == 0


async def test_what_one_proxy_had_claimed_another_does_not_send(database_url: str) -> None:
    number = 400
    async with open_books(database_url) as books, carrier() as smsc:
        await books.add_account()
        values = {"route": [ROUTE], "queue": FAST}
        async with (
            proxy_on(database_url, smsc, **values) as one,
            proxy_on(database_url, smsc, **values) as two,
        ):
            smsc.hold = True
            async with client_of(one) as esme:
                await esme.bind()
                traffic = Traffic(esme)
                traffic.send(number)
                await traffic.wait()
            # Both have what their windows take; the first dies with it.
            await smsc.wait_for(lambda s: len(s.submits) >= 150)
            ours = len(one.queue._here)
            assert ours > 0
            await abandon(one)
            smsc.release_held()
            dead = one._mint.node
            counts = await queue.forget_claims(books.pool, [dead])
            assert sum(count for _, count in counts) == ours
            two.queue.wake()

            async def drained() -> bool:
                return await waiting(books) == 0

            await eventually(drained)
            assert await assert_sent_once_or_in_doubt(books, smsc, number) == ours


async def test_connections_to_the_database_that_break_send_nothing_twice(database_url: str) -> None:
    number = 1500
    async with open_books(database_url) as books, carrier(response_delay_s=0.005) as smsc:
        await books.add_account(credits=number)
        async with proxy_on(database_url, smsc, route=[ROUTE], queue=FAST) as proxy:
            await smsc.pause_listening()
            smsc.drop_connections()
            await eventually(lambda: not proxy.ways.any_bound)
            async with client_of(proxy) as esme:
                await esme.bind()
                traffic = Traffic(esme)
                await traffic.flow(number)
                await traffic.wait()
            await smsc.resume_listening()
            for n in range(1, 6):
                await smsc.wait_for(lambda s, n=n: len(s.submits) >= n * number // 6)  # type: ignore[misc]
                await books.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    " AND (query ~ 'claim_queued|work_queue')"
                )

            async def drained() -> bool:
                return await waiting(books) == 0

            await eventually(drained, timeout_s=30)
            assert await assert_sent_once_or_in_doubt(books, smsc, number) == 0


async def test_order_is_kept_for_each_destination_through_refusals_and_lost_links(
    database_url: str,
) -> None:
    """A message in doubt may be missing; what comes, comes in order."""
    destinations, each = 12, 10
    async with (
        open_books(database_url) as books,
        carrier(refuse_rate=0.15, refuse_status=0x08) as smsc,
    ):
        await books.add_account()
        async with proxy_on(database_url, smsc, route=[ROUTE], queue=FAST) as proxy:
            async with client_of(proxy) as esme:
                await esme.bind()
                sequences = []
                for n in range(each):
                    for d in range(destinations):
                        body = submit_body(b"%d" % n, destination=b"44770%04d" % d)
                        sequences.append(esme.send(SUBMIT_SM, body))
                        if len(sequences) % 60 == 0:
                            smsc.drop_connections()
                            await esme.response(sequences[-1])

            async def drained() -> bool:
                return await waiting(books) == 0

            await eventually(drained, timeout_s=30)
        seen: dict[str, list[int]] = {}
        for submit in smsc.submits:
            if submit.status == 0:
                text = int(submit.short_message)
                seen.setdefault(submit.destination_addrs[0], []).append(text)
        for texts in seen.values():
            assert texts == sorted(set(texts))
        doubts = await books.fetchval("SELECT count(*) FROM in_doubt WHERE resolved_at IS NULL")
        assert sum(map(len, seen.values())) + doubts >= destinations * each
        await books.assert_books_balance()
