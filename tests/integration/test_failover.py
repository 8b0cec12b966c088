"""Refusals of carriers: passed on, tried again, tried elsewhere; and routes over several."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.esme import SUBMIT_SM, message_id, submit_body
from support.running import running_proxy
from support.waiting import eventually

from proxy.config import AddressSettings, RetrySettings, RouteSettings
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions

FAST = RetrySettings(patience_s=5, delay_s=0.05, tries_max=3)


@pytest.fixture
async def carriers() -> AsyncIterator[list[SimulatedSmsc]]:
    both = [SimulatedSmsc(SmscOptions(receipt_delay_s=0.0)) for _ in range(2)]
    for one in both:
        await one.start()
    yield both
    for one in both:
        await one.stop()


def two_carriers(database_url: str, carriers: list[SimulatedSmsc], **values: Any) -> Any:
    first, second = carriers
    return running_proxy(database_url, smsc=first, also=[second], **{"retry": FAST, **values})


def refuse(smsc: SimulatedSmsc, status: int) -> None:
    smsc.options.refuse_rate, smsc.options.refuse_status = 1.0, status


async def test_the_next_carrier_takes_what_the_first_can_not_now(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    refuse(carriers[0], 0x08)
    async with two_carriers(database_url, carriers) as run, run.esme() as esme:
        await esme.bind()
        response = await esme.submit(registered_delivery=1)
        assert response.status == 0
        await esme.wait(lambda: len(esme.deliveries) == 1)
        row = (await run.fetch("SELECT * FROM v_message"))[0]
        assert (row["state"], row["upstream"]) == ("charged", "also0")
        assert await run.balance() == 99
        assert [len(c.submits) for c in carriers] == [1, 1]
        log = await run.fetch("SELECT operation FROM v_credit_log WHERE operation <> 'add'")
        assert [r["operation"] for r in log] == ["use"], "charged once"
        await run.assert_books_balance()


async def test_when_all_refuse_the_client_hears_the_last_and_has_its_credit(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    for one in carriers:
        refuse(one, 0x08)
    async with two_carriers(database_url, carriers) as run, run.esme() as esme:
        await esme.bind()
        assert (await esme.submit()).status == 0x08
        assert [len(c.submits) for c in carriers] == [1, 1]
        assert await run.balance() == 100
        await run.assert_books_balance()


async def test_a_message_is_at_fault_itself(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    refuse(carriers[0], 0x0B)
    async with two_carriers(database_url, carriers) as run, run.esme() as esme:
        await esme.bind()
        assert (await esme.submit()).status == 0x0B
        assert len(carriers[1].submits) == 0


async def test_a_throttled_message_is_tried_again_while_its_client_waits(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    refuse(carriers[0], 0x58)
    async with two_carriers(database_url, carriers) as run, run.esme() as esme:
        await esme.bind()
        sequence = esme.send(SUBMIT_SM, submit_body())
        await eventually(lambda: len(carriers[0].submits) == 2)
        carriers[0].options.refuse_rate = 0.0
        assert (await esme.response(sequence)).status == 0
        assert await run.balance() == 99
        assert len(carriers[1].submits) == 0


async def test_patience_ends_after_so_many_tries(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    refuse(carriers[0], 0x14)
    async with two_carriers(database_url, carriers) as run, run.esme() as esme:
        await esme.bind()
        assert (await esme.submit()).status == 0x14
        assert len(carriers[0].submits) == 1 + FAST.tries_max
        assert await run.balance() == 100


async def test_an_upstreams_own_rules_come_first(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    refuse(carriers[0], 0x0B)
    rules = {"on_status": {"0x0B": "next"}}
    async with two_carriers(database_url, carriers, upstream=rules) as run, run.esme() as esme:
        await esme.bind()
        assert (await esme.submit()).status == 0
        assert len(carriers[1].submits) == 1


async def test_parts_of_one_message_do_not_part(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    async with two_carriers(database_url, carriers) as run, run.esme() as esme:
        await esme.bind()
        part = [b"\5\0\3\7\2%c" % n + b"text" for n in (1, 2)]
        assert (await esme.submit(part[0], esm_class=0x40)).status == 0
        refuse(carriers[0], 0x08)
        assert (await esme.submit(part[1], esm_class=0x40)).status == 0x08
        assert len(carriers[1].submits) == 0


async def test_a_silent_carrier_is_never_followed_by_another(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    carriers[0].options.silence_rate = 1.0
    upstream = {"response_timeout_s": 0.3}
    async with two_carriers(database_url, carriers, upstream=upstream) as run, run.esme() as esme:
        await esme.bind()
        assert (await esme.submit()).status == 0xFF
        assert len(carriers[1].submits) == 0
        assert await run.balance() == 99


async def test_what_waits_for_another_try_is_answered_when_the_proxy_stops(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    refuse(carriers[0], 0x58)
    retry = RetrySettings(patience_s=600, delay_s=60)
    async with two_carriers(database_url, carriers, retry=retry) as run, run.esme() as esme:
        await esme.bind()
        sequence = esme.send(SUBMIT_SM, submit_body())
        await eventually(lambda: len(carriers[0].submits) == 1)
        await run.proxy.stop()
        assert (await esme.response(sequence)).status == 0x58


@pytest.mark.parametrize(
    ("route", "shares"),
    [
        ({"policy": "round_robin"}, [20, 20]),
        ({"policy": "weighted", "weights": [3, 1]}, [30, 10]),
        ({"policy": "failover"}, [40, 0]),
    ],
)
async def test_policies_share_out_messages(
    database_url: str, carriers: list[SimulatedSmsc], route: Any, shares: list[int]
) -> None:
    routes = [RouteSettings(upstreams=["carrier", "also0"], **route)]
    async with two_carriers(database_url, carriers, route=routes) as run, run.esme() as esme:
        await esme.bind()
        for number in range(40):
            response = await esme.submit(destination=b"447700%06d" % number)
            assert response.status == 0
        assert [len(c.submits) for c in carriers] == shares


async def test_the_cheapest_carrier_is_taken_first(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    routes = [RouteSettings(upstreams=["carrier", "also0"], policy="least_cost")]
    async with two_carriers(database_url, carriers, route=routes) as run, run.esme() as esme:
        await run.set_prices("dear", ("", "", "0.05"), ("33", "", "0.01"))
        await run.set_prices("cheap", ("", "", "0.02"), ("33", "", "0.04"))
        for name, tariff in (("carrier", "dear"), ("also0", "cheap")):
            await run.proxy.database.pool.execute(
                "UPDATE upstream SET cost_tariff_id = (SELECT id FROM tariff WHERE name = $2)"
                " WHERE name = $1",
                name,
                tariff,
            )
        await run.proxy.refresh.once()
        await esme.bind()
        for destination in (b"447700900123", b"33612345678", b"4915112345"):
            assert (await esme.submit(destination=destination)).status == 0
        taken = [[s.destination_addrs[0] for s in c.submits] for c in carriers]
        assert taken == [["33612345678"], ["447700900123", "4915112345"]]


async def test_routes_are_tried_in_their_order_by_all_conditions(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    routes = [
        RouteSettings(data_coding=8, upstreams=["also0"]),
        RouteSettings(account="vip", upstreams=["also0"]),
        RouteSettings(sender="Shop*", prefix="44", upstreams=["also0"]),
        RouteSettings(prefix="44", upstreams=["carrier"]),
    ]
    async with two_carriers(database_url, carriers, route=routes) as run:
        await run.add_account("vip")
        expected: Counter[str] = Counter()
        for account, fields, carrier in (
            ("demo", {}, "carrier"),
            ("demo", {"data_coding": 8}, "also0"),
            ("demo", {"source": b"Shop24"}, "also0"),
            ("demo", {"source": b"Shop24", "destination": b"331"}, None),
            ("vip", {"destination": b"331"}, "also0"),
            ("demo", {"destination": b"331"}, None),
        ):
            async with run.esme() as esme:
                await esme.bind(account, account)
                response = await esme.submit(**fields)
                if carrier is None:
                    assert response.status == 0x0B
                    continue
                expected[carrier] += 1
                upstream = await run.fetchval(
                    "SELECT upstream FROM v_message WHERE id = $1", message_id(response)
                )
                assert upstream == carrier
        assert [len(c.submits) for c in carriers] == [expected["carrier"], expected["also0"]]


async def test_a_receipt_that_only_the_operator_asked_for_is_not_the_clients(
    database_url: str, carriers: list[SimulatedSmsc]
) -> None:
    rules = {"address": AddressSettings(registered_delivery=1)}
    async with two_carriers(database_url, carriers, upstream=rules) as run, run.esme() as esme:
        await esme.bind()
        ours = message_id(await esme.submit())

        async def known() -> bool:
            state = await run.fetchval("SELECT receipt_state FROM v_message WHERE id = $1", ours)
            return bool(state == "DELIVRD")

        await eventually(known)
        asked = message_id(await esme.submit(registered_delivery=1))
        await esme.wait(lambda: len(esme.deliveries) > 0)
        assert len(esme.deliveries) == 1
        assert b"id:%d" % asked in esme.deliveries[0].body
