"""The ways to reach a carrier: bind types, several binds, rate, several carriers, TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import trustme
from support.esme import SUBMIT_SM, Esme, bind_body, pdu, submit_body
from support.running import running_proxy, upstream_settings
from support.waiting import eventually

from proxy.config import RouteSettings
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions


async def test_transmitter_and_receiver_binds(database_url: str) -> None:
    upstream = {"bind": "transmitter+receiver"}
    async with running_proxy(database_url, upstream=upstream) as run, run.esme() as esme:
        await eventually(lambda: len(run.smsc.bound) == 2)
        assert {kind for _, kind in run.smsc.bound} == {"transmitter", "receiver"}
        await esme.bind()
        assert (await esme.submit(registered_delivery=1)).status == 0
        await esme.wait(lambda: len(esme.deliveries) == 1)


async def test_several_binds_share_the_messages(database_url: str) -> None:
    async with running_proxy(database_url, upstream={"binds": 3}) as run, run.esme() as esme:
        await eventually(lambda: len(run.smsc.bound) == 3)
        await esme.bind()
        numbers = [esme.send(SUBMIT_SM, submit_body()) for _ in range(90)]
        for number in numbers:
            assert (await esme.response(number)).status == 0
        assert len(run.smsc.submits) == 90
        assert await run.balance() == 10


async def test_the_rate_is_kept_and_nothing_is_lost(database_url: str) -> None:
    async with running_proxy(database_url, upstream={"rate": 100}) as run, run.esme() as esme:
        await esme.bind()
        started = asyncio.get_running_loop().time()
        numbers = [esme.send(SUBMIT_SM, submit_body()) for _ in range(60)]
        for number in numbers:
            assert (await esme.response(number)).status == 0
        # 60 at 100 a second, of which a burst of 10 goes at once.
        assert asyncio.get_running_loop().time() - started >= 0.45


async def test_routes_choose_the_upstream_and_an_address_without_one_is_refused(
    database_url: str,
) -> None:
    other = SimulatedSmsc(SmscOptions())
    await other.start()
    try:
        routes = [RouteSettings(prefix="44", upstreams=["carrier"])]
        async with running_proxy(database_url, route=routes) as run, run.esme() as esme:
            await esme.bind()
            assert (await esme.submit(destination=b"447700900123")).status == 0
            assert (await esme.submit(destination=b"+447700900123")).status == 0
            assert (await esme.submit(destination=b"33600000000")).status == 0x0B
            assert await run.balance() == 98
    finally:
        await other.stop()


async def test_tls_on_both_sides(database_url: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(tmp_path / "cert.pem"), append=number > 0)

    # The carrier's TLS is a relay in front of the simulated one.
    smsc = SimulatedSmsc(SmscOptions())
    await smsc.start()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", smsc.port)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
            target.close()

        await asyncio.gather(
            copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True
        )

    front = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=server_context)
    with_tls = upstream_settings(
        smsc, port=front.sockets[0].getsockname()[1], tls=True, tls_ca=tmp_path / "ca.pem"
    )
    smpp = {"tls": {"port": 0, "certificate": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}}
    async with running_proxy(
        database_url, smsc=smsc, smpp=smpp, upstream=with_tls.model_dump(exclude_unset=True)
    ) as run:
        client_context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", run.proxy.server.tls_port, ssl=client_context
        )
        writer.write(pdu(0x09, 1, bind_body("demo", "demo")) + pdu(SUBMIT_SM, 2, submit_body()))
        for expected in (0x80000009, 0x80000004):
            header = await asyncio.wait_for(reader.readexactly(16), 10)
            assert int.from_bytes(header[4:8]) == expected
            assert int.from_bytes(header[8:12]) == 0
            await reader.readexactly(int.from_bytes(header[:4]) - 16)
        writer.close()
        assert len(smsc.submits) == 1
        plain = Esme("127.0.0.1", run.proxy.server.port)
        async with plain:
            assert (await plain.bind()).status == 0
    front.close()
    await smsc.stop()
