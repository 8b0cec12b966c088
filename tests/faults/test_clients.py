"""Clients that vanish, do not answer, refuse, or may no longer come in."""

from __future__ import annotations

from typing import Any

import pytest
from support.books import Books, Traffic, open_books
from support.esme import BIND_RX, UNBIND, Esme, Received
from support.faults import carrier, client_of, proxy_on
from support.waiting import eventually

from proxy.credit.account_keys import changes_from_text
from proxy.links import connection as link_connection
from proxy.store import account_values, accounts

DELIVERED = "SELECT count(*) FROM delivered WHERE state = 'delivered'"


@pytest.fixture(autouse=True)
def _quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_connection, "_TICK_S", 0.02)


class Picky(Esme):
    """Answers the deliveries that hold `picked` with `picked_status`."""

    picked = b"\0never\0"
    picked_status = 0x14

    def answer(self, request: Received, status: int = 0) -> None:
        """Respond to a delivery."""
        super().answer(request, self.picked_status if self.picked in request.body else status)


async def set_values(books: Books, name: str, **values: str) -> None:
    """As `account set` does."""
    async with books.pool.acquire() as connection:
        await account_values.set_values(connection, name, changes_from_text(values), by="test")


async def test_messages_of_a_client_that_vanished_are_settled(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc, proxy_on(database_url, smsc) as proxy,
    ):  # fmt: skip
        await books.add_account()
        smsc.hold = True
        async with client_of(proxy) as esme:
            await esme.bind()
            traffic = Traffic(esme)
            traffic.send(20, registered_delivery=1)
            await smsc.wait_for(lambda s: len(s.submits) == 20)
            esme._writer.transport.abort()
            await eventually(lambda: not proxy.server.connections)
        smsc.release_held()
        await books.becomes(20, "SELECT count(*) FROM v_message WHERE state = 'charged'")
        await books.becomes(20, "SELECT count(*) FROM delivery")
        async with client_of(proxy) as esme:
            await esme.bind(command_id=BIND_RX)
            await esme.wait(lambda: len(esme.deliveries) == 20)
            await books.becomes(20, DELIVERED)
        await books.assert_promises([smsc], {})


async def test_a_client_that_answers_no_delivery_disturbs_only_itself(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(
            database_url, smsc, smpp={"response_timeout_s": 0.1, "deliver_window_max": 3}
        ) as proxy,
        client_of(proxy) as silent, client_of(proxy) as other,
    ):  # fmt: skip
        silent_id = await books.add_account("silent")
        await books.add_account("other")
        await silent.bind("silent", "silent")
        await other.bind("other", "other")
        silent.deliver_status = None
        stuck = Traffic(silent)
        stuck.send(10, registered_delivery=1)
        await stuck.wait()
        await silent.wait(lambda: len(silent.deliveries) >= 6)  # again after the timeout
        easy = Traffic(other, prefix=2)
        easy.send(50, registered_delivery=1)
        await other.wait(lambda: len(other.deliveries) == 50)
        assert (
            await books.fetchval("SELECT count(*) FROM delivered WHERE account_id = $1", silent_id)
            == 0
        )
        # It gave up for now, and the rows wait; then the client answers after all.
        await books.becomes(True, "SELECT coalesce(max(attempts), 0) > 0 FROM delivery")
        silent.deliver_status = 0
        await books.becomes(60, DELIVERED)
        assert await books.fetchval("SELECT count(*) FROM delivery") == 0


async def test_a_receipt_that_is_refused_for_good_is_not_brought_again(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        esme.deliver_status = 0x65
        traffic = Traffic(esme)
        traffic.send(5, registered_delivery=1)
        await books.becomes(5, "SELECT count(*) FROM delivered WHERE state = 'refused'")
        assert await books.fetchval("SELECT count(*) FROM delivery") == 0
        assert len(esme.deliveries) == 5
        row = (await books.fetch("SELECT * FROM v_message LIMIT 1"))[0]
        assert row["receipt_state"] == "DELIVRD"
        assert row["receipt_delivered_at"] is None


async def test_a_receipt_that_the_client_never_takes_does_not_block_the_others(
    database_url: str,
) -> None:
    async with (
        open_books(database_url) as books, carrier(receipts=False) as smsc,
        proxy_on(
            database_url, smsc, delivery={"retry_min_s": 0.02, "retry_max_s": 600}
        ) as proxy,
        Picky("127.0.0.1", proxy.server.port) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        traffic = Traffic(esme)
        traffic.send(1)
        await traffic.wait()
        (poison,) = traffic.accepted.values()
        esme.picked = b"id:%d " % poison
        traffic.send(30)
        await traffic.wait()
        for submit in smsc.submits:  # the poison first
            assert await smsc.send_receipt(submit.smsc_message_id) == 0
        await books.becomes(30, DELIVERED)
        await books.becomes(True, "SELECT attempts > 0 FROM delivery")  # it waits, longer each time
        esme.picked = Picky.picked
        await books.execute("UPDATE delivery SET next_attempt_at = now()")
        await proxy.sweep.once()
        await books.becomes(31, DELIVERED)


async def test_deliveries_expire(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc, delivery={"max_age_s": 0.05}) as proxy,
    ):  # fmt: skip
        await books.add_account()
        async with client_of(proxy) as esme:
            await esme.bind(command_id=0x02)
            traffic = Traffic(esme)
            traffic.send(3, registered_delivery=1)
            await traffic.wait()

        async def expired() -> bool:
            await proxy.sweep.once()
            return bool(
                await books.fetchval("SELECT count(*) = 3 FROM delivered WHERE state = 'expired'")
            )

        await eventually(expired)
        async with client_of(proxy) as esme:
            await esme.bind(command_id=BIND_RX)
            assert await books.fetchval("SELECT count(*) FROM delivery") == 0
            assert not esme.deliveries
        await books.becomes(3, "SELECT sum(count) FROM v_event WHERE kind = 'delivery_expired'")


async def test_an_account_that_is_disabled_is_asked_to_leave_and_charged_nothing(
    database_url: str,
) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc) as proxy, client_of(proxy) as esme, client_of(proxy) as again,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        assert (await esme.submit()).status == 0
        async with books.pool.acquire() as connection:
            await accounts.set_enabled(connection, "demo", False, by="test")
        await esme.wait(lambda: any(r.command_id == UNBIND for r in esme.received))
        # It does not leave at once, and sends on.
        assert (await esme.submit()).status == 0x45
        assert await books.balance() == 999
        assert len(smsc.submits) == 1
        assert (await again.bind()).status == 0x0D
        async with books.pool.acquire() as connection:
            await accounts.set_enabled(connection, "demo", True, by="test")
        async with client_of(proxy) as back:
            assert (await back.bind()).status == 0
            assert (await back.submit()).status == 0
        await books.assert_books_balance()


async def test_a_new_password_counts_at_once(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc) as proxy, client_of(proxy) as bound,
    ):  # fmt: skip
        await books.add_account()
        assert (await bound.bind()).status == 0
        await set_values(books, "demo", password="better")
        status: dict[str, Any] = {}
        for password in ("demo", "better"):
            async with client_of(proxy) as esme:
                status[password] = (await esme.bind("demo", password)).status
        assert status == {"demo": 0x0E, "better": 0}
        assert (await bound.submit()).status == 0  # who is in stays in


async def test_a_login_that_is_gone_ends_its_session(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        await books.execute("DELETE FROM login")
        await esme.wait(lambda: any(r.command_id == UNBIND for r in esme.received))
        async with client_of(proxy) as again:
            assert (await again.bind()).status == 0x0F
