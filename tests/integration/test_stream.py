"""The same octets give the same answers, however they are cut on their way.

Most of it is done without a socket, so that each cut is exactly where the test puts it.
"""

from __future__ import annotations

import asyncio
from struct import unpack_from

import pytest
from support.esme import (
    BIND_RX,
    BIND_TRX,
    BIND_TX,
    CANCEL_SM,
    DATA_SM,
    DELIVER_SM,
    ENQUIRE_LINK,
    QUERY_SM,
    RESP,
    SUBMIT_MULTI,
    SUBMIT_SM,
    UNBIND,
    Received,
    bind_body,
    pdu,
    submit_body,
)
from support.running import Running, running_proxy
from support.wire import Wire

AT_ONCE = 40
"""Connections that are tried side by side."""

Answers = dict[int, tuple[int, int]]
"""Sequence number → (command_id, status); message ids differ from run to run."""


def by_sequence_number(octets: bytes) -> Answers:
    found: Answers = {}
    at = 0
    while at < len(octets):
        length, command_id, status, sequence_number = unpack_from(">IIII", octets, at)
        assert 16 <= length <= len(octets) - at
        assert sequence_number not in found, "answered twice"
        found[sequence_number] = command_id, status
        at += length
    return found


def cuts_of(stream: bytes) -> list[list[bytes]]:
    """The stream in two pieces in every way, and in pieces of every size up to 40."""
    in_two = [[stream[:at], stream[at:]] for at in range(1, len(stream))]
    sizes = [
        [stream[at : at + size] for at in range(0, len(stream), size)] for size in range(1, 41)
    ]
    return [*in_two, *sizes]


async def try_all(run: Running, cuts: list[list[bytes]], expected: Answers) -> None:
    for at in range(0, len(cuts), AT_ONCE):
        wires = [Wire(run, pieces) for pieces in cuts[at : at + AT_ONCE]]
        for pieces, wire in zip(cuts[at : at + AT_ONCE], wires, strict=True):
            assert by_sequence_number(await wire.everything()) == expected, [
                len(piece) for piece in pieces
            ]


TOO_LONG = submit_body(source=b"1" * 30)
REFUSED = submit_body(b"no", destination=b"999")
QUERY = b"1\0\1\1" + b"12345\0"
DATA = b"\0\1\1" + b"1\0\1\1" + b"44\0" + b"\0\0\0" + b"\x04\x24\0\2hi"
MULTI = b"\0\1\1" + b"1\0" + b"\2" + b"\1\1\1" + b"44\0" + b"\1\1\1" + b"45\0" + b"\0" * 10

TOO_LATE = pdu(SUBMIT_SM, 21, submit_body(b"too late"))

BIND_ERROR = 0x04


def life(bind: int) -> bytes:
    """A connection from its first octet to its last: right and wrong things in a row."""
    return b"".join(
        (
            pdu(ENQUIRE_LINK, 1),
            pdu(SUBMIT_SM, 2, submit_body()),
            pdu(bind, 3, bind_body("demo", "demo")),
            pdu(SUBMIT_SM, 4, submit_body(b"one")),
            pdu(SUBMIT_SM, 5, TOO_LONG),
            pdu(ENQUIRE_LINK, 6),
            pdu(QUERY_SM, 7, QUERY),
            pdu(0x0BAD, 8, b"what?"),
            pdu(SUBMIT_SM, 9, REFUSED),
            pdu(DELIVER_SM | RESP, 10, b"\0"),
            pdu(SUBMIT_SM, 11, b""),
            pdu(BIND_TRX, 12, bind_body("demo", "demo")),
            pdu(DATA_SM, 13, DATA),
            pdu(RESP, 14, b"", 3),
            pdu(SUBMIT_MULTI, 15, MULTI),
            pdu(DELIVER_SM, 16, submit_body()),
            pdu(0x80000BAD, 17, b"what?"),
            pdu(CANCEL_SM, 18, b"\0"),
            pdu(SUBMIT_SM, 0xFFFFFFFF, submit_body(b"", tlvs=b"\x04\x24\x00")),
            pdu(SUBMIT_SM, 0, submit_body(b"two")),
            pdu(UNBIND, 20),
            TOO_LATE,
        )
    )


def answers_of(bind: int, *, sends: bool) -> Answers:
    def sent(command_id: int, status: int) -> tuple[int, int]:
        return command_id | RESP, status if sends else BIND_ERROR

    return {
        1: (ENQUIRE_LINK | RESP, 0),
        2: (SUBMIT_SM | RESP, BIND_ERROR),
        3: (bind | RESP, 0),
        4: sent(SUBMIT_SM, 0),
        5: sent(SUBMIT_SM, 0x0A),
        6: (ENQUIRE_LINK | RESP, 0),
        7: sent(QUERY_SM, 0x0C),
        8: (RESP, 0x03),
        9: sent(SUBMIT_SM, 0x0B),
        11: sent(SUBMIT_SM, 0x02),
        12: (BIND_TRX | RESP, 0x05),
        13: sent(DATA_SM, 0),
        15: sent(SUBMIT_MULTI, 0),
        16: (DELIVER_SM | RESP, BIND_ERROR),
        18: sent(CANCEL_SM, 0x02),
        0xFFFFFFFF: sent(SUBMIT_SM, 0xC0),
        0: sent(SUBMIT_SM, 0),
        20: (UNBIND | RESP, 0),
    }


@pytest.mark.parametrize("bind", [BIND_TRX, BIND_TX, BIND_RX])
async def test_a_life_is_answered_alike_however_it_is_cut(database_url: str, bind: int) -> None:
    stream = life(bind)
    sends = bind != BIND_RX
    async with running_proxy(database_url, credits=100_000) as run:
        async with run.proxy.database.pool.acquire() as connection:
            await connection.execute("UPDATE account SET max_binds = $1", 2 * AT_ONCE)
        cuts = [[stream], *cuts_of(stream)]
        await try_all(run, cuts, answers_of(bind, sends=sends))
        # Each time two submits, a data_sm and a submit_multi to two were charged.
        assert await run.balance() == 100_000 - (5 * len(cuts) if sends else 0)
        texts = [submit.short_message for submit in run.smsc.submits]
        assert texts.count(b"one") == texts.count(b"two") == (len(cuts) if sends else 0)
        assert texts.count(b"too late") == 0
        await run.assert_books_balance()


async def test_a_length_that_cannot_be_ends_it_alike_however_it_is_cut(database_url: str) -> None:
    stream = (
        pdu(ENQUIRE_LINK, 1)
        + pdu(SUBMIT_SM, 2, submit_body())
        + pdu(0x0BAD, 3, b"\0" * 9)
        + b"\0\0\0\x0f" + pdu(SUBMIT_SM, 4)[4:]
        + pdu(ENQUIRE_LINK, 5)
    )  # fmt: skip
    expected = {
        1: (ENQUIRE_LINK | RESP, 0), 2: (SUBMIT_SM | RESP, 4), 3: (RESP, 3), 4: (RESP, 2),
    }  # fmt: skip
    async with running_proxy(database_url) as run:
        await try_all(run, [[stream], *cuts_of(stream)], expected)


async def over_a_socket(run: Running, pieces: list[bytes]) -> Answers:
    async with run.esme() as esme:
        for piece in pieces:
            esme.write(piece)
            await esme.drain()
            # The proxy runs on this loop too: it reads the piece before the next one is written.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await esme.wait(lambda: esme.closed, timeout_s=20)
        received: list[Received] = list(esme.received)
    return {one.sequence_number: (one.command_id, one.status) for one in received}


async def test_over_sockets_whole_and_octet_by_octet(database_url: str) -> None:
    stream = life(BIND_TRX).removesuffix(TOO_LATE)
    expected = answers_of(BIND_TRX, sends=True)
    async with running_proxy(database_url) as run:
        assert await over_a_socket(run, [stream]) == expected
        octets = [stream[at : at + 1] for at in range(len(stream))]
        assert await over_a_socket(run, octets) == expected
        pairs = [stream[at : at + 7] for at in range(0, len(stream), 7)]
        assert await over_a_socket(run, pairs) == expected
