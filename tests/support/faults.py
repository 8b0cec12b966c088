"""Proxies that are started and ended in unusual ways."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from support.esme import Esme
from support.running import upstream_settings

from proxy.app import Proxy
from proxy.config import (
    DatabaseSettings,
    DeliverySettings,
    HttpSettings,
    RetrySettings,
    Settings,
    SmppSettings,
    UpstreamSettings,
)
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions

ROOT = Path(__file__).parents[2]


def settings_for(
    database_url: str,
    upstreams: list[UpstreamSettings],
    *,
    database: dict[str, Any] | None = None,
    smpp: dict[str, Any] | None = None,
    delivery: dict[str, Any] | None = None,
    **sections: Any,
) -> Settings:
    """Settings of a proxy that listens where it may and waits only as long as tests can."""
    return Settings(
        database=DatabaseSettings(url=database_url, **(database or {})),
        smpp=SmppSettings(**{"port": 0, **(smpp or {})}),
        http=HttpSettings(enabled=False),
        delivery=DeliverySettings(**{"retry_min_s": 0.05, **(delivery or {})}),
        upstream=upstreams,
        # Added to every wait of the sweep.
        **{"retry": RetrySettings(patience_s=0.05, delay_s=0.01), **sections},
    )


@asynccontextmanager
async def carrier(**options: Any) -> AsyncIterator[SimulatedSmsc]:
    """A simulated carrier."""
    # What it refuses it refuses for good: nothing is tried again.
    final = {"receipt_delay_s": 0.0, "refuse_status": 0x45}
    smsc = SimulatedSmsc(SmscOptions(**{**final, **options}))
    await smsc.start()
    try:
        yield smsc
    finally:
        await smsc.stop()


@asynccontextmanager
async def proxy_on(
    database_url: str,
    *carriers: SimulatedSmsc,
    upstream: dict[str, Any] | None = None,
    **sections: Any,
) -> AsyncIterator[Proxy]:
    """A proxy in this process, stopped (drained) at the end unless it was abandoned."""
    upstreams = [
        upstream_settings(smsc, **{"name": f"carrier{number}", **(upstream or {})})
        for number, smsc in enumerate(carriers, 1)
    ]
    proxy = Proxy(settings_for(database_url, upstreams, **sections))
    try:
        await proxy.start()
        yield proxy
    finally:
        await proxy.stop()


def client_of(proxy: Proxy) -> Esme:
    """A client; use it with `async with`, then bind."""
    return Esme("127.0.0.1", proxy.server.port)


async def abandon(proxy: Proxy) -> None:
    """As kill -9 does: nothing is finished, nothing is said."""
    proxy._stopped = True  # its stop() has nothing left to do
    await proxy._lanes.cancel()
    await proxy.tasks.cancel()
    proxy.server.stop_listening()
    for session in list(proxy.server.connections):
        if session.transport is not None:
            session.transport.abort()
    for upstream in proxy.ways.upstreams.values():
        for link in list(upstream._links):
            if link.transport is not None:
                link.transport.abort()
    await proxy.presence.close()
    proxy.database.pool.terminate()


class ProxyProcess:
    """`python -m proxy run` with a configuration of its own."""

    def __init__(self, directory: Path, upstream: SimulatedSmsc, **database: str) -> None:
        self.config = directory / "proxy.toml"
        self.log = directory / "proxy.log"
        self.port = 0
        keys = "\n".join(f"{key} = {json.dumps(value)}" for key, value in database.items())
        self.config.write_text(
            f"[database]\n{keys}\n[smpp]\nport = 0\n[http]\nenabled = false\n"
            f'[[upstream]]\nname = "carrier1"\nhost = "127.0.0.1"\nport = {upstream.port}\n'
            'system_id = "proxy"\npassword = "proxy"\nwindow = 20\n'
            "reconnect_min_s = 0.05\nreconnect_max_s = 0.2\n"
        )
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The running one."""
        assert self._process is not None
        return self._process

    async def start(self, *, wait_until_ready: bool = True) -> None:
        """Returns when it accepts binds."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "proxy", "run", "--config", str(self.config)),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        if wait_until_ready:
            await self.ready()

    async def ready(self) -> None:
        """Waits for its line."""
        assert self.process.stdout is not None
        async with asyncio.timeout(40):
            line = (await self.process.stdout.readline()).decode()
        assert line.startswith("ready smpp="), (line, self.log.read_text())
        self.port = int(line.split()[1].rpartition(":")[2])

    def esme(self) -> Esme:
        """A client."""
        return Esme("127.0.0.1", self.port)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait; returns the exit status."""
        self.process.send_signal(number)
        async with asyncio.timeout(40):
            return await self.process.wait()

    async def __aenter__(self) -> ProxyProcess:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
