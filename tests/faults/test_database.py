"""PostgreSQL is cut off, stalls, or its answer is lost, while submits flow."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs
from support.books import Books, Traffic, open_books
from support.faults import carrier, client_of, proxy_on, settings_for
from support.relay import relay_to
from support.running import upstream_settings
from support.waiting import eventually

from proxy.app import Proxy
from proxy.store.embedded import EmbeddedPostgres, _Wheel

CHARGE, SETTLE = "charge_batch", "settle_batch"
UNREACHABLE = 0x08
QUICK: dict[str, Any] = {"connect_timeout_s": 2, "statement_timeout_s": 0.5}


async def test_service_resumes_by_itself_when_the_database_was_away(database_url: str) -> None:
    async with (
        relay_to(database_url) as relay, open_books(database_url) as books,
        carrier() as smsc, proxy_on(relay.url, smsc, database=QUICK) as proxy,
        client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        traffic = Traffic(esme)
        traffic.send(20)
        await traffic.wait()
        relay.go_away()
        await eventually(lambda: not proxy.charge.up)
        refused = traffic.send(20)
        await traffic.wait()
        assert {traffic.answers[d].status for d in refused} == {UNREACHABLE}
        assert len(smsc.submits) == 20
        relay.come_back()
        await eventually(lambda: proxy.charge.up)
        traffic.send(20)
        await traffic.wait()
        assert traffic.statuses() == [0] * 20 + [UNREACHABLE] * 20 + [0] * 20
        assert await books.balance() == 960
        await books.assert_promises([smsc], traffic.answers)


async def test_answers_that_come_while_the_database_is_away_are_committed_later(
    database_url: str,
) -> None:
    async with (
        relay_to(database_url) as relay, open_books(database_url) as books,
        carrier() as smsc, proxy_on(relay.url, smsc, database=QUICK) as proxy,
        client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        smsc.hold = True
        traffic = Traffic(esme)
        traffic.send(30)
        await smsc.wait_for(lambda s: len(s.submits) == 30)
        relay.go_away()
        await eventually(lambda: not proxy.settle.lane.up)
        smsc.release_held()
        await eventually(lambda: proxy.settle.lane.depth == 30)
        refused = relay.refused
        await eventually(lambda: relay.refused >= refused + 6)  # every lane has tried again
        assert traffic.answered == 0  # not before it is committed
        relay.come_back()
        await traffic.wait()
        assert traffic.statuses() == [0] * 30
        await books.assert_promises([smsc], traffic.answers)


async def test_connections_cut_again_and_again_in_full_traffic(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc, database=QUICK) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account(credits=100_000)
        await esme.bind()
        traffic = Traffic(esme)
        flowing = asyncio.create_task(traffic.flow(1_000_000))
        for _ in range(6):
            before = len(traffic.accepted)
            await eventually(lambda b=before: len(traffic.accepted) > b + 100)  # type: ignore[misc]
            cut = await books.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'smpp-proxy'"
            )
            assert cut >= 2
        before = len(traffic.accepted)
        await eventually(lambda: len(traffic.accepted) > before + 100)
        flowing.cancel()
        await traffic.wait()
        assert set(traffic.statuses()) <= {0, UNREACHABLE}
        # What was charged and never forwarded is given back.
        await books.becomes(0, "SELECT held::int FROM v_account WHERE name = 'demo'")
        states = await books.assert_promises([smsc], traffic.answers)
        assert await books.balance() == 100_000 - len(traffic.accepted)
        assert set(states.values()) <= {"charged", "released"}


async def one_message_through(books: Books, traffic: Traffic) -> None:
    """So that every statement is prepared."""
    await books.add_account()
    await traffic.esme.bind()
    traffic.send(1)
    await traffic.wait()
    assert traffic.statuses() == [0]


async def test_a_charge_whose_commit_is_not_confirmed_is_undone(database_url: str) -> None:
    async with (
        relay_to(database_url) as relay, open_books(database_url) as books,
        carrier() as smsc, proxy_on(relay.url, smsc, database=QUICK) as proxy,
        client_of(proxy) as esme,
    ):  # fmt: skip
        traffic = Traffic(esme)
        await one_message_through(books, traffic)
        wire = relay.wire_of(CHARGE)
        wire.swallow.set()
        lost = traffic.send(5)
        await traffic.wait()
        assert wire.swallowed.is_set()
        assert {traffic.answers[d].status for d in lost} == {UNREACHABLE}
        await books.becomes(5, "SELECT count(*) FROM v_message WHERE state = 'released'")
        assert await books.balance() == 999
        assert len(smsc.submits) == 1
        states = await books.assert_promises([smsc], traffic.answers)
        assert {states[d] for d in lost} == {"released"}


async def test_a_settlement_whose_commit_is_not_confirmed_is_repeated_once(
    database_url: str,
) -> None:
    async with (
        relay_to(database_url) as relay, open_books(database_url) as books,
        carrier() as smsc, proxy_on(relay.url, smsc, database=QUICK) as proxy,
        client_of(proxy) as esme,
    ):  # fmt: skip
        traffic = Traffic(esme)
        await one_message_through(books, traffic)
        smsc.options.refuse_rate = 0.5
        smsc.options.refuse_status = 0x0B
        wire = relay.wire_of(SETTLE)
        wire.swallow.set()
        traffic.send(20)
        await traffic.wait()
        assert wire.swallowed.is_set()
        refused = traffic.statuses().count(0x0B)
        assert 0 < refused < 20
        assert await books.balance() == 979 + refused
        await books.assert_promises([smsc], traffic.answers)


async def test_a_charge_that_reaches_the_server_after_it_was_given_up_takes_nothing(
    database_url: str,
) -> None:
    """The wire held it back; the client has long been told that it was refused."""
    async with (
        relay_to(database_url) as relay, open_books(database_url) as books,
        carrier() as smsc, proxy_on(relay.url, smsc, database=QUICK) as proxy,
        client_of(proxy) as esme,
    ):  # fmt: skip
        traffic = Traffic(esme)
        await one_message_through(books, traffic)
        wire = relay.wire_of(CHARGE)
        wire.flowing.clear()
        late = traffic.send(3)
        await traffic.wait()
        assert {traffic.answers[d].status for d in late} == {UNREACHABLE}
        await eventually(lambda: proxy.charge.up)
        await proxy.settle.passed()
        wire.flowing.set()
        await eventually(wire.server.transport.is_closing)
        await books.becomes(
            0,
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
            " AND datname = current_database() AND pid <> pg_backend_pid()",
        )
        await proxy.settle.passed()
        assert len(smsc.submits) == 1
        await books.becomes(0, "SELECT held::int FROM v_account WHERE name = 'demo'")
        assert await books.balance() == 999
        await books.assert_promises([smsc], traffic.answers)


async def test_a_stalled_database_holds_nobody_up_for_ever(database_url: str) -> None:
    async with (
        relay_to(database_url) as relay, open_books(database_url) as books,
        carrier() as smsc, proxy_on(relay.url, smsc, database=QUICK) as proxy,
        client_of(proxy) as esme,
    ):  # fmt: skip
        traffic = Traffic(esme)
        await one_message_through(books, traffic)
        relay.stall()
        traffic.send(5)
        await traffic.wait()
        assert traffic.statuses() == [0] + [UNREACHABLE] * 5
        relay.flow()
        await eventually(lambda: proxy.charge.up)
        traffic.send(5)
        await traffic.wait()
        assert traffic.statuses() == [0] + [UNREACHABLE] * 5 + [0] * 5
        await books.becomes(0, "SELECT held::int FROM v_account WHERE name = 'demo'")
        assert await books.balance() == 994
        await books.assert_promises([smsc], traffic.answers)


async def test_a_proxy_waits_for_a_database_that_is_away_at_its_start(database_url: str) -> None:
    async with relay_to(database_url) as relay, carrier() as smsc:
        relay.go_away()
        proxy = Proxy(settings_for(relay.url, [upstream_settings(smsc)], database=QUICK))
        with capture_logs() as logs:
            starting = asyncio.create_task(proxy.start())
            try:
                await eventually(
                    lambda: any(entry["event"] == "database_unreachable" for entry in logs)
                )
                assert not starting.done()
                relay.come_back()
                async with asyncio.timeout(15):
                    await starting
                async with client_of(proxy) as esme, open_books(database_url) as books:
                    await books.add_account()
                    await esme.bind()
                    assert (await esme.submit()).status == 0
            finally:
                starting.cancel()
                await proxy.stop()


async def test_a_crash_of_the_server_in_full_traffic() -> None:
    """Its recovery brings back what was committed, and with it all that clients were told."""
    data_dir = Path(tempfile.mkdtemp(prefix="smpp-f-"))
    server = EmbeddedPostgres(data_dir)
    try:
        url = await server.start()
        async with (
            carrier(response_delay_s=0.005) as smsc, proxy_on(url, smsc, database=QUICK) as proxy,
            client_of(proxy) as esme,
        ):  # fmt: skip
            async with open_books(url) as books:
                await books.add_account(credits=100_000)
            await esme.bind()
            traffic = Traffic(esme)
            flowing = asyncio.create_task(traffic.flow(1_000_000))
            await eventually(lambda: len(traffic.accepted) > 200)
            restarted = await asyncio.to_thread(
                _Wheel(server.cluster).run,
                *("pg_ctl", "restart", "--wait", "--silent", "--mode=immediate"),
                *("--pgdata", str(server.cluster), "--log", str(server.cluster / "start.log")),
            )
            assert restarted.returncode == 0, restarted.stdout
            before = len(traffic.accepted)
            await eventually(lambda: len(traffic.accepted) > before + 200)
            flowing.cancel()
            await traffic.wait()
            # None is refused when all that were on their way had been charged.
            assert set(traffic.statuses()) <= {0, UNREACHABLE}
            async with open_books(url) as books:
                await books.becomes(0, "SELECT held::int FROM v_account WHERE name = 'demo'")
                await books.assert_promises([smsc], traffic.answers)
                assert await books.balance() == 100_000 - len(traffic.accepted)
    finally:
        await server.stop()
        shutil.rmtree(data_dir)
