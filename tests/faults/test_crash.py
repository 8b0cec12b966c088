"""kill -9 in full traffic, and SIGTERM, on real processes."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import pytest
from support.books import Books, Traffic, open_books
from support.faults import ProxyProcess, abandon, carrier, client_of, proxy_on
from support.waiting import eventually

from proxy.store import sweeps
from proxy.store.embedded import EmbeddedPostgres

_NOBODY_WORKS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'smpp-proxy' AND state <> 'idle'
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Short enough for a unix socket; no server may be left in it."""
    path = Path(tempfile.mkdtemp(prefix="smpp-f-"))
    yield path
    left = servers(path)
    for process in left:
        process.kill()
    psutil.wait_procs(left, 5)
    shutil.rmtree(path, ignore_errors=True)
    assert not left


def servers(data_dir: Path) -> list[psutil.Process]:
    """The postmasters that run in it."""
    cluster = str(data_dir / "postgres")
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "postgres" and cluster in (process.info["cmdline"] or ())
    ]


async def sweep_holds(books: Books) -> None:
    """Put in doubt what no proxy will answer any more."""
    async with books.pool.acquire() as connection:
        until = await connection.fetchval("SELECT id_from_time(clock_timestamp())")

        async def swept() -> bool:  # another proxy's sweep may hold it for a moment
            await sweeps.lost_holds(connection, 0)
            return bool(await connection.fetchval("SELECT swept_through >= $1 FROM sweep", until))

        await eventually(swept)


async def test_after_a_kill_in_full_traffic_nothing_is_lost_and_nothing_is_free(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "_MARGIN_S", 0.0)
    async with (
        open_books(database_url) as books, carrier(response_delay_s=0.01, refuse_rate=0.1) as smsc,
        ProxyProcess(tmp_path, smsc, url=database_url) as process,
    ):  # fmt: skip
        await process.start()
        await books.add_account(credits=100_000)
        answers = {}
        for life in range(2):
            async with process.esme() as one, process.esme() as two:
                await one.bind()
                await two.bind()
                clients = [Traffic(one, 2 * life), Traffic(two, 2 * life + 1)]
                flows = [asyncio.create_task(client.flow(100_000)) for client in clients]
                await eventually(lambda c=clients: min(t.answered for t in c) > 150)  # type: ignore[misc]
                assert await process.end(signal.SIGKILL) == -signal.SIGKILL
                await asyncio.gather(*flows)  # they end with their connections
                for client in clients:
                    assert client.open > 0
                    answers.update(client.answers)
            await process.start()
        await books.becomes(0, _NOBODY_WORKS)
        await sweep_holds(books)
        states = await books.assert_promises([smsc], answers)
        assert set(states.values()) == {"charged", "released", "in_doubt"}
        in_doubt = sum(state == "in_doubt" for state in states.values())
        charged = sum(state == "charged" for state in states.values())
        assert await books.held() == in_doubt
        assert await books.balance() == 100_000 - charged - in_doubt
        # What the carrier took and the client never heard of is not released.
        for submit in smsc.submits:
            state = states[submit.destination_addrs[0]]
            assert state in (("charged", "in_doubt") if submit.status == 0 else
                             ("released", "in_doubt"))  # fmt: skip
        async with process.esme() as esme:
            await esme.bind()
            assert (await esme.submit()).status in (0, 0x58)
        assert await process.end(signal.SIGTERM) == 0


async def test_holds_of_a_proxy_that_is_gone_come_in_doubt_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "_MARGIN_S", 0.0)
    async with open_books(database_url) as books, carrier() as smsc:
        await books.add_account()
        smsc.hold = True
        async with proxy_on(database_url, smsc) as proxy, client_of(proxy) as esme:
            await esme.bind()
            traffic = Traffic(esme)
            traffic.send(10)
            await smsc.wait_for(lambda s: len(s.submits) == 10)
            await abandon(proxy)
        assert set((await books.states()).values()) == {"held"}
        assert (await books.balance(), await books.held()) == (990, 10)
        smsc.hold = False
        quick = {"response_timeout_s": 0.05}
        async with (
            proxy_on(database_url, smsc, upstream=quick) as one,
            proxy_on(database_url, smsc, upstream=quick) as two,
        ):
            await asyncio.gather(*(p.sweep.once() for p in (one, two, one, two)))
            assert set((await books.states()).values()) == {"in_doubt"}
            assert (await books.balance(), await books.held()) == (990, 10)
            await books.becomes(
                10, "SELECT sum(count) FROM v_event WHERE kind = 'message_in_doubt'"
            )
            await books.assert_books_balance()


async def test_sigterm_waits_for_what_is_on_its_way(data_dir: Path, tmp_path: Path) -> None:
    """With its own PostgreSQL, which was left behind by a kill -9 and must not be this time."""
    url = f"postgresql://postgres@/postgres?host={quote(str(data_dir / 'postgres'))}&port=5432"
    async with carrier() as smsc:
        async with ProxyProcess(tmp_path, smsc, url="embedded", data_dir=str(data_dir)) as process:
            await process.start()
            async with open_books(url) as books:
                await books.add_account()
            await process.end(signal.SIGKILL)
            assert len(servers(data_dir)) == 1
            await process.start()
            async with process.esme() as esme:
                await esme.bind()
                smsc.hold = True
                traffic = Traffic(esme)
                traffic.send(50)
                await smsc.wait_for(lambda s: len(s.submits) == 20)  # the upstream's window
                process.process.send_signal(signal.SIGTERM)
                await eventually(lambda: "draining" in process.log.read_text())
                late = traffic.send(1)
                await traffic.wait(1)
                assert traffic.answers.keys() == set(late)
                smsc.release_held()
                await traffic.wait()
                assert traffic.statuses() == [0] * 50 + [0x08]
                async with asyncio.timeout(30):
                    assert await process.process.wait() == 0
            assert servers(data_dir) == []
            answers = traffic.answers
        server = EmbeddedPostgres(data_dir)
        try:
            async with open_books(await server.start()) as books:
                states = await books.assert_promises([smsc], answers)
                assert list(states.values()) == ["charged"] * 50
                assert await books.balance() == 950
        finally:
            await server.stop()


async def test_a_second_sigterm_waits_for_nothing(database_url: str, tmp_path: Path) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        ProxyProcess(tmp_path, smsc, url=database_url) as process,
    ):  # fmt: skip
        await process.start()
        await books.add_account()
        async with process.esme() as esme:
            await esme.bind()
            smsc.hold = True  # for ever
            traffic = Traffic(esme)
            traffic.send(5)
            await smsc.wait_for(lambda s: len(s.submits) == 5)
            process.process.send_signal(signal.SIGTERM)
            await eventually(lambda: "draining" in process.log.read_text())
            async with asyncio.timeout(8):  # draining alone would take 25 s
                await process.end(signal.SIGTERM)
        await books.becomes(0, _NOBODY_WORKS)
        assert set((await books.states()).values()) <= {"held", "in_doubt"}
        await books.assert_promises([smsc], traffic.answers)
