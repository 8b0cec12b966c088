"""Kannel's bearerbox and smsbox as they come from Debian, with the proxy as their SMSC."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.kannel import (
    DLR_DELIVERED,
    DLR_SMSC_ACCEPTED,
    DLR_SMSC_REFUSED,
    require_kannel,
    running_kannel,
)
from support.running import running_proxy
from support.waiting import eventually

from proxy.telemetry.metrics import REGISTRY

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _kannel() -> None:
    require_kannel()


def refusals(reason: str) -> float:
    """How many messages the proxies of this process have refused for that reason."""
    name = "smpp_proxy_refusals_total"
    return REGISTRY.get_sample_value(name, {"reason": reason}) or 0.0


@pytest.mark.parametrize("separate_links", [False, True], ids=["transceiver", "tx and rx"])
async def test_it_sends_and_gets_its_delivery_report(
    database_url: str, tmp_path: Path, separate_links: bool
) -> None:
    async with (
        running_proxy(database_url) as run,
        running_kannel(tmp_path, run.proxy.server.port, separate_links=separate_links) as kannel,
    ):
        await kannel.send("hello from Kannel", reference="first")
        delivered = await kannel.wait_for_report("first", DLR_DELIVERED)
        accepted = await kannel.wait_for_report("first", DLR_SMSC_ACCEPTED)
        (submitted,) = run.smsc.submits
        assert submitted.short_message == b"hello from Kannel"
        assert submitted.source_addr == "12345"
        assert submitted.destination_addrs == ["447700900123"]
        (message,) = await run.fetch("SELECT * FROM v_message")
        assert "stat:DELIVRD" in delivered["answer"]
        assert f"id:{message['id']} " in delivered["answer"]
        assert accepted["smsc_message_id"] == str(message["id"])
        assert accepted["answer"].startswith("ACK/")
        assert (message["state"], message["receipt_state"]) == ("charged", "DELIVRD")
        assert await run.balance() == 99
        await run.assert_books_balance()


async def test_a_failed_message_is_reported_as_failed(database_url: str, tmp_path: Path) -> None:
    async with (
        running_proxy(database_url) as run,
        running_kannel(tmp_path, run.proxy.server.port) as kannel,
    ):
        run.smsc.options.fail_rate = 1.0
        await kannel.send("to nobody", reference="failed")
        report = await kannel.wait_for_report("failed", 2)
        assert "stat:UNDELIV" in report["answer"]


async def test_long_and_unicode_texts_arrive_in_its_parts(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        running_proxy(database_url) as run,
        running_kannel(tmp_path, run.proxy.server.port) as kannel,
    ):
        text = "".join(f"{number:05d}" for number in range(80))  # 400 septets: 3 parts
        await kannel.send(text, reference="long")
        await kannel.wait_for_report("long", DLR_DELIVERED)
        parts = list(run.smsc.submits)
        assert len({part.short_message[:4] for part in parts}) == 1  # the UDH's reference
        assert [part.short_message[4:6] for part in parts] == [b"\3\1", b"\3\2", b"\3\3"]
        assert b"".join(part.short_message[6:] for part in parts) == text.encode()
        assert await run.balance() == 97

        await kannel.send("Žluťoučký kůň", reference="unicode", coding="2", charset="UTF-8")
        await kannel.wait_for_report("unicode", DLR_DELIVERED)
        assert run.smsc.submits[-1].short_message == "Žluťoučký kůň".encode("utf-16-be")
        assert await run.balance() == 96
        await run.assert_books_balance()


async def test_insufficient_credits_are_final_until_the_top_up(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        running_proxy(database_url, credits=1) as run,
        running_kannel(tmp_path, run.proxy.server.port) as kannel,
    ):
        await kannel.send("paid", reference="paid")
        await kannel.wait_for_report("paid", DLR_DELIVERED)

        before = refusals("insufficient_credits")
        await kannel.send("not paid", reference="unpaid")
        refused = await kannel.wait_for_report("unpaid", DLR_SMSC_REFUSED)
        assert refused["answer"].startswith("NACK/0x00000045/")
        # What Kannel means to send again it keeps in its queue: see the test below.
        assert (await kannel.status()).queued == 0

        await run.add_credit("demo", 1)
        await kannel.send("paid again", reference="again")
        await kannel.wait_for_report("again", DLR_DELIVERED)

        assert [s.short_message for s in run.smsc.submits] == [b"paid", b"paid again"]
        assert kannel.report_types("unpaid") == [DLR_SMSC_REFUSED]
        assert (await kannel.status()).queued == 0
        assert refusals("insufficient_credits") == before + 1
        assert await run.balance() == 0
        await run.assert_books_balance()


async def test_without_an_upstream_it_keeps_the_message_and_sends_it_later(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        running_proxy(database_url) as run,
        running_kannel(tmp_path, run.proxy.server.port) as kannel,
    ):
        await run.smsc.pause_listening()
        run.smsc.drop_connections()
        await eventually(lambda: not run.proxy.readiness()["upstream"])
        before = refusals("no_upstream")
        await kannel.send("patient", reference="patient")
        await eventually(lambda: refusals("no_upstream") >= before + 2)  # it tries again

        async def is_kept() -> bool:
            return (await kannel.status()).queued == 1

        await eventually(is_kept)
        assert kannel.reports("patient") == []
        assert await run.balance() == 100
        await run.smsc.resume_listening()
        await kannel.wait_for_report("patient", DLR_DELIVERED)
        assert [s.short_message for s in run.smsc.submits] == [b"patient"]
        assert await run.balance() == 99
        assert (await kannel.status()).queued == 0
        await run.assert_books_balance()


async def test_a_mobile_originated_message_is_answered_by_a_service(
    database_url: str, tmp_path: Path
) -> None:
    async with running_proxy(database_url) as run:
        account_id = await run.add_account("shop", inbound="4477*")
        await eventually(lambda: run.proxy.deliver.inbound.find("447711") == account_id)
        async with running_kannel(
            tmp_path, run.proxy.server.port, account="shop", reply="Thank you"
        ) as kannel:
            assert await run.smsc.send_mo("441111111", "447711", b"Stop it") == 0
            await eventually(lambda: len(kannel.sink.of("/mo")) == 1)
            (request,) = kannel.sink.of("/mo")
            assert re.fullmatch(r"\+?441111111", request["from"])
            assert re.fullmatch(r"\+?447711", request["to"])
            assert request["text"] == "Stop it"
            # The service's reply is a message like any other, and charged.
            await eventually(lambda: len(run.smsc.submits) == 1)
            (reply,) = run.smsc.submits
            assert reply.short_message == b"Thank you"
            assert reply.source_addr == "447711"
            assert reply.destination_addrs == ["441111111"]

            async def charged() -> bool:
                return await run.balance("shop") == 99

            await eventually(charged)
            await run.assert_books_balance()
