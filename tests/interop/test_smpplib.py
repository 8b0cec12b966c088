"""smpplib, a blocking client, as it would be used in a program: each call in a thread."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import smpplib.client
import smpplib.consts
import smpplib.exceptions
import smpplib.gsm
from support.running import Running, running_proxy
from support.waiting import eventually

_CLIENT_TIMEOUT_S = 10
_MARGIN_S = 20


async def _in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    async with asyncio.timeout(_MARGIN_S):
        return await asyncio.to_thread(function, *args, **kwargs)


class Client:
    """An smpplib client that notes what it is sent."""

    def __init__(self, port: int) -> None:
        self.client = smpplib.client.Client(
            "127.0.0.1", port, timeout=_CLIENT_TIMEOUT_S, allow_unknown_opt_params=True
        )
        self.responses: list[Any] = []
        self.deliveries: list[Any] = []
        self.client.set_message_sent_handler(self._sent)
        self.client.set_message_received_handler(self._received)
        self.client.set_error_pdu_handler(lambda _pdu: None)  # it comes to the sent handler too

    def _sent(self, pdu: Any) -> None:
        self.responses.append(pdu)

    def _received(self, pdu: Any) -> None:
        self.deliveries.append(pdu)  # the status of the answer is None: ESME_ROK

    async def bind(self, kind: str = "transceiver", password: str = "demo") -> Any:
        """Connect and bind; the response."""
        await _in_thread(self.client.connect)
        method = getattr(self.client, f"bind_{kind}")
        return await _in_thread(method, system_id="demo", password=password)

    async def send(self, short_message: bytes, **fields: Any) -> Any:
        """Send a message; its response."""
        answered = len(self.responses)
        await _in_thread(
            self.client.send_message,
            **{
                "source_addr_ton": smpplib.consts.SMPP_TON_INTL,
                "source_addr": "12345",
                "dest_addr_ton": smpplib.consts.SMPP_TON_INTL,
                "destination_addr": "447700900123",
                "short_message": short_message,
                **fields,
            },
        )
        await self.read_until(lambda: len(self.responses) > answered)
        return self.responses[-1]

    async def read_until(self, done: Callable[[], bool]) -> None:
        """Read PDUs until it is so; the socket's timeout ends it otherwise."""

        def read() -> None:
            while not done():
                self.client.read_once(auto_send_enquire_link=False)

        await _in_thread(read)

    async def unbind(self) -> Any:
        """Unbind; the response."""
        return await _in_thread(self.client.unbind)


@asynccontextmanager
async def connected(run: Running) -> AsyncIterator[Client]:
    """A client with a socket of its own, closed at the end."""
    one = Client(run.proxy.server.port)
    try:
        yield one
    finally:
        one.client.disconnect()


async def test_a_message_its_receipt_and_unbind(database_url: str) -> None:
    async with running_proxy(database_url) as run, connected(run) as one:
        bound = await one.bind()
        assert bound.command == "bind_transceiver_resp"
        assert bound.system_id == b"smpp-proxy"
        response = await one.send(b"hello", registered_delivery=True)
        assert response.status == smpplib.consts.SMPP_ESME_ROK
        await one.read_until(lambda: len(one.deliveries) == 1)
        (receipt,) = one.deliveries
        assert receipt.esm_class == 0x04
        assert receipt.receipted_message_id == response.message_id
        assert receipt.message_state == smpplib.consts.SMPP_MESSAGE_STATE_DELIVERED
        assert b"id:%b " % response.message_id in receipt.short_message
        assert (receipt.source_addr, receipt.destination_addr) == (b"447700900123", b"12345")
        assert (await one.unbind()).command == "unbind_resp"
        await eventually(lambda: not run.proxy.server.connections)
        assert await run.balance() == 99
        await run.assert_books_balance()


@pytest.mark.parametrize(
    ("text", "data_coding", "parts_expected"),
    [("0123456789" * 40, 0, 3), ("Žluťoučký kůň " * 10, 8, 3), ("short", 0, 1)],
)
async def test_a_message_in_parts(
    database_url: str, text: str, data_coding: int, parts_expected: int
) -> None:
    async with running_proxy(database_url) as run, connected(run) as one:
        await one.bind()
        parts, encoding, esm_class = smpplib.gsm.make_parts(text)
        assert (len(parts), encoding) == (parts_expected, data_coding)
        ids = set()
        for part in parts:
            response = await one.send(
                part, data_coding=encoding, esm_class=esm_class, registered_delivery=True
            )
            assert response.status == smpplib.consts.SMPP_ESME_ROK
            ids.add(response.message_id)
        assert [submitted.short_message for submitted in run.smsc.submits] == parts
        assert await run.balance() == 100 - len(parts)
        await one.read_until(lambda: len(one.deliveries) == len(parts))
        assert {receipt.receipted_message_id for receipt in one.deliveries} == ids
        await run.assert_books_balance()


async def test_transmitter_and_receiver_apart(database_url: str) -> None:
    async with (
        running_proxy(database_url) as run,
        connected(run) as transmitter,
        connected(run) as receiver,
    ):
        assert (await transmitter.bind("transmitter")).command == "bind_transmitter_resp"
        assert (await receiver.bind("receiver")).command == "bind_receiver_resp"
        response = await transmitter.send(b"hello", registered_delivery=True)
        await receiver.read_until(lambda: len(receiver.deliveries) == 1)
        assert receiver.deliveries[0].receipted_message_id == response.message_id
        await receiver.unbind()
        assert (await transmitter.send(b"still bound")).status == smpplib.consts.SMPP_ESME_ROK
        await transmitter.unbind()
        assert transmitter.deliveries == []


async def test_a_mobile_originated_message(database_url: str) -> None:
    async with running_proxy(database_url) as run, connected(run) as one:
        shop = await run.add_account("shop", inbound="4477*")
        await eventually(lambda: run.proxy.deliver.inbound.find("447711") == shop)
        await _in_thread(one.client.connect)
        await _in_thread(one.client.bind_transceiver, system_id="shop", password="shop")
        sending = asyncio.create_task(run.smsc.send_mo("441111111", "447711", b"Stop it"))
        await one.read_until(lambda: len(one.deliveries) == 1)
        assert await sending == smpplib.consts.SMPP_ESME_ROK
        assert one.deliveries[0].short_message == b"Stop it"
        assert one.deliveries[0].source_addr == b"441111111"


async def test_a_wrong_password_raises(database_url: str) -> None:
    async with (
        running_proxy(database_url) as run,
        connected(run) as mistaken,
        connected(run) as right,
    ):
        with pytest.raises(smpplib.exceptions.PDUError) as refused:
            await mistaken.bind(password="wrong")
        assert refused.value.args[1] == smpplib.consts.SMPP_ESME_RINVPASWD
        await right.bind()  # the address is not locked out


async def test_insufficient_credits_and_a_top_up(database_url: str) -> None:
    async with running_proxy(database_url, credits=1) as run, connected(run) as one:
        await one.bind()
        assert (await one.send(b"paid")).status == smpplib.consts.SMPP_ESME_ROK
        refused = await one.send(b"not paid")
        assert refused.status == smpplib.consts.SMPP_ESME_RSUBMITFAIL == 0x45
        await run.add_credit("demo", 1)
        assert (await one.send(b"paid again")).status == smpplib.consts.SMPP_ESME_ROK
        assert [s.short_message for s in run.smsc.submits] == [b"paid", b"paid again"]
        await run.assert_books_balance()


async def test_its_own_error_handler_raises_the_refusal(database_url: str) -> None:
    async with running_proxy(database_url, credits=0) as run, connected(run) as one:
        await one.bind()
        one.client.set_error_pdu_handler(
            smpplib.client.Client.error_pdu_handler.__get__(one.client)
        )
        with pytest.raises(smpplib.exceptions.PDUError, match="submit_sm_resp") as refused:
            await one.send(b"not paid")
        assert refused.value.args[1] == 0x45


async def test_query_of_a_message(database_url: str) -> None:
    async with running_proxy(database_url) as run, connected(run) as one:
        await one.bind()
        response = await one.send(b"hello")
        answers: list[Any] = []
        one.client.set_query_resp_handler(answers.append)
        await _in_thread(
            one.client.query_message,
            message_id=response.message_id.decode(),
            source_addr_ton=smpplib.consts.SMPP_TON_INTL,
            source_addr_npi=0,
            source_addr="12345",
        )
        await one.read_until(lambda: len(answers) == 1)
        assert answers[0].message_id == response.message_id
        assert answers[0].message_state == smpplib.consts.SMPP_MESSAGE_STATE_DELIVERED
        assert re.fullmatch(rb"\d{12}\d00\+", answers[0].final_date)
