"""Several proxies share one database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.books import Traffic, open_books
from support.esme import BIND_RX
from support.faults import abandon, carrier, client_of, proxy_on, settings_for
from support.running import upstream_settings
from support.waiting import eventually

from proxy.app import Proxy
from proxy.config import InDoubtSettings
from proxy.flow import sweep
from proxy.store import presence
from proxy.store.migrations import migrations

if TYPE_CHECKING:
    from tests.conftest import Cluster

INSUFFICIENT = 0x45


async def test_one_account_on_two_proxies_is_never_overdrawn(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier(refuse_rate=0.1, refuse_status=0x0B) as smsc,
        proxy_on(database_url, smsc) as one, proxy_on(database_url, smsc) as two,
        client_of(one) as a, client_of(one) as b, client_of(two) as c, client_of(two) as d,
    ):  # fmt: skip
        await books.add_account("shared", credits=300)
        clients = [Traffic(esme, number) for number, esme in enumerate((a, b, c, d))]
        for client in clients:
            await client.esme.bind("shared", "shared")
        await asyncio.gather(*(client.flow(300) for client in clients))
        for client in clients:
            await client.wait()
        statuses = [status for client in clients for status in client.statuses()]
        assert set(statuses) == {0, 0x0B, INSUFFICIENT}
        # Released credit may have been used again by a later message, or not.
        accepted = statuses.count(0)
        assert accepted <= 300
        assert await books.balance("shared") == 300 - accepted
        assert sum(s.status == 0 for s in smsc.submits) == accepted
        lowest = await books.fetchval("SELECT min(balance) FROM v_credit_log")
        assert lowest == 0
        answers = {k: v for client in clients for k, v in client.answers.items()}
        await books.assert_promises([smsc], answers)


async def test_exactly_as_many_messages_pass_as_there_are_credits(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc) as one, proxy_on(database_url, smsc) as two,
        client_of(one) as a, client_of(two) as b,
    ):  # fmt: skip
        await books.add_account("shared", credits=500)
        clients = [Traffic(esme, number) for number, esme in enumerate((a, b))]
        for client in clients:
            await client.esme.bind("shared", "shared")
        await asyncio.gather(*(client.flow(600, window=200) for client in clients))
        for client in clients:
            await client.wait()
        statuses = [status for client in clients for status in client.statuses()]
        assert (statuses.count(0), statuses.count(INSUFFICIENT)) == (500, 700)
        assert len(smsc.submits) == 500
        assert await books.balance("shared") == 0
        answers = {k: v for client in clients for k, v in client.answers.items()}
        await books.assert_promises([smsc], answers)


async def test_a_receipt_reaches_its_client_through_another_proxy(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_EVERY_S", 3600.0)  # at once, not when the sweep looks
    async with (
        open_books(database_url) as books, carrier(receipts=False) as smsc,
        proxy_on(database_url, smsc, upstream={"system_id": "a"}) as here,
        proxy_on(database_url, smsc, upstream={"system_id": "b"}) as there,
        client_of(here) as esme,
    ):  # fmt: skip
        assert here._mint.node != there._mint.node
        await books.add_account()
        await esme.bind()
        traffic = Traffic(esme)
        traffic.send(20)
        await traffic.wait()
        for submit in smsc.submits:
            assert submit.system_id == "a"
            assert await smsc.send_receipt(submit.smsc_message_id, system_id="b") == 0
        await esme.wait(lambda: len(esme.deliveries) == 20)
        await books.becomes(20, "SELECT count(*) FROM delivered WHERE state = 'delivered'")


@pytest.mark.parametrize("restarted", [True, False])
async def test_deliveries_that_a_dead_proxy_had_claimed_are_delivered(
    database_url: str, restarted: bool
) -> None:
    async with open_books(database_url) as books, carrier() as smsc:
        await books.add_account()
        async with proxy_on(database_url, smsc) as survivor:
            async with proxy_on(database_url, smsc) as victim, client_of(victim) as esme:
                await esme.bind()
                esme.deliver_status = None
                traffic = Traffic(esme)
                traffic.send(20, registered_delivery=1)
                await traffic.wait()
                await esme.wait(lambda: len(esme.deliveries) == 10)
                await books.becomes(20, "SELECT count(*) FROM delivery")
                assert await books.fetchval(
                    "SELECT count(*) >= 10 FROM delivery WHERE claimed_by = $1", victim._mint.node
                )
                await abandon(victim)
            if restarted:  # the next one with its node number frees them at once
                async with proxy_on(database_url, smsc) as next_one:
                    await books.becomes(0, "SELECT count(claimed_by) FROM delivery")
                    async with client_of(next_one) as esme:
                        await esme.bind(command_id=BIND_RX)
                        await esme.wait(lambda: len(esme.deliveries) == 20)
            else:
                async with client_of(survivor) as esme:
                    await esme.bind(command_id=BIND_RX)
                    await eventually(lambda: bool(survivor.deliver.mailboxes))
                    for _ in range(presence._TIMES_MISSING):
                        await survivor.sweep.once()
                    await esme.wait(lambda: len(esme.deliveries) == 20)
            await books.becomes(20, "SELECT count(*) FROM delivered WHERE state = 'delivered'")
            assert await books.fetchval("SELECT count(*) FROM delivery") == 0


async def test_two_sweeps_release_a_doubt_once(database_url: str) -> None:
    policy = InDoubtSettings(policy="release", after_s=0.01)
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc, in_doubt=policy) as one,
        proxy_on(database_url, smsc, in_doubt=policy) as two, client_of(one) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        smsc.hold = True
        traffic = Traffic(esme)
        traffic.send(200)
        await smsc.wait_for(lambda s: len(s.submits) >= 100)
        smsc.drop_connections()
        smsc.hold = False
        await traffic.wait()
        await books.becomes(
            True, "SELECT bool_and(now() - since > interval '0.02 s') FROM in_doubt"
        )
        await asyncio.gather(*(p.sweep.once() for p in (one, two) * 3))
        assert await books.fetchval("SELECT count(*) FROM in_doubt WHERE resolved_at IS NULL") == 0
        charged = traffic.statuses().count(0)
        assert await books.balance() == 1000 - charged
        await books.assert_books_balance()


async def test_two_proxies_start_on_an_empty_database_at_once(postgres: Cluster) -> None:
    async with carrier() as smsc, postgres.fresh("template1") as url:
        proxies = [Proxy(settings_for(url, [upstream_settings(smsc)])) for _ in range(3)]
        try:
            await asyncio.gather(*(proxy.start() for proxy in proxies))
            assert sorted(proxy._mint.node for proxy in proxies) == [1, 2, 3]
            async with open_books(url) as books:
                assert await books.fetchval("SELECT count(*) FROM migration") == len(migrations())
                await books.add_account()
                for proxy in proxies:
                    async with client_of(proxy) as esme:
                        await esme.bind()
                        assert (await esme.submit()).status == 0
                assert await books.balance() == 997
        finally:
            for proxy in proxies:
                await proxy.stop()
