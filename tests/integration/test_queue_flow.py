"""Messages of queued routes, from the client's ESME_ROK to the carrier and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.esme import (
    CANCEL_SM,
    QUERY_SM,
    REPLACE_SM,
    SUBMIT_MULTI,
    SUBMIT_SM,
    Esme,
    message_id,
    submit_body,
)
from support.running import Running, running_proxy
from support.waiting import eventually

from proxy.config import QueueSettings, RouteSettings
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions
from proxy.smpp.pdu import read_delivery
from proxy.smpp.receipt import parse_receipt

QUEUED = RouteSettings(name="q", upstreams=["carrier"], mode="queued")
FAST = QueueSettings(retry_min_s=0.05, retry_max_s=0.2)


@pytest.fixture
async def smsc() -> AsyncIterator[SimulatedSmsc]:
    one = SimulatedSmsc(SmscOptions(receipt_delay_s=0.0))
    await one.start()
    yield one
    await one.stop()


def queued_proxy(database_url: str, smsc: SimulatedSmsc, **values: Any) -> Any:
    return running_proxy(database_url, smsc=smsc, **{"route": [QUEUED], "queue": FAST, **values})


async def states(run: Running) -> list[str]:
    return [r["state"] for r in await run.fetch("SELECT state FROM v_message ORDER BY id")]


def to(number: int, text: bytes = b"hello", **fields: Any) -> bytes:
    return submit_body(text, destination=b"4477009%05d" % number, **fields)


def timed(body: bytes, schedule: bytes = b"", validity: bytes = b"") -> bytes:
    """The body with other times."""
    at = body.index(b"\0", body.index(b"\0", 3) + 3) + 1 + 3  # behind priority_flag
    return body[:at] + schedule + b"\0" + validity + b"\0" + body[at + 2 :]


def receipt_of(esme: Esme, number: int = 0) -> Any:
    one = esme.deliveries[number]
    delivery = read_delivery(one.command_id, one.body)
    return parse_receipt(delivery.text, delivery.tlvs)


async def test_accepted_while_the_carrier_is_away_and_sent_when_it_is_back(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    async with queued_proxy(database_url, smsc) as run, run.esme() as esme:
        await smsc.pause_listening()
        smsc.drop_connections()
        await eventually(lambda: not run.proxy.ways.any_bound)
        await esme.bind()
        ids = []
        for n in range(5):
            response = await esme.request(SUBMIT_SM, to(n % 2, b"%d" % n, registered_delivery=1))
            assert response.status == 0
            ids.append(message_id(response))
        assert await run.balance() == 95
        assert await states(run) == ["queued"] * 5
        await run.assert_books_balance()
        await smsc.resume_listening()
        await esme.wait(lambda: len(esme.deliveries) == 5)
        by_destination: dict[str, list[bytes]] = {}
        for submit in smsc.submits:
            by_destination.setdefault(submit.destination_addrs[0], []).append(submit.short_message)
        assert sorted(by_destination.values()) == [[b"0", b"2", b"4"], [b"1", b"3"]]
        assert {int(receipt_of(esme, n).smsc_message_id) for n in range(5)} == set(ids)
        assert await states(run) == ["charged"] * 5
        assert await run.fetchval("SELECT count(*) FROM queued") == 0
        assert await run.fetchval("SELECT count(*) FROM queue_line") == 0
        await run.assert_books_balance()


async def test_an_empty_account_is_refused_before_the_queue(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    async with queued_proxy(database_url, smsc, credits=1) as run, run.esme() as esme:
        smsc.hold = True
        await esme.bind()
        assert (await esme.submit()).status == 0
        assert (await esme.submit()).status == 0x45
        smsc.release_held()
        await eventually(lambda: len(smsc.submits) == 1)


async def test_a_carrier_that_cannot_now_is_asked_again(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    smsc.options.refuse_rate, smsc.options.refuse_status = 1.0, 0x58
    async with queued_proxy(database_url, smsc) as run, run.esme() as esme:
        await esme.bind()
        response = await esme.request(SUBMIT_SM, to(1, registered_delivery=1))
        assert response.status == 0
        await eventually(lambda: len(smsc.submits) >= 3)
        row = (await run.fetch("SELECT attempts, last_status, last_reason FROM queued"))[0]
        assert row["attempts"] >= 2
        assert row["last_status"] == 0x58
        assert row["last_reason"] == "refused by carrier: ESME_RTHROTTLED"
        smsc.options.refuse_rate = 0.0
        await esme.wait(lambda: len(esme.deliveries) == 1)
        assert await states(run) == ["charged"]
        assert await run.balance() == 99


@pytest.mark.parametrize(
    ("status", "state", "wanted", "receipts"),
    [(0x0B, "UNDELIVERABLE", 1, 1), (0x45, "REJECTED", 2, 1), (0x45, "REJECTED", 0, 0)],
)
async def test_a_final_refusal_becomes_a_receipt_of_ours(
    database_url: str, smsc: SimulatedSmsc, status: int, state: str, wanted: int, receipts: int
) -> None:
    smsc.options.refuse_rate, smsc.options.refuse_status = 1.0, status
    async with queued_proxy(database_url, smsc) as run, run.esme() as esme:
        await esme.bind()
        response = await esme.request(SUBMIT_SM, to(1, registered_delivery=wanted))
        assert response.status == 0
        await run.proxy.settle.passed()

        async def released() -> bool:
            return await states(run) == ["released"]

        await eventually(released)
        if receipts:
            await esme.wait(lambda: len(esme.deliveries) == 1)
            receipt = receipt_of(esme)
            assert receipt.smsc_message_id == str(message_id(response))
            assert receipt.state.name == state
            assert receipt.error == f"{status:03d}"
        assert len(esme.deliveries) == receipts
        assert await run.balance() == 100
        await run.assert_books_balance()


@pytest.mark.parametrize(("charge_on", "balance"), [("accept", 100), ("submit", 99)])
async def test_what_expires_ends_with_a_receipt_and_the_accounts_rule(
    database_url: str, smsc: SimulatedSmsc, charge_on: str, balance: int
) -> None:
    smsc.options.refuse_rate, smsc.options.refuse_status = 1.0, 0x14
    async with queued_proxy(database_url, smsc) as run, run.esme() as esme:
        await run.set_account(charge_on=charge_on)
        await esme.bind()
        body = timed(to(1, registered_delivery=1), validity=b"000000000001000R")
        response = await esme.request(SUBMIT_SM, body)
        assert response.status == 0
        await esme.wait(lambda: len(esme.deliveries) == 1)
        assert receipt_of(esme).state.name == "EXPIRED"
        assert await run.balance() == balance
        await run.assert_books_balance()

        async def told() -> bool:
            kinds = {r["kind"] for r in await run.fetch("SELECT kind FROM v_event")}
            assert "submit_accepted" not in kinds
            return "message_released" in kinds

        await eventually(told)


async def test_malformed_times_are_refused_and_cost_nothing(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    async with queued_proxy(database_url, smsc) as run, run.esme() as esme:
        await esme.bind()
        response = await esme.request(SUBMIT_SM, timed(to(1), schedule=b"tomorrow"))
        assert response.status == 0x61
        response = await esme.request(SUBMIT_SM, timed(to(1), validity=b"260101000000000+"))
        assert response.status == 0x62
        assert await run.balance() == 100


async def test_a_scheduled_message_waits_and_can_be_asked_for_and_cancelled(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    async with queued_proxy(database_url, smsc) as run, run.esme() as esme:
        await esme.bind()
        body = timed(to(1, registered_delivery=1), schedule=b"000001000000000R")
        ours = message_id(await esme.request(SUBMIT_SM, body))
        assert message_id(await esme.request(SUBMIT_SM, to(1, b"now"))) > ours
        await eventually(lambda: [s.short_message for s in smsc.submits] == [b"now"])
        asked = await esme.request(QUERY_SM, b"%d\0\1\1\x31\0" % ours)
        assert (asked.status, asked.body) == (0, b"%d\0\0\1\0" % ours)
        cancelled = await esme.request(CANCEL_SM, b"\0%d\0\1\1\x31\0\1\1\x31\0" % ours)
        assert cancelled.status == 0
        await esme.wait(lambda: len(esme.deliveries) == 1)
        assert receipt_of(esme).state.name == "DELETED"
        again = await esme.request(CANCEL_SM, b"\0%d\0\1\1\x31\0\1\1\x31\0" % ours)
        assert again.status != 0
        assert await run.balance() == 99
        await run.assert_books_balance()


async def test_cancelling_between_two_addresses_takes_only_the_accounts_own(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    async with queued_proxy(database_url, smsc) as run, run.esme() as esme, run.esme() as other:
        await run.add_account("other")
        await esme.bind()
        await other.bind("other", "other")
        for client in (esme, other):
            for source in (b"12345", b"99"):
                body = submit_body(source=source, destination=b"4477")
                response = await client.request(
                    SUBMIT_SM, timed(body, schedule=b"000001000000000R")
                )
                assert response.status == 0
        cancel = b"\0\0\1\1" + b"12345\0" + b"\1\1" + b"4477\0"
        assert (await esme.request(CANCEL_SM, cancel)).status == 0
        assert await states(run) == ["released", "queued", "queued", "queued"]
        assert (await esme.request(CANCEL_SM, cancel)).status == 0x11


async def test_a_queued_message_can_be_replaced_but_not_made_longer(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    async with queued_proxy(database_url, smsc) as run, run.esme() as esme:
        await esme.bind()
        ours = message_id(await esme.request(SUBMIT_SM, timed(to(1), schedule=b"000001000000000R")))

        def replace(text: bytes, schedule: bytes = b"") -> bytes:
            head = b"%d\0\1\1\x31\0" % ours
            return head + schedule + b"\0\0" + b"\0\0" + bytes((len(text),)) + text

        assert (await esme.request(REPLACE_SM, replace(b"x" * 161))).status == 0x13
        assert (await esme.request(REPLACE_SM, replace(b"new"))).status == 0
        soon = replace(b"newer", b"000000000001000R")
        assert (await esme.request(REPLACE_SM, soon)).status == 0
        await eventually(lambda: [s.short_message for s in smsc.submits] == [b"newer"])
        assert await run.balance() == 99
        # What left the queue is the carrier's business.
        assert (await esme.request(QUERY_SM, b"%d\0\1\1\x31\0" % ours)).status == 0


async def test_a_silent_carrier_leaves_a_doubt_and_the_line_goes_on(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    smsc.options.silence_rate = 1.0
    async with (
        queued_proxy(database_url, smsc, upstream={"response_timeout_s": 0.3}) as run,
        run.esme() as esme,
    ):
        await esme.bind()
        await esme.request(SUBMIT_SM, to(1, b"first"))
        await eventually(lambda: len(smsc.submits) == 1)
        smsc.options.silence_rate = 0.0
        await esme.request(SUBMIT_SM, to(1, b"second"))
        await eventually(lambda: len(smsc.submits) == 2)

        async def known() -> bool:
            return await states(run) == ["in_doubt", "charged"]

        await eventually(known)
        assert [s.short_message for s in smsc.submits] == [b"first", b"second"]
        await run.assert_books_balance()


async def test_a_direct_route_falls_back_and_keeps_the_order(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    route = RouteSettings(name="d", upstreams=["carrier"], when_down="queue")
    async with queued_proxy(database_url, smsc, route=[route]) as run, run.esme() as esme:
        await esme.bind()
        assert (await esme.request(SUBMIT_SM, to(1, b"0"))).status == 0
        await smsc.pause_listening()
        smsc.drop_connections()
        await eventually(lambda: not run.proxy.ways.any_bound)
        for n in range(1, 4):
            assert (await esme.request(SUBMIT_SM, to(1, b"%d" % n))).status == 0
        assert await states(run) == ["charged", "queued", "queued", "queued"]
        smsc.hold = True
        await smsc.resume_listening()
        await eventually(lambda: run.proxy.ways.any_bound)
        # Something waits still: nothing overtakes it.
        assert (await esme.request(SUBMIT_SM, to(1, b"4"))).status == 0
        smsc.release_held()
        await eventually(lambda: len(smsc.submits) == 5)
        assert [s.short_message for s in smsc.submits] == [b"%d" % n for n in range(5)]

        async def direct_again() -> bool:
            return not run.proxy.queue.takes(run.proxy.ways.routes.by_name["d"])

        await eventually(direct_again)
        assert await states(run) == ["charged"] * 5
        await run.assert_books_balance()


async def test_a_link_that_breaks_between_charge_and_forward_loses_nothing(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    """Charged for the direct way, and then there was no upstream: it waits in the queue."""
    route = RouteSettings(name="d", upstreams=["carrier"], when_down="queue")
    async with queued_proxy(database_url, smsc, route=[route]) as run, run.esme() as esme:
        await esme.bind()
        forward = run.proxy.forward.send

        def cut(messages: Any) -> None:
            run.proxy.forward.send = forward  # type: ignore[method-assign]
            smsc.drop_connections()
            run.proxy.settle.not_sent(messages, "no upstream is bound")

        run.proxy.forward.send = cut  # type: ignore[method-assign]
        assert (await esme.request(SUBMIT_SM, to(1))).status == 0
        await eventually(lambda: len(smsc.submits) == 1)

        async def charged() -> bool:
            return await states(run) == ["charged"]

        await eventually(charged)
        assert await run.balance() == 99
        await run.assert_books_balance()


async def test_a_retry_of_a_queued_message_gets_the_first_ones_id(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    async with queued_proxy(database_url, smsc) as run:
        await run.set_account(retry_safe_s=60)
        body = timed(to(1), schedule=b"000001000000000R")
        async with run.esme() as esme:
            await esme.bind()
            first = message_id(await esme.request(SUBMIT_SM, body))
        async with run.esme() as esme:
            await esme.bind()
            assert message_id(await esme.request(SUBMIT_SM, body)) == first
        assert await run.balance() == 99


async def test_a_changed_configuration_finds_its_queued_messages_again(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    smsc.options.refuse_rate, smsc.options.refuse_status = 1.0, 0x58
    slow = QueueSettings(retry_min_s=600, retry_max_s=600)
    async with queued_proxy(database_url, smsc, queue=slow) as run, run.esme() as esme:
        await esme.bind()
        assert (await esme.request(SUBMIT_SM, to(1))).status == 0
        await eventually(lambda: len(smsc.submits) == 1)
    smsc.options.refuse_rate = 0.0
    renamed = RouteSettings(name="renamed", upstreams=["carrier"], mode="queued")
    async with queued_proxy(database_url, smsc, route=[renamed]) as run:
        await run.proxy.database.pool.execute("UPDATE queue_line SET next_at = now()")
        await run.proxy.queue._count()

        async def charged() -> bool:
            return await states(run) == ["charged"]

        await eventually(charged)


async def test_a_queued_submit_multi_gives_back_what_each_refused_destination_cost(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    async with queued_proxy(database_url, smsc) as run, run.esme() as esme:
        await run.set_prices("standard", ("", "", "1"), ("999", "", "7"))
        await esme.bind()
        numbers = (b"447", b"99900", b"49")
        body = b"\0\1\1\x31\0\3" + b"".join(b"\1\1\1" + n + b"\0" for n in numbers)
        body += b"\0\0\0\0\0\1\0\0\0\2hi"
        response = await esme.request(SUBMIT_MULTI, body)
        assert (response.status, response.body[-2:]) == (0, b"\0\0")
        await esme.wait(
            lambda: any(
                receipt_of(esme, n).state.name == "UNDELIVERABLE"
                for n in range(len(esme.deliveries))
            )
        )
        assert await run.balance() == 98
        await run.assert_books_balance()


async def test_routes_over_one_carrier_have_their_turns(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    routes = [
        RouteSettings(name="first", prefix="331", upstreams=["carrier"], mode="queued"),
        RouteSettings(name="second", prefix="44", upstreams=["carrier"], mode="queued"),
        RouteSettings(name="third", prefix="49", upstreams=["carrier"], when_down="queue"),
    ]
    async with queued_proxy(database_url, smsc, route=routes, credits=1000) as run:
        await smsc.pause_listening()
        smsc.drop_connections()
        await eventually(lambda: not run.proxy.ways.any_bound)
        async with run.esme() as esme:
            await esme.bind()
            for prefix in (b"331", b"44", b"49"):
                for n in range(150):
                    destination = prefix + b"%06d" % n
                    esme.send(SUBMIT_SM, submit_body(destination=destination))
            await esme.wait(lambda: len(esme.received) == 450)
        assert {r.status for r in esme.received} == {0}
        await smsc.resume_listening()
        await eventually(lambda: len(smsc.submits) == 450)
        prefixes = [s.destination_addrs[0][:2] for s in list(smsc.submits)[:300]]
        assert set(prefixes) == {"33", "44", "49"}, "none waits for all of the others"


async def test_a_part_waits_for_the_carrier_that_has_the_others_without_a_spin(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    route = RouteSettings(name="q", upstreams=["carrier", "also0"], mode="queued")
    other = SimulatedSmsc(SmscOptions(receipt_delay_s=0.0))
    await other.start()
    slow = QueueSettings(retry_min_s=1, retry_max_s=1)
    async with (
        queued_proxy(database_url, smsc, route=[route], also=[other], queue=slow) as run,
        run.esme() as esme,
    ):
        await esme.bind()
        part = [b"\5\0\3\7\2%c" % n + b"text" for n in (1, 2)]
        await esme.request(SUBMIT_SM, to(1, part[0], esm_class=0x40))
        await eventually(lambda: len(smsc.submits) == 1)
        await smsc.pause_listening()
        smsc.drop_connections()
        await eventually(lambda: not run.proxy.ways.upstreams[1].bound)
        await esme.request(SUBMIT_SM, to(1, part[1], esm_class=0x40))

        async def tried() -> bool:
            return bool(await run.fetchval("SELECT attempts > 1 FROM queued"))

        await eventually(tried)
        assert await run.fetchval("SELECT attempts FROM queued") < 5
        assert len(other.submits) == 0
        await smsc.resume_listening()
        await eventually(lambda: len(smsc.submits) == 2)
    await other.stop()


async def test_what_was_queued_is_sent_by_a_route_that_is_direct_now(
    database_url: str, smsc: SimulatedSmsc
) -> None:
    async with queued_proxy(database_url, smsc) as run, run.esme() as esme:
        await smsc.pause_listening()
        smsc.drop_connections()
        await eventually(lambda: not run.proxy.ways.any_bound)
        await esme.bind()
        await esme.request(SUBMIT_SM, to(1))
    direct = RouteSettings(name="q", upstreams=["carrier"], mode="direct")
    await smsc.resume_listening()
    async with queued_proxy(database_url, smsc, route=[direct]):
        await eventually(lambda: len(smsc.submits) == 1)


@pytest.mark.parametrize(("charge_on", "balance"), [("accept", 100), ("submit", 100)])
async def test_what_was_never_tried_costs_nothing_when_it_is_cancelled(
    database_url: str, smsc: SimulatedSmsc, charge_on: str, balance: int
) -> None:
    async with queued_proxy(database_url, smsc) as run, run.esme() as esme:
        await run.set_account(charge_on=charge_on)
        await esme.bind()
        body = timed(to(1), schedule=b"000001000000000R")
        ours = message_id(await esme.request(SUBMIT_SM, body))
        assert await run.balance() == 99
        cancelled = await esme.request(CANCEL_SM, b"\0%d\0\1\1\x31\0\1\1\x31\0" % ours)
        assert cancelled.status == 0
        assert await run.balance() == balance
