"""The small client, against the simulated carrier and a server that does odder things."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.simulator import client, smsc_octets
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions
from proxy.smpp import vocabulary as smpp


@pytest.fixture
async def smsc() -> AsyncIterator[SimulatedSmsc]:
    carrier = SimulatedSmsc(SmscOptions(receipt_delay_s=0.0))
    await carrier.start()
    yield carrier
    await carrier.stop()


def to(smsc: SimulatedSmsc, text: str = "hello", **options: Any) -> Awaitable[Any]:
    fields = {"source": "SHOP", "destination": "+38591", "text": text, **options}
    return client.send("127.0.0.1", smsc.port, "shop", "secret", **fields)


async def test_client_sends_and_awaits_receipts(
    smsc: SimulatedSmsc, capfd: pytest.CaptureFixture[str]
) -> None:
    [result] = await to(smsc, wait_receipt_s=10.0)
    assert result == client.SendResult(0, smsc.submits[0].smsc_message_id, "DELIVRD")
    smsc.options.fail_rate = 1.0
    [result] = await to(smsc, wait_receipt_s=10.0)
    assert result.receipt == "UNDELIV"
    [result] = await to(smsc)
    assert (result.status, result.receipt) == (0, None)
    assert smsc.pdus["deliver_sm_resp"] == 2
    assert smsc.pdus["unbind"] == 3
    assert not smsc.bound
    assert smsc.submits[0].destination_addrs == ["38591"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("a" * 160, [160]),
        ("a" * 161, [6 + 153, 6 + 8]),
        ("a" * 159 + "€", [6 + 153, 6 + 8]),
        ("a" * 152 + "€" * 10, [6 + 152, 6 + 20]),
        ("ш" * 70, [140]),
        ("ш" * 71, [6 + 134, 6 + 8]),
        ("ш" * 66 + "😀" * 3, [6 + 132, 6 + 12]),
    ],
    ids=["160", "161", "euro makes 161", "escapes stay whole", "ucs2", "ucs2 71", "surrogates"],
)
async def test_client_splits_long_texts(smsc: SimulatedSmsc, text: str, sizes: list[int]) -> None:
    results = await to(smsc, text, wait_receipt_s=10.0)
    assert [r.receipt for r in results] == ["DELIVRD"] * len(sizes)
    assert [r.message_id for r in results] == [s.smsc_message_id for s in smsc.submits]
    parts = [s.short_message for s in smsc.submits]
    assert [len(part) for part in parts] == sizes
    if len(parts) > 1:
        assert len({part[3] for part in parts}) == 1
        for at, part in enumerate(parts, start=1):
            assert (part[:3], part[4:6]) == (b"\x05\0\x03", bytes((len(parts), at)))


async def test_client_reports_refusals_also_unlisted_ones(smsc: SimulatedSmsc) -> None:
    smsc.options.refuse_rate = 1.0
    for status in (smpp.ESME_RSUBMITFAIL, 0x040B):
        smsc.options.refuse_status = status
        results = await to(smsc, "a" * 200, wait_receipt_s=10.0)
        assert results == [client.SendResult(status, "", None)] * 2


async def test_client_reports_a_refused_bind_at_once(smsc: SimulatedSmsc) -> None:
    smsc.options.password = "right"
    async with asyncio.timeout(5.0):
        with pytest.raises(client.BindRefused) as refused:
            await to(smsc)
    assert refused.value.status == smpp.ESME_RINVPASWD


async def test_client_reports_a_refused_connection_at_once(smsc: SimulatedSmsc) -> None:
    await smsc.pause_listening()
    async with asyncio.timeout(5.0):
        with pytest.raises(ConnectionError):
            await to(smsc)
        with pytest.raises(ConnectionError):
            await client.send(
                "localhost", smsc.port, "a", "b", source="A", destination="1", text="x"
            )


async def test_client_gives_up_on_silence(smsc: SimulatedSmsc) -> None:
    smsc.options.silence_rate = 1.0
    with pytest.raises(TimeoutError):
        await to(smsc, timeout_s=0.3)
    assert smsc.pdus["unbind"] == 1


async def test_client_notices_a_lost_link(smsc: SimulatedSmsc) -> None:
    smsc.hold = True
    sending = asyncio.ensure_future(to(smsc))
    await smsc.wait_for(lambda s: bool(s.submits))
    smsc.drop_connections()
    with pytest.raises(ConnectionError):
        await sending


@dataclass
class Script:
    """A server that answers each PDU as told; for what the simulated carrier never does."""

    answer: Callable[[int, int], bytes]
    seen: list[tuple[int, int]] = field(default_factory=list)
    """The command_id and command_status of each PDU received."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(16)
                length, command_id, status, sequence = struct.unpack(">IIII", head)
                await reader.readexactly(length - 16)
                self.seen.append((command_id, status))
                writer.write(self.answer(command_id, sequence))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def test_client_survives_what_its_library_does_not() -> None:
    """A data_sm, an unlisted TLV, a receipt with seconds, and a bind_resp of ESME_RALYBND."""
    receipt = smsc_octets.deliver_body(
        smsc_octets.Address(9, 9, "\xe9"),
        smsc_octets.Address(5, 0, "SHOP"),
        b"id:7 done date:260101120000 stat:DELIVRD err:A1F",
        esm_class=smpp.ESM_RECEIPT,
        data_coding=0xF1,
        tlvs=smsc_octets.tlv(0x1400, b"\xff"),
    )

    def answer(command_id: int, sequence: int) -> bytes:
        response = smsc_octets.build(command_id | smpp.RESP, 0, sequence, b"7\0")
        if command_id == smpp.SUBMIT_SM:
            response += smsc_octets.build(smpp.DATA_SM, 0, 1)
            response += smsc_octets.build(smpp.DELIVER_SM, 0, 2, receipt)
        return b"" if command_id & smpp.RESP else response

    script = Script(answer)
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        fields = {"source": "SHOP", "destination": "1", "text": "x"}
        sent = await client.send("127.0.0.1", port, "shop", "", wait_receipt_s=10.0, **fields)
        assert sent == [client.SendResult(0, "7", "DELIVRD")]
        assert (smpp.GENERIC_NACK, smpp.ESME_RINVCMDID) in script.seen
        assert (smpp.DELIVER_SM_RESP, 0) in script.seen

        script.answer = lambda command_id, sequence: smsc_octets.build(
            command_id | smpp.RESP, smpp.ESME_RALYBND, sequence, b"\0"
        )
        with pytest.raises(client.BindRefused) as refused:
            await client.send("127.0.0.1", port, "shop", "", **fields)
        assert refused.value.status == smpp.ESME_RALYBND
