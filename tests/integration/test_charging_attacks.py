"""Clients that look for a way around the charge, and the moments in which one might be open."""

from __future__ import annotations

import time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from support.esme import SUBMIT_MULTI, SUBMIT_SM, message_id, submit_body
from support.messages import MICRO, bare_message
from support.running import running_proxy
from support.waiting import eventually

from proxy.flow.settle import _give_back_refused_destinations
from proxy.simulator.smsc import SmscOptions
from proxy.smpp.pdu import read_submit_sm
from proxy.smpp.udh import Concatenation
from proxy.store import accounts, ledger, retries, sweeps
from proxy.store.audit import audit
from proxy.store.credit import add_credit
from proxy.store.database import Database
from proxy.store.ids import IdMint
from proxy.store.ledger import REASONS, Charged, Settlement

UPSTREAMS = (SimpleNamespace(id=1, bound=True),)


async def new_account(connection: Any, credits: int, **columns: object) -> int:
    """An account `a` that sends all parts or none."""
    account_id = await connection.fetchval(
        "INSERT INTO account (name, all_parts) VALUES ('a', true) RETURNING id"
    )
    await add_credit(connection, "a", credits * MICRO, by="test", mint=IdMint(0))
    for column, value in columns.items():
        await connection.execute(f"UPDATE account SET {column} = $1", value)
    return int(account_id)


def part(account_id: int, number: int, total: int, credits: int = 1, key: str = "k") -> Any:
    return bare_message(
        account_id,
        credits * MICRO,
        account=SimpleNamespace(id=account_id, rules=SimpleNamespace(all_parts=True)),
        part=Concatenation(7, total, number),
        part_key=key,
        upstreams=UPSTREAMS,
    )


def reasons(charged: Charged) -> list[str | None]:
    """In the order of the batch; None for what was charged."""
    refusals = charged.refusals or [None] * len(charged.messages)
    return [None if number is None else REASONS[number] for number in refusals]


# -------------------------------------------------------------------------- all parts


async def test_a_part_that_costs_more_than_is_reserved_leaves_the_reservation(
    database: Database,
) -> None:
    """Else what is reserved would drift from what is due to be free, and stop the sweep."""
    mint = IdMint(7)
    async with database.pool.acquire() as connection:
        account_id = await new_account(connection, 4)
        batch = [part(account_id, 1, 3), *(part(account_id, 2, 3, 5) for _ in range(3))]
        assert reasons(await ledger.charge(connection, mint, batch)) == [
            None, "insufficient_credits", "insufficient_credits", "insufficient_credits",
        ]  # fmt: skip
        assert await connection.fetchval("SELECT reserved_micro FROM account") == 2 * MICRO
        assert await audit(connection) == []
        await connection.execute("UPDATE long_message SET expires_at = now()")
        await sweeps.free_reservations(connection)
        assert await connection.fetchval("SELECT reserved_micro FROM account") == 0
        assert await audit(connection) == []


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("daily_cap_micro", 2 * MICRO, "daily_cap"),
        ("monthly_cap_micro", 2 * MICRO, "monthly_cap"),
        ("daily_messages", 2, "daily_messages"),
    ],
)
async def test_a_message_that_does_not_fit_under_a_limit_is_not_sent_in_part(
    database: Database, column: str, value: int, reason: str
) -> None:
    mint = IdMint(7)
    async with database.pool.acquire() as connection:
        account_id = await new_account(connection, 100, **{column: value})
        charged = await ledger.charge(connection, mint, [part(account_id, n, 3) for n in (1, 2, 3)])
        assert reasons(charged)[0] == reason
        assert charged.balances == [None] * 3
        # One of two fits, whichever of its parts comes first.
        for numbers in ((2, 1), (1, 2)):
            await connection.execute(
                "UPDATE account SET day_ends_at = now(), month_ends_at = now()"
            )
            charged = await ledger.charge(
                connection, mint, [part(account_id, n, 2, key=str(numbers)) for n in numbers]
            )
            assert reasons(charged) == [None, None]
        assert reasons(await ledger.charge(connection, mint, [bare_message(account_id)])) == [
            reason
        ]
        assert await audit(connection) == []


async def test_no_other_message_takes_what_a_cap_has_left_for_parts(database: Database) -> None:
    mint = IdMint(7)
    async with database.pool.acquire() as connection:
        account_id = await new_account(connection, 100, daily_cap_micro=4 * MICRO)
        first = [part(account_id, 1, 4), part(account_id, 2, 2, key="other")]
        assert reasons(await ledger.charge(connection, mint, first)) == [None, "daily_cap"]
        rest = [part(account_id, n, 4) for n in (2, 3, 4)]
        assert reasons(await ledger.charge(connection, mint, rest)) == [None] * 3


async def test_a_part_sent_a_thousand_times_is_noted_once(database: Database) -> None:
    mint = IdMint(7)
    async with database.pool.acquire() as connection:
        account_id = await new_account(connection, 2000)
        batch = [part(account_id, n, 3) for n in (1, *[2] * 1000)]
        assert reasons(await ledger.charge(connection, mint, batch)) == [None] * 1001
        assert await connection.fetchval("SELECT seen FROM long_message") == [1, 2]
        assert await connection.fetchval("SELECT reserved_micro FROM account") == MICRO
        assert await audit(connection) == []


async def test_refused_parts_are_told_of_a_refund(database: Database) -> None:
    """What one proxy refuses from memory it hears of, though it was a part that was refused."""
    mint = IdMint(7)
    async with database.pool.acquire() as connection:
        account_id = await new_account(connection, 2)
        held = bare_message(account_id)
        await ledger.charge(connection, mint, [held])
        assert reasons(await ledger.charge(connection, mint, [part(account_id, 1, 3)])) == [
            "insufficient_credits"
        ]
        assert await connection.fetchval("SELECT dry FROM account")
        await ledger.settle(connection, mint, [Settlement(held, None, 8, released=True)])
        assert not await connection.fetchval("SELECT dry FROM account")


async def test_addresses_can_not_be_mixed_up_into_one_long_message(database_url: str) -> None:
    def body(source: bytes, destination: bytes, number: int) -> bytes:
        text = bytes((5, 0, 3, 1, 2, number)) + b"x"
        return submit_body(text, esm_class=0x40, source=source, destination=destination)

    async with running_proxy(database_url, credits=3) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(all_parts="yes")
        assert (await esme.request(SUBMIT_SM, body(b"1>2", b"3", 1))).status == 0
        # Not the second part of that one: there is no credit for both of its parts.
        assert (await esme.request(SUBMIT_SM, body(b"1", b"2>3", 2))).status == 0x45
        assert (await esme.request(SUBMIT_SM, body(b"1>2", b"3", 2))).status == 0
        await run.assert_books_balance()


# ------------------------------------------------------------------------------- caps


async def test_what_comes_back_from_yesterday_makes_no_room_under_the_cap_of_today(
    database: Database,
) -> None:
    async with database.pool.acquire() as connection:
        account_id = await new_account(connection, 100, daily_cap_micro=3 * MICRO)
        # Two days ago, as far as their ids tell.
        long_ago = [bare_message(account_id) for _ in range(3)]
        two_days_s = 2 * 86_400
        mint = IdMint(7, lambda: time.time_ns() - two_days_s * 10**9)
        await make_partitions(connection, days_ago=2)
        await ledger.charge(connection, mint, long_ago)
        await connection.execute("UPDATE account SET day_ends_at = now()")
        today = [bare_message(account_id) for _ in range(3)]
        assert reasons(await ledger.charge(connection, IdMint(8), today)) == [None] * 3
        back = [Settlement(m, None, 8, released=True) for m in (*long_ago, today[0])]
        assert len(await ledger.settle(connection, IdMint(8), back)) == 4
        assert await connection.fetchval("SELECT used_today FROM v_account") == 2
        more = [bare_message(account_id) for _ in range(2)]
        assert reasons(await ledger.charge(connection, IdMint(8), more)) == [None, "daily_cap"]
        assert await connection.fetchval("SELECT used FROM v_account") == 3
        assert await audit(connection) == []


async def make_partitions(connection: Any, days_ago: int) -> None:
    """Of the tables that a charge writes."""
    for table in ("message", "ledger", "outcome"):
        await connection.execute(
            f"""DO $$ DECLARE day timestamptz := date_trunc('day', now(), 'UTC') - {days_ago}
                    * interval '1 day';
                BEGIN EXECUTE format('CREATE TABLE IF NOT EXISTS {table}_ago{days_ago} PARTITION OF'
                    ' {table} FOR VALUES FROM (%s) TO (%s)', id_from_time(day),
                    id_from_time(day + interval '1 day')); END $$"""
        )


async def test_a_new_rate_counts_at_once(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(rate="0.001")
        assert (await esme.submit()).status == 0
        assert (await esme.submit()).status == 0x58
        await run.set_account(rate="100")
        assert (await esme.submit()).status == 0


# -------------------------------------------------------------------------- retry-safe


async def test_what_the_carrier_refused_may_be_tried_again(database_url: str) -> None:
    """Also when it was charged nevertheless: its client has been told."""
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(retry_safe_s="600", charge_on="submit")
        run.smsc.options.refuse_rate, run.smsc.options.refuse_status = 1.0, 0x45
        assert (await esme.submit()).status == 0x45
        run.smsc.options.refuse_rate = 0.0
        assert (await esme.submit()).status == 0
        assert await run.balance() == 98
        assert len(run.smsc.submits) == 2
        await run.assert_books_balance()


async def test_the_same_again_is_as_safe_as_the_first(database_url: str) -> None:
    """A second message with the text of one that was answered: its retry is charged once."""
    async with running_proxy(database_url) as run:
        async with run.esme() as esme:
            await esme.bind()
            await run.set_account(retry_safe_s="600")
            first = message_id(await esme.submit(b"ping"))
            run.smsc.options.response_delay_s = 0.3
            esme.send(SUBMIT_SM, submit_body(b"ping"))
            await eventually(lambda: len(run.smsc.submits) == 2)
        async with run.esme() as esme:
            await esme.bind()
            second = message_id(await esme.submit(b"ping"))
        assert second == await run.fetchval("SELECT max(id) FROM message") != first
        assert len(run.smsc.submits) == 2 and await run.balance() == 98


async def test_a_text_that_ends_like_a_parameter_is_another_message(database_url: str) -> None:
    async with running_proxy(database_url) as run:
        async with run.esme() as esme:
            await esme.bind()
            await run.set_account(retry_safe_s="600")
            tlv = b"\x02\x04\x00\x02\x00\x01"
            inside, behind = submit_body(b"hi" + tlv), submit_body(b"hi", tlvs=tlv)
            assert read_submit_sm(inside) and read_submit_sm(behind)
            run.smsc.options.response_delay_s = 0.3
            numbers = [esme.send(SUBMIT_SM, body) for body in (inside, behind)]
            ids = {message_id(await esme.response(number)) for number in numbers}
        assert len(ids) == 2 and len(run.smsc.submits) == 2


async def test_one_look_answers_any_number_of_retries(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    outcome = retries.outcome

    async def counted(*args: Any) -> int | None:
        nonlocal looks
        looks += 1
        return await outcome(*args)

    monkeypatch.setattr(retries, "outcome", counted)
    options = SmscOptions(response_delay_s=0.5)
    async with running_proxy(database_url, options=options) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(retry_safe_s="600")
        numbers = [esme.send(SUBMIT_SM, submit_body()) for _ in range(50)]
        answers = [await esme.response(number) for number in numbers]
        assert {answer.status for answer in answers} == {0}
        assert len({message_id(answer) for answer in answers}) == 1
        assert len(run.smsc.submits) == 1 and await run.balance() == 99
        # One look every 0.2 s, and not one for each retry.
        assert looks < 25


# ----------------------------------------------------------------------------- balance


async def test_a_flood_of_balance_questions_is_refused(database_url: str) -> None:
    async with (
        running_proxy(database_url, smpp={"balance_address": "BALANCE"}) as run,
        run.esme() as esme,
    ):
        await esme.bind()
        question = submit_body(b"?", destination=b"BALANCE")
        numbers = [esme.send(SUBMIT_SM, question) for _ in range(100)]
        statuses = [(await esme.response(number)).status for number in numbers]
        assert statuses[0] == 0
        # It may have taken more than the second after which another one is allowed.
        assert statuses.count(0x58) >= 90 and set(statuses) == {0, 0x58}
        assert await run.fetchval("SELECT count(*) FROM delivery") <= 10


async def test_a_submit_multi_may_ask_for_the_balance(database_url: str) -> None:
    async with (
        running_proxy(database_url, smpp={"balance_address": "BALANCE"}) as run,
        run.esme() as esme,
    ):
        await esme.bind()
        response = await esme.request(SUBMIT_MULTI, multi(b"BALANCE"))
        assert (response.status, response.body[-2:]) == (0, b"\0\0")  # no_unsuccess
        await esme.wait(lambda: len(esme.deliveries) == 1)


# ------------------------------------------------------------------------ submit_multi


def multi(*addresses: bytes) -> bytes:
    head = b"\0\1\1" + b"123\0" + bytes((len(addresses),))
    listed = b"".join(b"\x01\x01\x01" + address + b"\0" for address in addresses)
    return head + listed + b"\0\0\0\0\0\0\0\0\0\x05hello"


async def test_a_comma_does_not_make_two_destinations_of_one(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        assert (await esme.request(SUBMIT_MULTI, multi(b"44,7", b"1"))).status == 0x0B
        assert not run.smsc.submits and await run.balance() == 100


@pytest.mark.parametrize(
    ("listed", "back"),
    [
        ([b"447"], 7),  # of two equal ones one was refused
        ([b"447", b"447"], 14),
        ([b"447"] * 9, 15),
        ([b"+447", b"1555"], 8),
        ([b"elsewhere"], 1),  # the cheapest
        ([b"elsewhere"] * 255, 15),
    ],
)
def test_a_response_may_lie_about_refused_destinations(listed: list[bytes], back: int) -> None:
    """Never more comes back than was paid."""
    message = bare_message(1, 15)
    message.charge_on, message.destinations, message.prices_micro = "accept", 3, (7, 7, 1)
    message.all_destinations = ("447", "447", "1555")
    refused = b"".join(b"\1\1" + address + b"\0\0\0\0\x0b" for address in listed)
    settlement = Settlement(message, 1, 0, body=b"id\0" + bytes((len(listed),)) + refused)
    _give_back_refused_destinations(settlement)
    assert (settlement.released, settlement.back_micro) == (True, back)


async def test_each_destination_counts_for_the_rate_and_the_messages_of_a_day(
    database_url: str,
) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.set_account(daily_messages="4")
        statuses = [
            (await esme.request(SUBMIT_MULTI, multi(*[b"447"] * number))).status
            for number in (3, 2, 1, 1)
        ]
        assert statuses == [0, 0x45, 0, 0x45]
        await run.set_account(daily_messages="none", rate="2")
        assert (await esme.request(SUBMIT_MULTI, multi(*[b"447"] * 200))).status == 0x45
        await run.add_credit("demo", 1000)
        (account,) = run.proxy._registry.accounts.values()
        await eventually(lambda: account.dry_micro is None)
        account.throttle = None  # what all proxies know together is what counts
        assert (await esme.request(SUBMIT_MULTI, multi(*[b"447"] * 200))).status == 0
        # A hundred seconds' worth.
        assert (await esme.submit()).status == 0x58
        await run.assert_books_balance()


# -------------------------------------------------------------------------------- binds


async def test_rules_that_change_while_a_password_is_verified(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        find_login = accounts.find_login

        async def slow(conn: Any, system_id: str) -> Any:
            login = await find_login(conn, system_id)
            before = run.proxy._registry.changes
            await run.fetch("UPDATE account SET allowed_senders = '{good}' RETURNING id")
            await eventually(lambda: run.proxy._registry.changes > before)
            return login

        monkeypatch.setattr(accounts, "find_login", slow)
        assert (await esme.bind()).status == 0

        async def refused() -> bool:
            return (await esme.submit()).status == 0x0A

        await eventually(refused, timeout_s=2)


# ------------------------------------------------------------------ charged on delivery


async def test_each_account_has_its_own_patience_for_receipts(database_url: str) -> None:
    options = SmscOptions(receipts=False)
    async with running_proxy(database_url, options=options) as run:
        for name, age, overdue in (
            ("demo", "3600", "release"), ("quick", "1", "release"), ("pays", "1", "charge"),
        ):  # fmt: skip
            if name != "demo":
                await run.add_account(name)
            await run.set_account(
                name, charge_on="delivery", delivery_max_age_s=age, delivery_overdue=overdue
            )
            async with run.esme() as esme:
                await esme.bind(name, name)
                assert (await esme.submit()).status == 0
        await run.fetch("SELECT pg_sleep(1.1)")
        await run.proxy.sweep.once()

        async def ended() -> bool:
            rows = await run.fetch("SELECT account, state FROM v_message")
            return {tuple(row) for row in rows} == {
                ("demo", "accepted"), ("quick", "released"), ("pays", "charged"),
            }  # fmt: skip

        await eventually(ended)
        balances = await run.fetch("SELECT balance FROM v_account ORDER BY name")
        assert [row["balance"] for row in balances] == [Decimal(99), Decimal(99), Decimal(100)]
        await run.assert_books_balance()
