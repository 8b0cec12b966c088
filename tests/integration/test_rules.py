"""Prices, limits and times of charging, end to end: what `account set` does to traffic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from support.esme import SUBMIT_MULTI, SUBMIT_SM, Esme, message_id, submit_body
from support.running import Running, running_proxy
from support.waiting import eventually

from proxy.simulator.smsc import SimulatedSmsc, SmscOptions
from proxy.store import upstreams
from proxy.telemetry.metrics import REGISTRY


async def charges(run: Running) -> int:
    """How many transactions of the charge there were in this process."""
    return int(
        REGISTRY.get_sample_value("smpp_proxy_commit_messages_count", {"lane": "charge"}) or 0
    )


async def event_texts(run: Running, kind: str) -> set[str]:
    await run.proxy.events._flush()
    return {r["text"] for r in await run.fetch("SELECT text FROM v_event WHERE kind = $1", kind)}


# ------------------------------------------------------------------------------ prices


async def test_the_longest_prefix_and_the_service_price_a_message(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.set_prices(
            "retail",
            ("44", "", "0.5"),
            ("447", "", "0.25"),
            ("447", "binary", "2"),
            ("33", "", None),
        )
        await run.set_account(tariff="retail")
        assert (await esme.submit(destination=b"442070000000")).status == 0
        assert await run.balance() == Decimal("99.5")
        assert (await esme.submit(destination=b"+447700900123")).status == 0
        assert await run.balance() == Decimal("99.25")
        assert (await esme.submit(destination=b"447700900123", data_coding=4)).status == 0
        assert await run.balance() == Decimal("97.25")
        long_one = b"\x04\x24\x01\x90" + b"x" * 400  # three segments
        assert (await esme.submit(b"", destination=b"447700900123", tlvs=long_one)).status == 0
        assert await run.balance() == Decimal("96.5")
        assert (await esme.submit(destination=b"33123456789")).status == 0x0B
        assert (await esme.submit(destination=b"1555")).status == 0x0B
        assert await run.balance() == Decimal("96.5")
        texts = await event_texts(run, "not_sold") | await event_texts(run, "no_price")
        assert texts == {
            "Could not send message. The destination is not sold",
            "Could not send message. No price for the destination",
        }
        row = (await run.fetch("SELECT * FROM v_message ORDER BY id DESC LIMIT 1"))[0]
        assert (row["tariff"], row["price_prefix"], row["segments"]) == ("retail", "447", 3)
        await run.assert_books_balance()


async def test_destinations_of_a_submit_multi_have_their_own_prices(database_url: str) -> None:
    def destination(address: bytes) -> bytes:
        return b"\x01\x01\x01" + address + b"\0"

    def multi(*addresses: bytes) -> bytes:
        head = b"\0\1\1" + b"123\0" + bytes((len(addresses),))
        return head + b"".join(map(destination, addresses)) + b"\0\0\0\0\0\0\0\0\0\x05hello"

    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.set_prices("t", ("44", "", "3"), ("999", "", "5"), ("1", "", "7"))
        await run.set_account(tariff="t")
        # The simulated carrier refuses destinations that begin with 999.
        assert (await esme.request(SUBMIT_MULTI, multi(b"4477", b"99900", b"1555"))).status == 0
        row = (await run.fetch("SELECT price, released FROM v_message"))[0]
        assert (row["price"], row["released"]) == (15, 5)
        assert await run.balance() == 90
        assert (await esme.request(SUBMIT_MULTI, multi(b"4477", b"2222"))).status == 0x0B
        assert await run.balance() == 90
        await run.assert_books_balance()


async def test_the_last_credit_is_sold_and_a_micro_credit_less_is_not(database_url: str) -> None:
    async with running_proxy(database_url, credits=1) as run, run.esme() as esme:
        await esme.bind()
        await run.set_prices("t", ("", "", "0.500001"))
        await run.set_account(tariff="t")
        assert (await esme.submit()).status == 0
        assert await run.balance() == Decimal("0.499999")
        await run.set_prices("t", ("", "", "0.5"))
        assert (await esme.submit()).status == 0x45
        await run.set_prices("t", ("", "", "0.499999"))
        assert (await esme.submit()).status == 0
        assert await run.balance() == 0
        await run.assert_books_balance()


async def test_a_message_knows_its_cost_and_margin(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.set_prices("costs", ("44", "", "0.3"))
        async with run.proxy.database.pool.acquire() as connection:
            await upstreams.set_upstream_cost(connection, "carrier", "costs", by="test")
        await run.proxy.refresh.once()
        await esme.submit(destination=b"447700900123")
        await esme.submit(destination=b"1555")
        rows = await run.fetch("SELECT cost, margin FROM v_message ORDER BY id")
        expected = [(Decimal("0.3"), Decimal("0.7")), (None, None)]
        assert [(r["cost"], r["margin"]) for r in rows] == expected


# ------------------------------------------------------------------------------ limits


async def test_senders_and_prefixes_that_are_not_allowed(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(allowed_senders="ACME,4477*", allowed_prefixes="44,+33")
        assert (await esme.submit(source=b"ACME")).status == 0
        assert (await esme.submit(source=b"+447712")).status == 0
        assert (await esme.submit(source=b"ACME2")).status == 0x0A
        assert (await esme.submit(source=b"ACME", destination=b"+33611")).status == 0
        assert (await esme.submit(source=b"ACME", destination=b"3461")).status == 0x0B
        assert await run.balance() == 97
        await run.set_account(allowed_senders="none", allowed_prefixes="")
        assert (await esme.submit(source=b"ACME2", destination=b"3461")).status == 0


async def test_an_account_that_is_no_longer_valid(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        past = datetime.now(UTC) - timedelta(seconds=1)
        await run.set_account(valid_until=past.isoformat())
        assert (await esme.submit()).status == 0x45
        assert await event_texts(run, "account_expired") == {
            "Could not send message. The account is no longer valid"
        }
        # The database refuses too, should this proxy not know yet.
        account = next(iter(run.proxy._registry.accounts.values()))
        account.rules = type(account.rules)(account.rules.tariff_id, 16)
        assert (await esme.submit()).status == 0x45
        assert await run.balance() == 100
        await run.set_account(valid_until="none")
        assert (await esme.submit()).status == 0


@pytest.mark.parametrize("key", ["daily_cap", "monthly_cap", "daily_messages"])
async def test_caps_and_what_comes_back_to_them(database_url: str, key: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(**{key: "2"})
        assert [(await esme.submit()).status for _ in range(4)] == [0, 0, 0x45, 0x45]
        assert await run.balance() == 98
        (text,) = await event_texts(run, key)
        assert text.startswith("Could not send message. The account's ")
        # The next day, or month, it may send again.
        await run.fetch(
            "UPDATE account SET day_ends_at = now(), month_ends_at = now() RETURNING id"
        )
        run.smsc.options.refuse_rate = 1.0
        assert (await esme.submit()).status == 0x66
        run.smsc.options.refuse_rate = 0.0
        # What the carrier refused has not been spent; it was a message though.
        left = 1 if key == "daily_messages" else 2
        assert [(await esme.submit()).status for _ in range(3)] == [0] * left + [0x45] * (3 - left)
        await run.assert_books_balance()


async def test_a_rate_holds_over_all_proxies(database_url: str) -> None:
    async with (
        running_proxy(database_url) as one,
        running_proxy(database_url) as two,
        one.esme() as first,
        two.esme() as second,
    ):
        await first.bind()
        await second.bind()
        await one.set_account(rate="5")
        await two.proxy.refresh.once()
        statuses = []
        for esme in (first, second):
            numbers = [esme.send(SUBMIT_SM, submit_body()) for _ in range(20)]
            statuses += [(await esme.response(number)).status for number in numbers]
        # A second's worth at once, and what the test took; never the sum of two proxies' rates.
        assert 5 <= statuses.count(0) <= 8
        assert set(statuses) == {0, 0x58}


# ---------------------------------------------------------------------- empty accounts


async def test_an_empty_account_is_refused_from_memory_until_credit_comes(
    database_url: str,
) -> None:
    async with (
        running_proxy(database_url, credits=1) as run, running_proxy(database_url) as other,
        run.esme() as esme,
    ):  # fmt: skip
        await esme.bind()
        assert (await esme.submit()).status == 0
        assert (await esme.submit()).status == 0x45
        before = await charges(run)
        assert [(await esme.submit()).status for _ in range(50)] == [0x45] * 50
        assert await charges(run) == before
        await other.add_credit("demo", 1)

        async def served() -> bool:
            return (await esme.submit()).status == 0

        await eventually(served, timeout_s=2)
        assert (await esme.submit()).status == 0x45
        await run.assert_books_balance()


@pytest.mark.parametrize("what", ["top-up", "refund", "credit limit"])
async def test_credit_is_found_when_the_notification_is_lost(database_url: str, what: str) -> None:
    async with (
        running_proxy(database_url, credits=1, upstream={"response_timeout_s": 1}) as run,
        run.esme() as esme,
    ):
        await esme.bind()
        run.smsc.options.silence_rate = 1.0
        held = esme.send(SUBMIT_SM, submit_body())
        await eventually(lambda: len(run.smsc.submits) == 1)
        assert (await esme.submit()).status == 0x45
        run.smsc.options.silence_rate = 0.0
        run.proxy.presence._connection.terminate()  # type: ignore[union-attr]
        if what == "top-up":
            await run.add_credit("demo", 1)
        elif what == "refund":
            await run.fetch(
                "SELECT settle_batch($1, $1, '{}', '{}', '{}', '{}', '{}', ARRAY[m.id],"
                " ARRAY[m.account_id], '{NULL}', '{\"\"}', '{NULL}', '{8}', '{NULL}',"
                " ARRAY[m.id + 1024], '{test}', '{}', '{}', '{}', '{}', '{}', '{}', '')"
                " FROM message m",
                [],
            )
        else:
            await run.fetch("UPDATE account SET credit_limit_micro = 1000000 RETURNING id")

        async def served() -> bool:
            return (await esme.submit()).status == 0

        await eventually(served, timeout_s=4)
        del held


# ---------------------------------------------------------------- when it is charged


async def test_charged_on_submit_whatever_the_carrier_says(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(charge_on="submit")
        run.smsc.options.refuse_rate = 1.0
        assert (await esme.submit()).status == 0x66
        assert await run.balance() == 99
        row = (await run.fetch("SELECT state, command_status FROM v_message"))[0]
        assert (row["state"], row["command_status"]) == ("charged", 0x66)
        await run.assert_books_balance()


@pytest.mark.parametrize(
    ("fails", "asked", "receipts", "balance", "state"),
    [
        (0.0, 0, 0, 99, "charged"),
        (0.0, 1, 1, 99, "charged"),
        (0.0, 2, 0, 99, "charged"),
        (1.0, 0, 0, 100, "released"),
        (1.0, 1, 1, 100, "released"),
        (1.0, 2, 1, 100, "released"),
    ],
)
async def test_charged_on_delivery(
    database_url: str, fails: float, asked: int, receipts: int, balance: int, state: str
) -> None:
    """The proxy asks for the receipt; the client gets what it has asked for."""
    options = SmscOptions(receipt_delay_s=0.0, fail_rate=fails)
    async with running_proxy(database_url, options=options) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(charge_on="delivery")
        response = await esme.submit(registered_delivery=asked)
        assert response.status == 0
        assert run.smsc.submits[0].body == submit_body(registered_delivery=1)
        our_id = message_id(response)

        async def ended() -> bool:
            return await run.state(our_id) == state

        await eventually(ended)
        assert await run.balance() == balance
        query = "SELECT count(*) FROM delivered WHERE state = $1::text::delivered_state"
        wanted = "delivered" if receipts else "unasked"

        async def told() -> bool:
            return await run.fetchval(query, wanted) == 1

        await eventually(told)
        assert len(esme.deliveries) == receipts
        await run.assert_books_balance()


async def test_until_delivery_the_credit_is_held(database_url: str) -> None:
    options = SmscOptions(receipts=False)
    async with running_proxy(database_url, options=options) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(charge_on="delivery", delivery_max_age_s="3600")
        ids = [message_id(await esme.submit()) for _ in range(3)]
        assert [await run.state(i) for i in ids] == ["accepted"] * 3
        assert await run.fetchval("SELECT held FROM v_account") == 3
        assert await run.balance() == 97
        # An hour later, as far as the sweep can tell.
        await run.set_account(delivery_max_age_s="1", delivery_overdue="release")
        await run.fetch("SELECT pg_sleep(1.1)")
        await run.proxy.sweep.once()

        async def back() -> bool:
            return await run.balance() == 100

        await eventually(back)
        assert {await run.state(i) for i in ids} == {"released"}
        await run.assert_books_balance()


async def test_overdue_receipts_may_also_be_charged(database_url: str) -> None:
    options = SmscOptions(receipts=False)
    async with running_proxy(database_url, options=options) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(charge_on="delivery", delivery_max_age_s="1")
        our_id = message_id(await esme.submit())
        await run.fetch("SELECT pg_sleep(1.1)")
        await run.proxy.sweep.once()
        assert await run.state(our_id) == "charged"
        assert await run.balance() == 99
        await run.assert_books_balance()


# ------------------------------------------------------------------------- retry-safe


async def test_a_retry_after_a_lost_answer_is_charged_and_sent_once(database_url: str) -> None:
    options = SmscOptions(response_delay_s=0.3)
    async with running_proxy(database_url, options=options) as run:
        async with run.esme() as esme:
            await esme.bind()
            await run.set_account(retry_safe_s="60")
            esme.send(SUBMIT_SM, submit_body(b"your code is 1"))
            await eventually(lambda: len(run.smsc.submits) == 1)
        async with run.esme() as esme:  # the link broke before the answer
            await esme.bind()
            again = await esme.submit(b"your code is 1")
            other = await esme.submit(b"your code is 2")
            assert (again.status, other.status) == (0, 0)
            first = await run.fetchval("SELECT min(id) FROM message")
            assert message_id(again) == first
            assert message_id(other) != first
        assert len(run.smsc.submits) == 2
        assert await run.balance() == 98
        await run.assert_books_balance()


async def test_the_same_text_again_after_its_answer_is_another_message(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(retry_safe_s="60")
        ids = {message_id(await esme.submit(b"ping")) for _ in range(3)}
        assert len(ids) == 3 and await run.balance() == 97


async def test_a_retry_of_one_in_doubt_gets_its_id(database_url: str) -> None:
    settings = {"response_timeout_s": 0.3}
    async with running_proxy(database_url, upstream=settings) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(retry_safe_s="60")
        run.smsc.options.silence_rate = 1.0
        assert (await esme.submit(b"hello")).status == 0xFF
        run.smsc.options.silence_rate = 0.0
        again = await esme.submit(b"hello")
        assert again.status == 0
        assert message_id(again) == await run.fetchval("SELECT id FROM message")
        assert len(run.smsc.submits) == 1 and await run.balance() == 99


async def test_a_retry_of_a_refused_message_is_a_new_one(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(retry_safe_s="60")
        run.smsc.options.refuse_rate = 1.0
        assert (await esme.submit()).status == 0x66
        run.smsc.options.refuse_rate = 0.0
        assert (await esme.submit()).status == 0
        assert await run.balance() == 99
        await run.assert_books_balance()


# -------------------------------------------------------------------------- all parts


def part(number: int, total: int, reference: int = 7) -> bytes:
    return submit_body(bytes((5, 0, 3, reference, total, number)) + b"part", esm_class=0x40)


async def submit_part(esme: Esme, *numbers: int) -> int:
    return (await esme.request(SUBMIT_SM, part(*numbers))).status


async def test_all_parts_or_none(database_url: str) -> None:
    async with running_proxy(database_url, credits=5) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(all_parts="yes")
        assert await submit_part(esme, 1, 3) == 0
        # Two of the five are reserved: other messages can't have them.
        assert [(await esme.submit()).status for _ in range(3)] == [0, 0, 0x45]
        assert [await submit_part(esme, n, 3) for n in (2, 3)] == [0, 0]
        assert await run.balance() == 0
        assert await run.fetchval("SELECT reserved_micro FROM account") == 0
        # No part of a message that does not fit as a whole, though some would.
        await run.add_credit("demo", 2)
        assert await submit_part(esme, 1, 3, 8) == 0x45
        await run.add_credit("demo", 1)
        assert [await submit_part(esme, n, 3, 8) for n in (2, 3)] == [0x45, 0x45]
        # Tried again as a whole, it is sent as a whole.
        assert [await submit_part(esme, n, 3, 8) for n in (1, 2, 3)] == [0, 0, 0]
        assert await run.balance() == 0
        await run.assert_books_balance()


async def test_a_reservation_that_is_not_used_ends(database_url: str) -> None:
    async with running_proxy(database_url, credits=3) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(all_parts="yes")
        assert await submit_part(esme, 1, 3) == 0
        assert (await esme.submit()).status == 0x45
        await run.fetch("UPDATE long_message SET expires_at = now() RETURNING key")
        await run.proxy.sweep.once()

        async def served() -> bool:
            return (await esme.submit()).status == 0

        await eventually(served)
        assert await run.fetchval("SELECT reserved_micro FROM account") == 0
        await run.assert_books_balance()


async def test_parts_never_take_two_upstreams(database_url: str) -> None:
    async with (
        SimulatedSmscs() as (first, second),
        running_proxy(database_url, smsc=first, also=[second]) as run,
        run.esme() as esme,
    ):
        await esme.bind()
        assert await submit_part(esme, 1, 2) == 0
        await first.stop()
        await eventually(lambda: not run.proxy.ways.upstreams[1].bound)
        assert (await esme.submit(b"another")).status == 0  # by the second one
        assert await submit_part(esme, 2, 2) == 0x08
        assert [s.short_message for s in second.submits] == [b"another"]
        # The client sends the whole message again.
        assert [await submit_part(esme, n, 2) for n in (1, 2)] == [0, 0]
        assert len(second.submits) == 3
        await run.assert_books_balance()


class SimulatedSmscs:
    """Two carriers."""

    async def __aenter__(self) -> tuple[SimulatedSmsc, SimulatedSmsc]:
        self.both = SimulatedSmsc(SmscOptions()), SimulatedSmsc(SmscOptions())
        for smsc in self.both:
            await smsc.start()
        return self.both

    async def __aexit__(self, *_: object) -> None:
        for smsc in self.both:
            await smsc.stop()


# ----------------------------------------------------------------- asking for the balance


async def test_the_balance_is_asked_for_over_smpp(database_url: str) -> None:
    smpp = {"balance_address": "BALANCE"}
    async with running_proxy(database_url, smpp=smpp) as run, run.esme() as esme:
        await esme.bind()
        await esme.submit()
        response = await esme.submit(b"?", destination=b"BALANCE", source=b"447700900001")
        assert response.status == 0 and message_id(response) > 0
        await esme.wait(lambda: len(esme.deliveries) == 1)
        body = esme.deliveries[0].body
        assert body.endswith(b"Balance: 99 credits")
        assert b"BALANCE\0" in body and b"447700900001\0" in body
        assert await run.balance() == 99
        assert len(run.smsc.submits) == 1


async def test_a_paused_upstream_gets_nothing_new(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        async with run.proxy.database.pool.acquire() as connection:
            await upstreams.set_upstream_paused(connection, "carrier", True, by="test")
        await eventually(lambda: run.proxy.ways.upstreams[1].paused)
        assert (await esme.submit()).status == 0x08
        assert await run.balance() == 100
        async with run.proxy.database.pool.acquire() as connection:
            await upstreams.set_upstream_paused(connection, "carrier", False, by="test")
        await eventually(lambda: not run.proxy.ways.upstreams[1].paused)
        assert (await esme.submit()).status == 0
