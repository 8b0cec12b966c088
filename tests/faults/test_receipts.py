"""Receipts that come too early, for messages in doubt, for nothing, or without a database."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from support.books import Books, Traffic, open_books
from support.esme import BIND_RX, BIND_TX, ENQUIRE_LINK, submit_body
from support.faults import carrier, client_of, proxy_on
from support.relay import relay_to
from support.waiting import eventually

from proxy.flow import deliver
from proxy.links import connection as link_connection
from proxy.store import deliveries, presence, sweeps
from proxy.store.ids import IdMint

IN_DOUBT = 0xFF
QUICK: dict[str, Any] = {"connect_timeout_s": 2, "statement_timeout_s": 0.5}
SILENT: dict[str, Any] = {"response_timeout_s": 0.05}


@pytest.fixture(autouse=True)
def _quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_connection, "_TICK_S", 0.02)
    monkeypatch.setattr(deliver, "_RETRY_AFTER_S", (0.01, 0.02))


async def delivered(books: Books, number: int) -> None:
    """Until so many deliveries are done, and none waits."""
    await books.becomes(number, "SELECT count(*) FROM delivered WHERE state = 'delivered'")
    assert await books.fetchval("SELECT count(*) FROM delivery") == 0


async def test_a_receipt_ends_the_doubt_about_the_only_message_it_can_be_for(
    database_url: str,
) -> None:
    async with (
        open_books(database_url) as books, carrier(silence_rate=1.0) as smsc,
        proxy_on(database_url, smsc, upstream=SILENT) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account(credits=100)
        await esme.bind()
        traffic = Traffic(esme)
        meant, other = traffic.send(2, registered_delivery=1)
        await traffic.wait()
        assert traffic.statuses() == [IN_DOUBT] * 2
        assert await smsc.send_receipt("4711", source=meant, destination="12345") == 0
        await esme.wait(lambda: len(esme.deliveries) == 1)
        message_id = await books.fetchval(
            "SELECT id FROM v_message WHERE destination_addr = $1", meant
        )
        assert b"id:%d " % message_id in esme.deliveries[0].body
        assert await books.states() == {meant: "charged", other: "in_doubt"}
        # The same receipt again is for the message it was for.
        assert await smsc.send_receipt("4711", source=meant, destination="12345") == 0
        await esme.wait(lambda: len(esme.deliveries) == 2)
        assert await books.states() == {meant: "charged", other: "in_doubt"}
        assert (await books.balance(), await books.held()) == (98, 1)
        await books.assert_books_balance()


async def test_nothing_is_guessed_when_a_receipt_can_be_for_several(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier(silence_rate=1.0) as smsc,
        proxy_on(database_url, smsc, upstream=SILENT) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account(credits=100)
        await esme.bind()
        first, second = (esme.send(4, submit_body(b"hi")) for _ in range(2))
        assert (await esme.response(first)).status == IN_DOUBT
        assert (await esme.response(second)).status == IN_DOUBT
        assert await smsc.send_receipt("4711", source="447700900123", destination="12345") == 0
        rows = await books.fetch("SELECT state FROM v_message")
        assert [r["state"] for r in rows] == ["in_doubt"] * 2
        assert not esme.deliveries
        await books.becomes(
            1, "SELECT coalesce(sum(count), 0) FROM v_event WHERE kind = 'receipt_unknown'"
        )


async def test_a_receipt_for_a_message_whose_proxy_died_ends_its_doubt(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.faults import abandon

    monkeypatch.setattr(sweeps, "_MARGIN_S", 0.0)
    async with open_books(database_url) as books, carrier(silence_rate=1.0) as smsc:
        await books.add_account(credits=100)
        async with proxy_on(database_url, smsc) as proxy, client_of(proxy) as esme:
            await esme.bind()
            traffic = Traffic(esme)
            (destination,) = traffic.send(1, registered_delivery=1)
            await smsc.wait_for(lambda s: len(s.submits) == 1)
            await abandon(proxy)
        async with proxy_on(database_url, smsc, upstream=SILENT) as proxy:

            async def swept() -> bool:
                await proxy.sweep.once()
                return await books.states() == {destination: "in_doubt"}

            await eventually(swept)
            async with client_of(proxy) as esme:
                await esme.bind()
                assert await smsc.send_receipt("9", source=destination, destination="12345") == 0
                await esme.wait(lambda: len(esme.deliveries) == 1)
                assert await books.states() == {destination: "charged"}
                await books.assert_books_balance()


async def test_a_receipt_for_nothing_is_acknowledged_and_told(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc),
    ):  # fmt: skip
        assert await smsc.send_receipt("never-seen", source="1", destination="2") == 0
        await books.becomes(
            1, "SELECT coalesce(sum(count), 0) FROM v_event WHERE kind = 'receipt_unknown'"
        )


async def test_a_receipt_that_overtakes_its_response_waits_for_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "_RETRY_AFTER_S", (0.02,) * 400)
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        smsc.hold = True
        traffic = Traffic(esme)
        traffic.send(1)
        await smsc.wait_for(lambda s: len(s.submits) == 1)
        smsc_id = smsc.submits[0].smsc_message_id
        receipt = asyncio.create_task(smsc.send_receipt(smsc_id))
        await eventually(lambda: proxy.deliver.keep_lane._added >= 2)  # sought, and not found
        smsc.release_held()
        assert await receipt == 0
        await esme.wait(lambda: len(esme.deliveries) == 1)
        ((_, our_id),) = traffic.accepted.items()
        assert b"id:%d " % our_id in esme.deliveries[0].body
        await delivered(books, 1)


async def test_receipts_that_come_while_the_database_is_away_are_not_lost(
    database_url: str,
) -> None:
    async with (
        relay_to(database_url) as relay, open_books(database_url) as books,
        carrier(receipts=False) as smsc,
        proxy_on(relay.url, smsc, database=QUICK) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        traffic = Traffic(esme)
        traffic.send(5)
        await traffic.wait()
        relay.go_away()
        await eventually(lambda: not proxy.deliver.keep_lane.up)
        receipts = [asyncio.create_task(smsc.send_receipt(s.smsc_message_id)) for s in smsc.submits]
        await eventually(lambda: proxy.deliver.keep_lane.depth == 5)
        assert not any(task.done() for task in receipts)  # kept first, then acknowledged
        relay.come_back()
        assert await asyncio.gather(*receipts) == [0] * 5
        await esme.wait(lambda: len(esme.deliveries) == 5)
        await delivered(books, 5)


async def test_a_client_that_leaves_while_the_database_is_away_gets_its_receipts_later(
    database_url: str,
) -> None:
    async with (
        relay_to(database_url) as relay, open_books(database_url) as books, carrier() as smsc,
        proxy_on(relay.url, smsc, database=QUICK) as proxy,
    ):  # fmt: skip
        await books.add_account()
        async with client_of(proxy) as esme:
            await esme.bind()
            esme.deliver_status = None  # it does not answer
            traffic = Traffic(esme)
            traffic.send(30, registered_delivery=1)
            await traffic.wait()
            await books.becomes(30, "SELECT count(*) FROM delivery WHERE claimed_by IS NOT NULL")
            await esme.wait(lambda: len(esme.deliveries) == 10)
            relay.go_away()
            await eventually(lambda: not proxy.charge.up)
        await eventually(lambda: not proxy.deliver.mailboxes)
        relay.come_back()
        await eventually(lambda: proxy.charge.up)
        async with client_of(proxy) as esme:
            await esme.bind()
            await esme.wait(lambda: len(esme.deliveries) >= 30)
            await delivered(books, 30)


@pytest.mark.parametrize("stays", [True, False])
async def test_receipts_whose_claim_was_not_confirmed_are_delivered(
    database_url: str, stays: bool
) -> None:
    """The database gave them to this proxy, which never heard of it."""
    async with (
        relay_to(database_url) as relay, open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc) as proxy,
        asyncpg.create_pool(relay.url, min_size=1, max_size=1) as pool,
    ):  # fmt: skip
        await books.add_account()
        async with client_of(proxy) as sender:
            await sender.bind(command_id=BIND_TX)
            traffic = Traffic(sender)
            traffic.send(5, registered_delivery=1)
            await traffic.wait()
        await books.becomes(5, "SELECT count(*) FROM delivery WHERE claimed_by IS NULL")
        usual = proxy.deliver._pool
        proxy.deliver._pool = lambda: pool
        assert await deliveries.claim(pool, 0, 1, 1, None) == []  # prepares the statement
        wire = relay.wires[-1]
        wire.swallow.set()
        relay.away = True
        async with client_of(proxy) as receiver:
            await receiver.bind(command_id=BIND_RX)
            async with asyncio.timeout(10):
                await wire.swallowed.wait()
            assert await books.fetchval("SELECT bool_and(claimed_by = 1) FROM delivery")
            if stays:
                relay.away = False
                await receiver.wait(lambda: len(receiver.deliveries) == 5)
        if not stays:
            await books.becomes(5, "SELECT count(*) FROM delivery WHERE claimed_by IS NULL")
            proxy.deliver._pool = usual
            async with client_of(proxy) as receiver:
                await receiver.bind(command_id=BIND_RX)
                await receiver.wait(lambda: len(receiver.deliveries) == 5)
        await delivered(books, 5)


async def test_a_receipt_whose_keeping_was_not_confirmed_is_kept_once(database_url: str) -> None:
    async with (
        relay_to(database_url) as relay, open_books(database_url) as books,
        carrier(receipts=False) as smsc,
        proxy_on(relay.url, smsc, database=QUICK) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        traffic = Traffic(esme)
        traffic.send(2)
        await traffic.wait()
        first, second = smsc.submits
        assert await smsc.send_receipt(first.smsc_message_id) == 0
        wire = relay.wire_of("INTO delivery (")
        wire.swallow.set()
        assert await smsc.send_receipt(second.smsc_message_id) == 0
        assert wire.swallowed.is_set()
        await esme.wait(lambda: len(esme.deliveries) == 2)
        await delivered(books, 2)


async def test_a_database_that_comes_back_brings_no_receipt_twice(database_url: str) -> None:
    """The claims of a proxy whose connections broke look like those of a dead one."""
    async with (
        relay_to(database_url) as relay, open_books(database_url) as books, carrier() as smsc,
        proxy_on(relay.url, smsc, database=QUICK) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        esme.deliver_status = None
        traffic = Traffic(esme)
        traffic.send(30, registered_delivery=1)
        await traffic.wait()
        await esme.wait(lambda: len(esme.deliveries) == 10)
        await books.becomes(30, "SELECT count(*) FROM delivery")
        relay.go_away()
        await eventually(lambda: not proxy.deliver.end_lane.up)
        for delivery in esme.deliveries[:5]:  # their end can't be written now
            esme.answer(delivery)
        await esme.wait(lambda: len(esme.deliveries) == 15)
        async with books.pool.acquire() as connection:  # the sweep of another proxy
            dead_claims = presence.DeadClaims(IdMint(999))
            for _ in range(presence._TIMES_MISSING):
                await dead_claims.forget(connection)
        assert await books.fetchval("SELECT count(claimed_by) FROM delivery") == 0
        relay.come_back()
        await proxy.deliver.end_lane.passed()
        await proxy.sweep.once()
        esme.deliver_status = 0
        last = esme.deliveries[14]
        for delivery in esme.deliveries[5:14]:
            esme.answer(delivery)
        # All others done, it looks for more, and finds the one that the client still has.
        await books.becomes(29, "SELECT count(*) FROM delivered")
        await books.becomes(1, "SELECT count(claimed_by) FROM delivery")
        await esme.request(ENQUIRE_LINK)
        esme.answer(last)
        await delivered(books, 30)
        assert len({d.body for d in esme.deliveries}) == len(esme.deliveries) == 30
