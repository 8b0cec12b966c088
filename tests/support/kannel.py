"""A real Kannel (bearerbox and smsbox) as a client of the proxy."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from support.http_sink import HttpSink
from support.ports import free_ports
from support.waiting import eventually

_STOP_TIMEOUT_S = 5
_READY_TIMEOUT_S = 20

DLR_DELIVERED, DLR_SMSC_ACCEPTED, DLR_SMSC_REFUSED = 1, 8, 16
"""Kannel's types of delivery reports, which are also the bits of its dlr-mask."""

_CONFIG = """\
group = core
admin-port = {admin_port}
admin-interface = 127.0.0.1
admin-password = admin
admin-allow-ip = 127.0.0.1
smsbox-port = {smsbox_port}
smsbox-interface = 127.0.0.1
box-allow-ip = 127.0.0.1
dlr-storage = internal
sms-resend-freq = 1
log-level = 0

{links}
group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {sendsms_port}
sendsms-interface = 127.0.0.1
log-level = 0

group = sendsms-user
username = user
password = user
concatenation = true
max-messages = 10
user-allow-ip = 127.0.0.1

group = sms-service
keyword = default
catch-all = true
get-url = "{sink}/mo?from=%p&to=%P&text=%a"
accept-x-kannel-headers = true
omit-empty = true
"""


_LINK = """\
group = smsc
smsc = smpp
smsc-id = proxy
host = 127.0.0.1
{connection}
smsc-username = {account}
smsc-password = {account}
system-type = ""
reconnect-delay = 1
"""


def require_kannel() -> tuple[str, str]:
    """Where bearerbox and smsbox are; without them the test is skipped, and fails in CI."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    boxes = shutil.which("bearerbox", path=path), shutil.which("smsbox", path=path)
    if boxes[0] and boxes[1]:
        return boxes[0], boxes[1]
    missing = "bearerbox and smsbox are missing: install the Debian package kannel"
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@dataclass(frozen=True)
class KannelStatus:
    """What bearerbox says of itself at its admin port."""

    smsc_online: int
    smsboxes: int
    queued: int
    """Messages it keeps to send, also those that it will send again."""
    sent: int
    """Messages that the SMSC has accepted."""


class Kannel:
    """The running pair of boxes."""

    def __init__(self, http: httpx.AsyncClient, ports: list[int], sink: HttpSink) -> None:
        self._http = http
        self._admin_port, _, self._sendsms_port = ports
        self.sink = sink

    async def status(self) -> KannelStatus:
        """Ask bearerbox; raises httpx.HTTPError as long as it does not listen."""
        answer = await self._http.get(
            f"http://127.0.0.1:{self._admin_port}/status.xml", params={"password": "admin"}
        )
        root = ElementTree.fromstring(answer.text)
        states = [smsc.findtext("status", "") for smsc in root.iterfind("smscs/smsc")]
        boxes = [box.findtext("type", "") for box in root.iterfind("boxes/box")]
        return KannelStatus(
            smsc_online=sum(state.startswith("online") for state in states),
            smsboxes=boxes.count("smsbox"),
            queued=int(root.findtext("sms/sent/queued", "-1")),
            sent=int(root.findtext("sms/sent/total", "-1")),
        )

    async def ready(self, smsc_online: int = 1) -> bool:
        """Whether its SMSC links are bound and smsbox has found bearerbox and takes requests."""
        try:
            status = await self.status()
            await self._http.get(f"http://127.0.0.1:{self._sendsms_port}/")
        except httpx.HTTPError:
            return False
        return status.smsc_online == smsc_online and status.smsboxes == 1

    async def send(self, text: str, *, reference: str = "", **params: str) -> None:
        """Have it send a message, and report what becomes of it under a reference."""
        if reference:
            mask = DLR_DELIVERED | 2 | DLR_SMSC_ACCEPTED | DLR_SMSC_REFUSED
            report = f"/dlr?of={reference}&type=%d&smsc_message_id=%F&answer=%A"
            params |= {"dlr-mask": str(mask), "dlr-url": self.sink.url(report)}
        answer = await self._http.get(
            f"http://127.0.0.1:{self._sendsms_port}/cgi-bin/sendsms",
            params={
                "username": "user",
                "password": "user",
                "from": "12345",
                "to": "447700900123",
                "text": text,
                **params,
            },
        )
        assert answer.status_code == 202, answer.text

    def reports(self, reference: str) -> list[dict[str, str]]:
        """The reports so far of the message with that reference."""
        return [query for query in self.sink.of("/dlr") if query["of"] == reference]

    def report_types(self, reference: str) -> list[int]:
        """Their types, in order."""
        return [int(report["type"]) for report in self.reports(reference)]

    async def wait_for_report(self, reference: str, report_type: int) -> dict[str, str]:
        """The first report of that type."""
        await eventually(
            lambda: report_type in self.report_types(reference),
            what=f"no report {report_type} of {reference}: {self.reports(reference)}",
        )
        return next(r for r in self.reports(reference) if int(r["type"]) == report_type)


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Politely, smsbox first, then for certain."""
    try:
        for process in reversed(processes):
            process.terminate()
        for process in reversed(processes):
            process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in processes:
            process.kill()
            process.wait()


@asynccontextmanager
async def running_kannel(
    directory: Path,
    smpp_port: int,
    *,
    account: str = "demo",
    separate_links: bool = False,
    reply: str = "",
) -> AsyncIterator[Kannel]:
    """Kannel, bound to the proxy; both boxes are gone at the end in any case.

    Args:
        directory: for its configuration and logs.
        smpp_port: of the proxy.
        account: the system_id and password.
        separate_links: a transmitter and a receiver instead of a transceiver.
        reply: what the service that gets MO messages answers; empty: nothing.
    """
    bearerbox, smsbox = require_kannel()
    ports = free_ports(3)
    # One group is one link; a transmitter and a receiver are one SMSC by their common smsc-id.
    ways = [f"port = {smpp_port}\ntransceiver-mode = true"]
    if separate_links:
        ways = [f"port = {smpp_port}", f"receive-port = {smpp_port}"]
    links = "\n".join(_LINK.format(connection=way, account=account) for way in ways)
    config = directory / "kannel.conf"
    processes: list[subprocess.Popen[bytes]] = []
    log_path = directory / "kannel.log"
    async with HttpSink(reply) as sink, httpx.AsyncClient(trust_env=False) as http:
        config.write_text(
            _CONFIG.format(
                admin_port=ports[0],
                smsbox_port=ports[1],
                sendsms_port=ports[2],
                links=links,
                sink=sink.url(""),
            )
        )
        kannel = Kannel(http, ports, sink)
        try:
            with log_path.open("ab") as log:
                processes.append(_start(bearerbox, config, log.fileno()))
                await _wait(lambda: _listens(ports[1]), processes)
                processes.append(_start(smsbox, config, log.fileno()))
            await _wait(lambda: kannel.ready(smsc_online=len(ways)), processes)
            yield kannel
        except BaseException:
            print(log_path.read_text(errors="replace")[-20_000:])  # pytest shows it
            raise
        finally:
            # Until they have ended they may ask for what only this loop can answer (unbind).
            await asyncio.shield(asyncio.to_thread(_stop, processes))


def _start(program: str, config: Path, log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [program, "-v", "0", str(config)],
        cwd=config.parent,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )


async def _wait(
    is_ready: Callable[[], Awaitable[bool]], processes: list[subprocess.Popen[bytes]]
) -> None:
    """Until it is, or a box has ended, which fails at once."""

    async def ready_or_dead() -> bool:
        return any(p.poll() is not None for p in processes) or await is_ready()

    await eventually(ready_or_dead, timeout_s=_READY_TIMEOUT_S, what="Kannel is not ready")
    assert all(p.poll() is None for p in processes), "Kannel has ended: its log says why"


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
