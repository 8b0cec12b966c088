"""Carriers and a modem at once: what reaches the handset, and what survives their faults."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.books import Books, open_books
from support.esme import SUBMIT_SM, Esme, message_id, submit_body
from support.faults import carrier, client_of, settings_for
from support.modems import decoded, decoded_text, part_of, running_modem
from support.running import upstream_settings
from support.waiting import eventually

from proxy.app import Proxy
from proxy.config import ModemSettings, QueueSettings, RetrySettings, RouteSettings
from proxy.simulator.modem import ModemOptions, SimulatedModem
from proxy.simulator.smsc import SimulatedSmsc
from proxy.smpp.pdu import read_delivery
from proxy.smpp.receipt import parse_receipt
from proxy.smpp.vocabulary import MessageState

FAST = QueueSettings(retry_min_s=0.05, retry_max_s=0.2)


@asynccontextmanager
async def proxy_of(
    database_url: str, carriers: list[SimulatedSmsc], modem: SimulatedModem, **sections: Any
) -> AsyncIterator[Proxy]:
    upstreams: list[Any] = [
        upstream_settings(one, name=f"carrier{n}", response_timeout_s=0.5)
        for n, one in enumerate(carriers, 1)
    ]
    upstreams.append(
        ModemSettings(
            name="modem", device=modem.path, reconnect_min_s=0.05, reconnect_max_s=0.2,
            answer_timeout_s=1, command_timeout_s=0.5,
        )
    )  # fmt: skip
    routes = [
        RouteSettings(name="modem", prefix="49", upstreams=["modem"]),
        RouteSettings(name="carriers", upstreams=["carrier1", "carrier2"][: len(carriers)]),
    ]
    retry = RetrySettings(patience_s=1, delay_s=0.05)
    sections = {"route": routes, "queue": FAST, "retry": retry, **sections}
    proxy = Proxy(settings_for(database_url, upstreams, **sections))
    try:
        await proxy.start()
        await eventually(lambda: all(u.bound for u in proxy.ways.upstreams.values()))
        yield proxy
    finally:
        await proxy.stop()


def receipts(esme: Esme) -> dict[int, MessageState | None]:
    found = {}
    for one in esme.deliveries:
        delivery = read_delivery(one.command_id, one.body)
        receipt = parse_receipt(delivery.text, delivery.tlvs)
        assert receipt is not None
        found[int(receipt.smsc_message_id)] = receipt.state
    return found


IN_DOUBT = 0xFF
LONG = "".join(chr(97 + n % 26) for n in range(400))
PORTS = bytes.fromhex("0605040B8423F0")


async def test_a_modem_and_a_carrier_take_messages_at_once_and_nothing_is_changed(
    database_url: str,
) -> None:
    async with (
        running_modem(ModemOptions(report_delay_s=0.05)) as modem,
        open_books(database_url) as books,
        carrier() as smsc,
        proxy_of(database_url, [smsc], modem) as proxy,
        client_of(proxy) as esme,
    ):
        await books.add_account()
        await esme.bind()
        ids: list[int] = []

        async def send(to: bytes, text: bytes, **fields: Any) -> None:
            body = submit_body(text, destination=to, registered_delivery=1, **fields)
            response = await esme.request(SUBMIT_SM, body)
            assert response.status == 0
            ids.append(message_id(response))

        payload = b"\x04\x24" + len(LONG).to_bytes(2) + LONG.encode()
        for n, fields in enumerate(
            [
                {"text": b"plain \x1be{1}"},  # an escape: the euro sign
                {"text": b"", "tlvs": payload},
                {"text": PORTS + bytes(range(40)), "esm_class": 0x40, "data_coding": 4},
                {"text": "Привет 😀".encode("utf-16-be"), "data_coding": 8},
                {"text": b"flash", "data_coding": 0x10},
            ]
        ):
            for prefix in (b"4917", b"4477"):
                await send(prefix + b"%05d" % n, **fields)  # type: ignore[arg-type]
        await esme.wait(lambda: len(esme.deliveries) == len(ids))
        assert receipts(esme) == dict.fromkeys(ids, MessageState.DELIVERED)

        by_number: dict[str, list[Any]] = {}
        for message in modem.sent:
            by_number.setdefault(message.submit.destination.digits, []).append(message)
        plain, long, binary, unicode, flash = (by_number[f"4917{n:05d}"] for n in range(5))
        assert decoded_text(plain[0]).startswith("plain €")
        assert "".join(decoded_text(part) for part in long) == LONG
        assert [part_of(part)[1:] for part in long] == [(3, 1), (3, 2), (3, 3)]
        assert len({part_of(part)[0] for part in long}) == 1
        assert binary[0].submit.user_data == PORTS + bytes(range(40))
        header = decoded(binary[0])["user_data"]["header"]
        assert header["elements"][0]["iei"] == 5
        assert decoded_text(unicode[0]) == "Привет 😀"
        assert flash[0].submit.data_coding == 0x10
        assert decoded_text(flash[0]) == "flash"
        assert [len(s.body) for s in smsc.submits] and len(smsc.submits) == 5
        await books.assert_books_balance()
        states = await books.states()
        assert set(states.values()) == {"charged"}


async def faults_in_turn(carriers: list[SimulatedSmsc], modem: SimulatedModem) -> None:
    """Each is cut, silenced, throttled and restarted."""

    async def sent(more: int) -> None:
        def count() -> int:
            return sum(len(c.submits) for c in carriers) + len(modem.sent)

        wanted = count() + more
        await eventually(lambda: count() >= wanted, timeout_s=15)

    for one in carriers:
        one.drop_connections()
        await sent(5)
        one.options.silence_rate = 1.0
        await sent(5)
        one.options.silence_rate = 0.0
        one.options.refuse_rate, one.options.refuse_status = 1.0, 0x58
        await sent(5)
        one.options.refuse_rate = 0.0
        await one.stop()
        await sent(5)
        await one.start()
    modem.hang()
    await asyncio.sleep(0)
    await sent(5)
    modem.resume()
    modem.refuse_with = lambda _: 42  # network congestion
    await sent(5)
    modem.refuse_with = None
    modem.reset()
    await sent(5)
    modem.lose_network()
    await sent(5)
    modem.find_network()


async def ordered_client(
    esme: Esme, prefix: bytes, answers: dict[str, tuple[int, int]], enough: asyncio.Event
) -> None:
    """Messages to a few destinations, each after the answer to the one before."""

    async def one_line(line: int) -> None:
        for n in itertools.count():
            if enough.is_set():
                return
            destination = prefix + b"%02d" % line
            response = await esme.request(
                SUBMIT_SM, submit_body(b"%d" % n, destination=destination), timeout_s=30
            )
            our_id = message_id(response) if response.status == 0 else 0
            answers[f"{destination.decode()} {n}"] = response.status, our_id

    await asyncio.gather(*(one_line(line) for line in range(6)))


async def assert_kept(
    books: Books,
    carriers: list[SimulatedSmsc],
    modem: SimulatedModem,
    answers: dict[str, tuple[int, int]],
) -> None:
    """Nothing lost, nothing twice, nothing free, in order for each destination."""
    taken: list[str] = []
    for one in carriers:
        taken += [
            f"{s.destination_addrs[0]} {s.short_message.decode()}"
            for s in one.submits
            if s.status == 0
        ]
    taken += [f"{s.submit.destination.digits} {decoded_text(s)}" for s in modem.sent]
    assert [key for key, times in Counter(taken).items() if times > 1] == [], "sent twice"
    rows = await books.fetch("SELECT id, state FROM v_message")
    states = {row["id"]: row["state"] for row in rows}
    for key, (status, our_id) in answers.items():
        if status == 0:
            state = states[our_id]
            assert state == "charged" or (state == "in_doubt" and key.startswith("49")), key
            assert key in taken or state == "in_doubt", f"{key} is lost"
        else:
            assert not key.startswith("49"), "the queue takes what its modem can't now"
            assert key not in taken or status == IN_DOUBT, f"{key} is free"
    assert set(taken) <= answers.keys()
    for line in {key.split()[0] for key in taken}:
        of_modem = [int(decoded_text(s)) for s in modem.sent if s.submit.destination.digits == line]
        assert of_modem == sorted(of_modem)
    await books.assert_books_balance()


@pytest.mark.timeout(180)
async def test_each_way_fails_in_turn_and_nothing_is_lost_or_sent_twice(database_url: str) -> None:
    async with (
        running_modem(ModemOptions(send_delay_s=0.02)) as modem,
        open_books(database_url) as books,
        carrier(response_delay_s=0.02) as one,
        carrier(response_delay_s=0.02) as two,
        proxy_of(database_url, [one, two], modem) as proxy,
        client_of(proxy) as esme,
        client_of(proxy) as other,
    ):
        await books.add_account(credits=10_000)
        await esme.bind()
        await other.bind()
        answers: dict[str, tuple[int, int]] = {}
        enough = asyncio.Event()
        flows = asyncio.gather(
            ordered_client(esme, b"491700", answers, enough),
            ordered_client(other, b"447700", answers, enough),
        )
        try:
            await faults_in_turn([one, two], modem)
        finally:
            enough.set()
            await flows

        async def drained() -> bool:
            return await books.fetchval("SELECT count(*) FROM queued") == 0

        await eventually(drained, timeout_s=60)
        await proxy.settle.passed()
        await assert_kept(books, [one, two], modem, answers)
