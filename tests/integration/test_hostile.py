"""Promise 7: bad input hurts only its sender."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from struct import pack
from time import monotonic

import psutil
import pytest
from structlog.testing import capture_logs
from support.esme import (
    BIND_RX,
    BIND_TRX,
    BIND_TX,
    CANCEL_SM,
    DATA_SM,
    DELIVER_SM,
    ENQUIRE_LINK,
    QUERY_SM,
    REPLACE_SM,
    RESP,
    SUBMIT_MULTI,
    SUBMIT_SM,
    UNBIND,
    Esme,
    bind_body,
    message_id,
    pdu,
    submit_body,
)
from support.running import Running, running_proxy
from support.waiting import eventually
from support.wire import Wire

from proxy.flow.bind import Bound
from proxy.smpp.session import SessionState

GENERIC_NACK = RESP
ALERT_NOTIFICATION, OUTBIND = 0x102, 0x0B
MEGA = 1 << 20

# ------------------------------------------------------------------- what the statuses are


@pytest.mark.parametrize(
    "command_id",
    [SUBMIT_SM, SUBMIT_MULTI, DATA_SM, QUERY_SM, CANCEL_SM, REPLACE_SM, DELIVER_SM, UNBIND],
)
async def test_before_the_bind_a_command_is_refused(database_url: str, command_id: int) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        response = await esme.request(command_id, submit_body())
        assert (response.command_id, response.status) == (command_id | RESP, 0x04)
        assert (await esme.bind()).status == 0, "the connection lives on"


async def test_a_receiver_may_not_send_and_a_transmitter_not_receive(database_url: str) -> None:
    async with running_proxy(database_url) as run:
        async with run.esme() as receiver:
            await receiver.bind(command_id=BIND_RX)
            for command_id in (SUBMIT_SM, SUBMIT_MULTI, DATA_SM, QUERY_SM, CANCEL_SM, REPLACE_SM):
                response = await receiver.request(command_id, submit_body())
                assert (response.command_id, response.status) == (command_id | RESP, 0x04)
        async with run.esme() as transmitter:
            await transmitter.bind(command_id=BIND_TX)
            response = await transmitter.request(DELIVER_SM, submit_body())
            assert (response.command_id, response.status) == (DELIVER_SM | RESP, 0x04)
        assert await run.balance() == 100


async def test_an_unknown_command_gets_a_generic_nack_and_a_response_gets_nothing(
    database_url: str,
) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        for command_id in (0x00, 0x0A, 0x0BAD, 0x10200, 0x7FFFFFFF):
            response = await esme.request(command_id, b"anything")
            assert (response.command_id, response.status) == (GENERIC_NACK, 0x03)
        for command_id in (0x80000BAD, SUBMIT_SM | RESP, OUTBIND, ALERT_NOTIFICATION, GENERIC_NACK):
            esme.send(command_id, b"anything")
        assert (await esme.request(ENQUIRE_LINK)).status == 0
        assert not esme.received


async def test_a_second_bind_is_refused_and_the_first_one_stays(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        for command_id in (BIND_TRX, BIND_TX, BIND_RX):
            response = await esme.bind(command_id=command_id)
            assert (response.command_id, response.status) == (command_id | RESP, 0x05)
        assert (await esme.submit()).status == 0


@pytest.mark.parametrize(
    ("system_id", "password", "status"),
    [
        ("demo", "wrong", 0x0E),
        ("demo", "", 0x0E),
        ("nobody", "demo", 0x0F),
        ("", "", 0x0F),
        ("' OR 1=1 --", "demo", 0x0F),
        ("d" * 16, "demo", 0x0F),
        ("demo", "p" * 65, 0x0E),
    ],
)
async def test_wrong_credentials_are_refused_and_the_connection_closed(
    database_url: str, system_id: str, password: str, status: int
) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        response = await esme.bind(system_id, password)
        assert (response.command_id, response.status, response.body) == (
            BIND_TRX | RESP, status, b"",
        )  # fmt: skip
        await esme.wait(lambda: esme.closed)


async def test_too_many_binds_are_refused_until_one_leaves(database_url: str) -> None:
    async with running_proxy(database_url) as run:
        await run.add_account("small", max_binds=2)
        async with run.esme() as first, run.esme() as second:
            assert (await first.bind("small", "small")).status == 0
            assert (await second.bind("small", "small")).status == 0
            async with run.esme() as third:
                assert (await third.bind("small", "small")).status == 0x0D
                await third.wait(lambda: third.closed)
            assert (await second.request(UNBIND)).status == 0
            await second.wait(lambda: second.closed)
            async with run.esme() as fourth:
                assert (await fourth.bind("small", "small")).status == 0
            assert (await first.submit()).status == 0


@pytest.mark.parametrize("length", [0, 15, 4097, 0xFFFFFFFF])
@pytest.mark.parametrize("bound", [False, True])
async def test_an_impossible_length_is_answered_and_ends_the_connection(
    database_url: str, length: int, bound: bool
) -> None:
    smpp = {"max_pdu_octets": 4096}
    async with running_proxy(database_url, smpp=smpp) as run, run.esme() as esme:
        if bound:
            await esme.bind()
        esme.write(pack(">IIII", length, SUBMIT_SM, 0, 99) + pdu(ENQUIRE_LINK, 100))
        answer = await esme.response(99)
        assert (answer.command_id, answer.status) == (GENERIC_NACK, 0x02)
        await esme.wait(lambda: esme.closed)
        assert not esme.received


async def test_a_pdu_as_long_as_allowed_is_taken(database_url: str) -> None:
    smpp = {"max_pdu_octets": 4096}
    async with running_proxy(database_url, smpp=smpp) as run, run.esme() as esme:
        await esme.bind()
        body = submit_body()
        filler = 4096 - 16 - len(body) - 4
        body += pack(">HH", 0x1400, filler) + b"x" * filler
        assert (await esme.request(SUBMIT_SM, body)).status == 0
        assert run.smsc.submits[-1].body == body


# ------------------------------------------------------------------------------- the clocks


async def test_a_connection_that_does_not_bind_in_time_is_closed(database_url: str) -> None:
    smpp = {"session_init_timeout_s": 0.2}
    async with (
        running_proxy(database_url, smpp=smpp) as run,
        run.esme() as idle,
        run.esme() as talking,
        run.esme() as bound,
    ):
        await bound.bind()
        assert (await talking.request(ENQUIRE_LINK)).status == 0
        await idle.wait(lambda: idle.closed, timeout_s=5)
        await talking.wait(lambda: talking.closed, timeout_s=5)
        assert not bound.closed
        assert (await bound.submit()).status == 0


class Deaf(Esme):
    """A client that reads, and answers nothing of its own accord; `asked` counts what it heard."""

    asked = 0

    def write(self, octets: bytes) -> None:
        if octets[4:8] == pack(">I", ENQUIRE_LINK | RESP):
            self.asked += 1
        else:
            super().write(octets)


async def test_a_silent_client_is_asked_and_closed_when_it_does_not_answer(
    database_url: str,
) -> None:
    smpp = {"enquire_link_s": 0.2, "response_timeout_s": 0.5}
    async with (
        running_proxy(database_url, smpp=smpp) as run,
        run.esme() as polite,
        Deaf("127.0.0.1", run.proxy.server.port) as deaf,
    ):
        await polite.bind()
        await deaf.bind()
        await deaf.wait(lambda: deaf.closed, timeout_s=8)
        assert deaf.asked == 1
        assert not polite.closed
        assert (await polite.submit()).status == 0


async def test_a_client_without_messages_is_asked_to_leave(database_url: str) -> None:
    smpp = {"inactivity_timeout_s": 0.2, "enquire_link_s": 60}
    async with running_proxy(database_url, smpp=smpp) as run, run.esme() as esme:
        await esme.bind()
        await esme.wait(lambda: any(one.command_id == UNBIND for one in esme.received), 5)
        (request,) = esme.received
        esme.write(pdu(UNBIND | RESP, request.sequence_number))
        await esme.wait(lambda: esme.closed, timeout_s=2)


async def test_who_does_not_leave_when_asked_is_asked_once_and_closed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.links.connection._CLOSE_AFTER_S", 2.5)
    smpp = {"inactivity_timeout_s": 0.2, "enquire_link_s": 60}
    async with running_proxy(database_url, smpp=smpp) as run, run.esme() as esme:
        await esme.bind()
        await esme.wait(lambda: esme.closed, timeout_s=8)
        assert [one.command_id for one in esme.received] == [UNBIND]


# -------------------------------------------------------------------- pipelines and windows


async def test_submits_right_behind_a_bind_are_all_answered(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        submits = b"".join(pdu(SUBMIT_SM, n, submit_body(b"%d" % n)) for n in range(2, 52))
        esme.write(pdu(BIND_TRX, 1, bind_body("demo", "demo")) + submits)
        assert (await esme.response(1)).status == 0
        for n in range(2, 52):
            assert (await esme.response(n)).status == 0
        texts = [submit.short_message for submit in run.smsc.submits]
        assert texts == [b"%d" % n for n in range(2, 52)], "in the order in which they came"


async def test_responses_may_come_in_any_order_and_find_their_requests(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        run.smsc.hold = True
        numbers = [esme.send(SUBMIT_SM, submit_body(b"%d" % n)) for n in range(30)]
        await run.smsc.wait_for(lambda smsc: len(smsc.submits) == 30)
        random.Random(5).shuffle(run.smsc._held)
        quick = await esme.request(QUERY_SM, b"1\0\1\1\0")
        assert quick.status == 0x0C, "what needs no carrier does not wait for it"
        assert run.smsc.release_held() == 30
        ours = [message_id(await esme.response(number)) for number in numbers]
        assert len(set(ours)) == 30
        theirs = {s.short_message: s.smsc_message_id for s in run.smsc.submits}
        rows = await run.fetch("SELECT id, smsc_message_id FROM v_message")
        at_carrier = {row["id"]: row["smsc_message_id"] for row in rows}
        assert [at_carrier[one] for one in ours] == [theirs[b"%d" % n] for n in range(30)]


async def test_what_exceeds_the_window_is_throttled_and_costs_nothing(database_url: str) -> None:
    async with running_proxy(database_url, smpp={"window_max": 10}) as run, run.esme() as esme:
        await esme.bind()
        run.smsc.hold = True
        first = [esme.send(SUBMIT_SM, submit_body()) for _ in range(4)]
        await run.smsc.wait_for(lambda smsc: len(smsc.submits) == 4)
        more = [esme.next_sequence() for _ in range(20)]
        esme.write(b"".join(pdu(SUBMIT_SM, n, submit_body()) for n in more))
        for number in more[6:]:
            assert (await esme.response(number)).status == 0x58
        await run.smsc.wait_for(lambda smsc: len(smsc.submits) == 10)
        run.smsc.release_held()
        for number in first + more[:6]:
            assert (await esme.response(number)).status == 0
        assert await run.balance() == 90
        assert (await esme.submit()).status == 0, "there is room again"
        await run.assert_books_balance()


# ---------------------------------------------------------------- clients that do not read


class Rude:
    """A connection that writes as long as it is let, and reads only when told to."""

    def __init__(self, run: Running) -> None:
        self._loop = asyncio.get_running_loop()
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.setblocking(False)
        self._address = ("127.0.0.1", run.proxy.server.port)
        self._unsent = b""

    async def __aenter__(self) -> Rude:
        await self._loop.sock_connect(self.socket, self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def write_until_stopped(self, octets: bytes, most: int) -> int:
        """Write this again and again until nobody has taken any for a second; how much it was."""
        written = 0
        with suppress(TimeoutError):
            while written < most:
                if not self._unsent:
                    self._unsent = octets
                written += await self._send_some()
        return written

    async def _send_some(self) -> int:
        """What was cut off goes first the next time, so that the PDUs stay whole."""
        writable = self._loop.create_future()
        self._loop.add_writer(self.socket, lambda: writable.done() or writable.set_result(None))
        try:
            async with asyncio.timeout(1):
                await writable
        finally:
            self._loop.remove_writer(self.socket)
        sent = self.socket.send(self._unsent)
        self._unsent = self._unsent[sent:]
        return sent

    async def write(self, octets: bytes) -> None:
        """Write this, for as long as it takes."""
        self._unsent += octets
        while self._unsent:
            with suppress(TimeoutError):
                await self._send_some()


def unsent_octets(run: Running) -> int:
    """What the proxy keeps in memory for clients that do not read."""
    transports = [one.transport for one in run.proxy.server.connections]
    return sum(one.get_write_buffer_size() for one in transports if one is not None)


@pytest.mark.parametrize(
    "flood",
    [
        pdu(ENQUIRE_LINK, 7) * 4096,
        pdu(SUBMIT_SM, 7, submit_body()) * 1000,
        pdu(0x0BAD, 7) * 4096,
        pdu(BIND_TRX, 7, bind_body("demo", "demo")) * 1000,
    ],
    ids=["enquire_link", "submit_sm", "unknown", "bind"],
)
async def test_who_does_not_read_is_not_read(database_url: str, flood: bytes) -> None:
    async with running_proxy(database_url, smpp={"window_max": 50}) as run:
        async with Rude(run) as rude, run.esme() as other:
            await other.bind()
            await rude.write(pdu(BIND_TRX, 1, bind_body("demo", "demo")))
            most = 64 * MEGA
            assert await rude.write_until_stopped(flood, most) < most
            assert unsent_octets(run) < 2 * MEGA
            assert (await other.submit()).status in (0, 0x45)
        await run.assert_books_balance()


@pytest.mark.parametrize("first", ["bound", "reads again"])
async def test_it_is_read_again_when_it_is_bound_and_reads_itself(
    database_url: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is being authenticated, and one that does not read, are not read from."""
    async with running_proxy(database_url) as run:
        allowed = asyncio.Event()
        authenticate = run.proxy.bind.authenticate

        async def slowly(*who: str) -> Bound:
            await allowed.wait()
            return await authenticate(*who)

        monkeypatch.setattr(run.proxy.bind, "authenticate", slowly)
        wire = Wire(run, [pdu(BIND_TRX, 1, bind_body("demo", "demo"))])
        await eventually(lambda: not wire.reading)
        wire.session.pause_writing()
        if first == "bound":
            allowed.set()
            await eventually(lambda: wire.session.state == SessionState.BOUND_TRX)
            assert not wire.reading
            wire.session.resume_writing()
        else:
            wire.session.resume_writing()
            assert not wire.reading
            allowed.set()
        await eventually(lambda: wire.reading)
        assert wire.session.state == SessionState.BOUND_TRX
        wire.close()


# ------------------------------------------------------------------- a thousand ways to err

INPUTS = 1000
SIDE_BY_SIDE = 40
ENDS_WITHIN_S = 12.0
Luck = random.Random

COMMANDS = [
    SUBMIT_SM, DELIVER_SM, DATA_SM, SUBMIT_MULTI, QUERY_SM, CANCEL_SM, REPLACE_SM, BIND_RX,
    BIND_TX, BIND_TRX, UNBIND, ENQUIRE_LINK, OUTBIND, ALERT_NOTIFICATION, GENERIC_NACK,
]  # fmt: skip
VALID = [
    pdu(SUBMIT_SM, 1, submit_body(b"hello", tlvs=b"\x14\1\0\3abc")),
    pdu(SUBMIT_SM, 1, submit_body(b"", tlvs=b"\x04\x24\0\xc8" + b"x" * 200)),
    pdu(DATA_SM, 1, b"\0\1\1" + b"1\0\1\1" + b"44\0" + b"\0\0\0" + b"\x04\x24\0\2hi"),
    pdu(SUBMIT_MULTI, 1, b"\0\1\1" + b"1\0\1" + b"\1\1\1" + b"44\0" + b"\0" * 10),
    pdu(QUERY_SM, 1, b"123\0\1\1" + b"12345\0"),
    pdu(CANCEL_SM, 1, b"\0" + b"123\0\1\1" + b"1\0\1\1" + b"44\0"),
    pdu(REPLACE_SM, 1, b"123\0\1\1" + b"1\0" + b"\0\0\0\0\2hi"),
    pdu(DELIVER_SM | RESP, 1, b"\0"),
    pdu(BIND_TRX, 1, bind_body("hostile", "hostile")),
]


def random_octets(luck: Luck) -> bytes:
    return luck.randbytes(luck.randint(1, 300))


def framed_octets(luck: Luck) -> bytes:
    """Random bodies behind headers that are right."""
    return b"".join(
        pdu(luck.choice(COMMANDS[:7]), luck.getrandbits(32), random_octets(luck))
        for _ in range(luck.randint(1, 5))
    )


def mutated(luck: Luck) -> bytes:
    octets = bytearray(luck.choice(VALID) * luck.randint(1, 3))
    for _ in range(luck.randint(1, 8)):
        at = luck.randrange(len(octets))
        octets[at] = luck.choice((0, 1, 0x7F, 0x80, 0xFF, luck.randrange(256)))
    return bytes(octets)


def mutated_body(luck: Luck) -> bytes:
    """The header stays right, so that it is the body which is looked at."""
    whole = luck.choice(VALID[:7])
    body = bytearray(whole[16:])
    for _ in range(luck.randint(1, 6)):
        at = luck.randrange(len(body) + 1)
        body[at : at + luck.randint(0, 3)] = luck.randbytes(luck.randint(0, 4))
    return pdu(int.from_bytes(whole[4:8], "big"), 1, bytes(body))


def wrong_length(luck: Luck) -> bytes:
    whole = luck.choice(VALID)
    length = max(0, len(whole) + luck.choice((-len(whole), -20, -5, -1, 1, 5, 20, 70_000)))
    return pack(">I", length) + whole[4:]


def huge_length(luck: Luck) -> bytes:
    return pack(">I", luck.choice((70_001, 1 << 24, 1 << 31, 0xFFFFFFFF))) + luck.choice(VALID)[4:]


def truncated(luck: Luck) -> bytes:
    whole = luck.choice(VALID)
    return luck.choice(VALID) * luck.randint(0, 2) + whole[: luck.randrange(1, len(whole))]


def wrong_state(luck: Luck) -> bytes:
    return b"".join(
        pdu(luck.choice(COMMANDS) | luck.choice((0, 0, RESP)), n, luck.choice(VALID)[16:])
        for n in range(luck.randint(1, 10))
        if n != 7
    )


def flood_of_enquire_link(luck: Luck) -> bytes:
    return pdu(ENQUIRE_LINK, 1) * luck.randint(500, 3000)


def flood_beyond_the_window(luck: Luck) -> bytes:
    return pdu(SUBMIT_SM, 1, submit_body()) * luck.randint(100, 400)


def garbage_in_tlvs(luck: Luck) -> bytes:
    tags = (0x0424, 0x020E, 0x001E, 0x1400, luck.getrandbits(16))
    tlvs = b"".join(
        pack(">HH", luck.choice(tags), luck.choice((0, 1, 5, 0xFFFF))) + luck.randbytes(5)
        for _ in range(luck.randint(1, 20))
    )
    body = submit_body(luck.choice((b"", b"hi")), tlvs=tlvs + luck.randbytes(luck.randint(0, 3)))
    return pdu(SUBMIT_SM, 1, body)


def destinations(luck: Luck) -> bytes:
    count = luck.choice((0, 1, 254, 255, 255, 255))
    there = luck.choice((0, 1, 253, 254, 255))
    each = luck.choice((b"\1\1\1" + b"44\0", b"\2list\0", b"\3", b"\1\1\1\0", b"\0" * 6))
    head = b"\0\1\1" + b"1\0" + bytes((count,))
    return pdu(SUBMIT_MULTI, 1, head + each * there + b"\0" * luck.randint(0, 12))


def nuls(luck: Luck) -> bytes:
    return pdu(luck.choice(COMMANDS[:10]), 1, b"\0" * luck.randint(0, 200))


def no_nuls(luck: Luck) -> bytes:
    return pdu(luck.choice(COMMANDS[:10]), 1, b"\xff" * luck.randint(0, 60_000))


def wrong_tongue(luck: Luck) -> bytes:
    return luck.choice(
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + luck.randbytes(300),
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            b"\r\n" * 40,
        )
    )


KINDS: list[Callable[[Luck], bytes]] = [
    random_octets, framed_octets, mutated, mutated_body, wrong_length, huge_length, truncated,
    wrong_state, flood_of_enquire_link, flood_beyond_the_window, garbage_in_tlvs, destinations,
    nuls, no_nuls, wrong_tongue,
]  # fmt: skip
PROBE = 0x7ABCDEF0


async def attack(run: Running, number: int) -> str:
    """One hostile input on a connection of its own; returns how it ended."""
    luck = random.Random(number)
    octets = KINDS[number % len(KINDS)](luck)
    async with Deaf("127.0.0.1", run.proxy.server.port) as esme:
        if luck.random() < 0.6:
            bind = pdu(
                luck.choice((BIND_RX, BIND_TX, BIND_TRX)), 1, bind_body("hostile", "hostile")
            )
            esme.write(bind)
            if luck.random() < 0.5:
                assert (await esme.response(1)).status == 0
        esme.write(octets)
        manner = luck.random()
        if manner < 0.1:  # gone without a word
            esme._writer.transport.abort()
            return "gone"
        if manner < 0.2 and esme._writer.can_write_eof():  # half open: it will say nothing more
            esme._writer.write_eof()
            await esme.wait(lambda: esme.closed, ENDS_WITHIN_S)
            return "closed"
        esme.write(pdu(ENQUIRE_LINK, PROBE))
        answer = (ENQUIRE_LINK | RESP, PROBE)
        await esme.wait(
            lambda: (
                esme.closed
                or any((one.command_id, one.sequence_number) == answer for one in esme.received)
            ),
            ENDS_WITHIN_S,
        )
        return "closed" if esme.closed else "answered"


class Bystander:
    """A session that minds its own business meanwhile."""

    def __init__(self, esme: Esme) -> None:
        self._esme = esme
        self.statuses: Counter[int] = Counter()
        self.slowest_s = 0.0

    async def send_for_ever(self) -> None:
        while True:
            started = monotonic()
            response = await self._esme.submit(b"business as usual")
            self.statuses[response.status] += 1
            self.slowest_s = max(self.slowest_s, monotonic() - started)
            await asyncio.sleep(0.005)  # its pace: it is not a load test


def memory_octets() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


class Mistakes:
    """What the proxy should never say, whatever it is sent: exceptions and errors of its own."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __enter__(self) -> Mistakes:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self.seen.append(str(context)))
        self._capturing = capture_logs()
        self._logs = self._capturing.__enter__()
        return self

    def __exit__(self, *how: object) -> None:
        self._capturing.__exit__(None, None, None)
        self._loop.set_exception_handler(None)
        self.seen += [str(e) for e in self._logs if e["log_level"] in ("error", "critical")]


async def attack_beside(
    esme: Esme, attacks: Callable[[int], Awaitable[None]]
) -> tuple[Bystander, int]:
    """All attacks, while another session goes on; returns it and by how much memory grew."""
    assert (await esme.bind()).status == 0
    bystander = Bystander(esme)
    business = asyncio.create_task(bystander.send_for_ever())
    # The first ones fill caches and pools; from then on memory stays flat.
    await asyncio.gather(*map(attacks, range(INPUTS // 5)))
    before = memory_octets()
    await asyncio.gather(*map(attacks, range(INPUTS // 5, INPUTS)))
    grown = memory_octets() - before
    assert not business.done(), "the other session was disturbed"
    business.cancel()
    return bystander, grown


async def test_a_thousand_hostile_inputs(database_url: str) -> None:
    smpp = {
        "window_max": 50, "session_init_timeout_s": 2, "enquire_link_s": 1,
        "response_timeout_s": 1,
    }  # fmt: skip
    async with running_proxy(database_url, smpp=smpp, credits=1_000_000) as run:
        await run.add_account("hostile", credits=2000, max_binds=1000)
        turns = asyncio.Semaphore(SIDE_BY_SIDE)
        ends: Counter[str] = Counter()

        async def in_turn(number: int) -> None:
            async with turns:
                try:
                    ends[await attack(run, number)] += 1
                except TimeoutError:
                    kind = KINDS[number % len(KINDS)].__name__
                    pytest.fail(f"input {number} ({kind}) was neither answered nor closed")

        with Mistakes() as mistakes:
            async with run.esme() as esme:
                bystander, grown = await attack_beside(esme, in_turn)
            await eventually(lambda: len(run.proxy.server.connections) == 0)
        assert mistakes.seen == []
        assert ends.total() == INPUTS
        assert min(ends["answered"], ends["closed"], ends["gone"]) > INPUTS // 20, ends
        assert set(bystander.statuses) == {0}
        assert bystander.statuses[0] > 100
        assert bystander.slowest_s < 5
        assert grown < 60 * MEGA
        assert unsent_octets(run) == 0
        await run.assert_books_balance()
