"""aiosmpplib's ESME, with its own broker, correlator, hook and reconnecting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiosmpplib import (
    ESME,
    NPI,
    TON,
    BindMode,
    DeliverSm,
    PhoneNumber,
    SmppCommand,
    SmppCommandStatus,
    SmppMessage,
    SubmitSm,
    SubmitSmResp,
)
from aiosmpplib.hook import AbstractHook
from aiosmpplib.retrytimer import SimpleExponentialBackoff
from support.ports import free_ports
from support.running import running_proxy
from support.waiting import eventually

from proxy.simulator.smsc import SimulatedSmsc, SmscOptions

_STOP_TIMEOUT_S = 10


class Hook(AbstractHook):  # type: ignore[misc] # aiosmpplib has no type marker
    """Notes what the client sees."""

    def __init__(self) -> None:
        self.responses: list[SubmitSmResp] = []
        self.deliveries: list[DeliverSm] = []
        self.errors: list[Exception] = []
        self.unread: list[bytes] = []
        """PDUs that aiosmpplib could not read, or did not need to."""

    async def sending(self, smpp_message: SmppMessage, pdu: bytes, client_id: str) -> None:
        """Of no interest."""

    async def received(self, smpp_message: SmppMessage | None, pdu: bytes, client_id: str) -> None:
        """Keep responses to submits, and deliveries."""
        if smpp_message is None:
            self.unread.append(pdu)
        elif isinstance(smpp_message, DeliverSm):
            self.deliveries.append(smpp_message)
        elif type(smpp_message) is SubmitSmResp:
            self.responses.append(smpp_message)

    async def send_error(self, smpp_message: SmppMessage, error: Exception, client_id: str) -> None:
        """Keep it."""
        self.errors.append(error)

    @property
    def receipts(self) -> list[dict[str, Any]]:
        """What the receipts said."""
        return [d.parse_receipt() for d in self.deliveries if d.is_receipt()]


@asynccontextmanager
async def started(
    port: int, *, bound: bool = True, **settings: Any
) -> AsyncIterator[tuple[ESME, Hook]]:
    """A client that keeps itself connected (bound already, unless told); stopped at the end."""
    hook = Hook()
    esme = ESME(
        **{
            "smsc_host": "127.0.0.1", "smsc_port": port, "system_id": "demo",
            "password": "demo", "hook": hook, "log_level": logging.CRITICAL,
            "retry_timer": SimpleExponentialBackoff(min_delay=20, max_increases=1), **settings,
        }
    )  # fmt: skip
    running = asyncio.create_task(esme.start())
    try:
        if bound:
            await eventually(lambda: is_bound(esme))
        yield esme, hook
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await esme.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def is_bound(esme: ESME) -> bool:
    """Whether its session is bound, as whatever it is meant to be."""
    return bool(esme.session_state == esme.bind_mode.session_state)


def message(text: str, log_id: str = "", **fields: Any) -> SubmitSm:
    """A message."""
    return SubmitSm(
        short_message=text,
        source=PhoneNumber("12345", TON.NATIONAL, NPI.ISDN),
        destination=PhoneNumber("447700900123", TON.INTERNATIONAL, NPI.ISDN),
        log_id=log_id,
        **fields,
    )


async def send(esme: ESME, hook: Hook, one: SubmitSm) -> SubmitSmResp:
    """Queue a message; its response."""
    answered = len(hook.responses)
    await esme.broker.enqueue(one)
    await eventually(lambda: len(hook.responses) > answered)
    return hook.responses[-1]


async def test_a_message_and_its_receipt(database_url: str) -> None:
    async with running_proxy(database_url) as run, started(run.proxy.server.port) as (esme, hook):
        response = await send(esme, hook, message("hello", "mine"))
        assert response.command_status is SmppCommandStatus.ESME_ROK
        assert response.log_id == "mine"
        await eventually(lambda: len(hook.receipts) == 1)
        (receipt,) = hook.receipts
        assert (receipt["id"], receipt["stat"]) == (response.message_id, "DELIVRD")
        assert hook.deliveries[0].log_id == "mine"  # its correlator found the message by the id
        assert run.smsc.submits[0].short_message == b"hello"
        assert await run.state(int(response.message_id)) == "charged"
        assert await run.balance() == 99
        assert hook.errors == []
        await run.assert_books_balance()


async def test_many_messages_each_get_their_own_receipt(database_url: str) -> None:
    async with running_proxy(database_url) as run, started(run.proxy.server.port) as (esme, hook):
        for number in range(100):
            await esme.broker.enqueue(message(f"number {number}", f"log {number}"))
        await eventually(lambda: len(hook.receipts) == 100)
        ids = {r.log_id: r.message_id for r in hook.responses}
        assert len(set(ids.values())) == 100
        assert {d.log_id: d.parse_receipt()["id"] for d in hook.deliveries} == ids
        assert await run.balance() == 0
        await run.assert_books_balance()


@pytest.mark.parametrize(
    ("text", "segments", "fields"),
    [
        ("0123456789" * 40, 3, {}),  # message_payload
        ("0123456789" * 40, 3, {"esm_class": 0x40, "auto_message_payload": False}),  # UDH
        ("Žluťoučký kůň", 1, {"encoding": "ucs2"}),
    ],
    ids=["payload", "parts", "ucs2"],
)
async def test_texts_long_and_unicode(
    database_url: str, text: str, segments: int, fields: dict[str, Any]
) -> None:
    async with running_proxy(database_url) as run, started(run.proxy.server.port) as (esme, hook):
        await esme.broker.enqueue(message(text, "long", **fields))
        await eventually(lambda: sum(d.log_id == "long" for d in hook.deliveries) >= 1)
        assert hook.responses[-1].command_status is SmppCommandStatus.ESME_ROK
        assert hook.receipts[-1]["stat"] == "DELIVRD"
        charged = await run.fetchval("SELECT sum(segments)::int FROM v_message")
        assert charged == segments
        assert await run.balance() == 100 - segments
        await run.assert_books_balance()


async def test_transmitter_and_receiver_apart(database_url: str) -> None:
    async with running_proxy(database_url) as run:
        port = run.proxy.server.port
        async with (
            started(port, bind_mode=BindMode.TRANSMITTER) as (transmitter, sent),
            started(port, bind_mode=BindMode.RECEIVER) as (_, received),
        ):
            response = await send(transmitter, sent, message("hello"))
            await eventually(lambda: len(received.receipts) == 1)
            assert received.receipts[0]["id"] == response.message_id
            assert sent.deliveries == []


async def test_a_mobile_originated_message(database_url: str) -> None:
    async with running_proxy(database_url) as run:
        shop = await run.add_account("shop", inbound="4477*")
        await eventually(lambda: run.proxy.deliver.inbound.find("447711") == shop)
        async with started(run.proxy.server.port, system_id="shop", password="shop") as (_, hook):
            status = await run.smsc.send_mo("441111111", "447711", b"Stop it")
            assert status == SmppCommandStatus.ESME_ROK
            await eventually(lambda: len(hook.deliveries) == 1)
            (delivery,) = hook.deliveries
            assert delivery.short_message == "Stop it"
            assert delivery.source.number == "441111111"


async def test_a_wrong_password_is_told(database_url: str) -> None:
    async with (
        running_proxy(database_url) as run,
        started(run.proxy.server.port, bound=False, password="wrong") as (esme, hook),
    ):
        # It cannot read a refused bind without a body (which section 4.1.6 wants), but shows it.
        await eventually(lambda: len(hook.unread) >= 1)
        header = SmppMessage.parse_header(hook.unread[0])
        assert header.smpp_command is SmppCommand.BIND_TRANSCEIVER_RESP
        assert header.command_status is SmppCommandStatus.ESME_RINVPASWD
        assert not is_bound(esme)


async def test_insufficient_credits_and_a_top_up(database_url: str) -> None:
    async with (
        running_proxy(database_url, credits=1) as run,
        started(run.proxy.server.port) as (esme, hook),
    ):
        paid = await send(esme, hook, message("paid"))
        refused = await send(esme, hook, message("not paid", "unpaid"))
        await run.add_credit("demo", 1)
        again = await send(esme, hook, message("paid again"))
        assert [r.command_status for r in (paid, refused, again)] == [
            SmppCommandStatus.ESME_ROK,
            SmppCommandStatus.ESME_RSUBMITFAIL,
            SmppCommandStatus.ESME_ROK,
        ]
        assert refused.log_id == "unpaid"
        assert [s.short_message for s in run.smsc.submits] == [b"paid", b"paid again"]
        assert is_bound(esme)
        await run.assert_books_balance()


async def test_it_reconnects_after_the_proxy_restarts(database_url: str) -> None:
    """A receipt that comes after the restart still finds the message of before."""
    (port,) = free_ports(1)
    smsc = SimulatedSmsc(SmscOptions(receipts=False))
    await smsc.start()
    try:
        async with started(port, bound=False) as (esme, hook):
            async with running_proxy(database_url, smsc=smsc, smpp={"port": port}):
                await eventually(lambda: is_bound(esme))
                before = await send(esme, hook, message("before", "first"))
            await eventually(lambda: not is_bound(esme))
            async with running_proxy(database_url, smsc=smsc, smpp={"port": port}) as run:
                await eventually(lambda: is_bound(esme))
                after = await send(esme, hook, message("after", "second"))
                assert after.command_status is SmppCommandStatus.ESME_ROK
                for submitted in smsc.submits:
                    status = await smsc.send_receipt(submitted.smsc_message_id)
                    assert status == SmppCommandStatus.ESME_ROK
                await eventually(lambda: len(hook.receipts) == 2)
                assert [(d.log_id, d.parse_receipt()["id"]) for d in hook.deliveries] == [
                    ("first", before.message_id),
                    ("second", after.message_id),
                ]
                assert await run.balance() == 98
                await run.assert_books_balance()
    finally:
        await smsc.stop()
