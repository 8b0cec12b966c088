"""`run`: a proxy from its start to a signal, with the embedded default's carrier and account."""

from __future__ import annotations

import asyncio
import signal
import sys
from functools import partial

import structlog
import uvloop
from pydantic import SecretStr

from proxy.app import READY_S, Proxy
from proxy.config import Settings, UpstreamSettings
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions
from proxy.store import accounts, operators
from proxy.store.database import DatabaseUnreachable
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.migrations import MigrationError
from proxy.telemetry.logs import setup_logging

log = structlog.get_logger()


class SimulatedUpstream:
    """The carrier of the embedded default: a simulated one in this process, over loopback."""

    def __init__(self) -> None:
        self.smsc = SimulatedSmsc(SmscOptions(receipt_delay_s=0.5))

    async def start(self) -> UpstreamSettings:
        """Start it; returns how to reach it."""
        await self.smsc.start()
        return UpstreamSettings(
            name="simulated",
            host="127.0.0.1",
            port=self.smsc.port,
            system_id="proxy",
            password=SecretStr("proxy"),
        )


DEMO_ACCOUNT = "demo"
DEMO_CREDITS_MICRO = 100_000_000


async def _serve(settings: Settings, *, embedded_default: bool, tour: bool) -> int:
    loop = asyncio.get_running_loop()
    stop_asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, partial(_asked_to_stop, stop_asked, loop))
    simulated: SimulatedUpstream | None = None
    if embedded_default:
        simulated = SimulatedUpstream()
        settings = settings.model_copy(update={"upstream": [await simulated.start()]})
    proxy = Proxy(settings)
    if settings.source is not None:
        loop.add_signal_handler(signal.SIGHUP, _reload, proxy)
    starting = proxy.tasks.spawn(
        proxy.start(READY_S if embedded_default else 0.0), "start", awaited=True
    )
    stopping = proxy.tasks.spawn(stop_asked.wait(), "signal")
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return 0
        starting.result()
        if embedded_default:
            await _ensure_demo_account(proxy)
        _say_ready(proxy)
        if tour:
            proxy.tasks.spawn(_tour(proxy), "tour")
        else:
            await _say_set_up_link(proxy)
        await stopping
    except (OSError, MigrationError, DatabaseUnreachable) as error:
        print(f"smpp-proxy: cannot start: {error}", file=sys.stderr)
        return 1
    finally:
        await proxy.stop()
        if simulated is not None:
            await simulated.smsc.stop()
        log.info("stopped")
    return 0


def _asked_to_stop(stop_asked: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    if stop_asked.is_set():  # the second time: at once
        log.warning("stopped_at_once")
        for task in asyncio.all_tasks(loop):
            task.cancel()
    stop_asked.set()


def _reload(proxy: Proxy) -> None:
    if proxy.started:
        proxy.reload()


async def _tour(proxy: Proxy) -> None:
    from proxy.simulator.tour import walk  # noqa: PLC0415 - only here

    settings = proxy.settings
    # Its own lines tell what happens; of the log's only warnings belong between them.
    setup_logging(settings.logging.model_copy(update={"level": "warning"}))
    try:
        await walk(
            proxy.database,
            settings.smpp.host,
            proxy.server.port,
            settings.database.data_directory if settings.database.embedded else None,
        )
    finally:
        setup_logging(settings.logging)
        await _say_set_up_link(proxy)


async def _ensure_demo_account(proxy: Proxy) -> None:
    async with proxy.database.pool.acquire() as connection:
        await accounts.create(
            connection,
            DEMO_ACCOUNT,
            password=DEMO_ACCOUNT,
            credit_micro=DEMO_CREDITS_MICRO,
            by="smpp-proxy",
            mint=IdMint(COMMAND_NODE),
        )


def _say_ready(proxy: Proxy) -> None:
    s = proxy.settings
    tls = f" tls={s.smpp.host}:{proxy.server.tls_port}" if s.smpp.tls else ""
    http = f" http={s.http.host}:{proxy.http_port}" if proxy.http else ""
    print(f"ready smpp={s.smpp.host}:{proxy.server.port}{tls}{http}", flush=True)


async def _say_set_up_link(proxy: Proxy) -> None:
    """While nobody can sign in to the console, whoever reads this may make themselves known."""
    if proxy.http is None:
        return
    async with proxy.database.pool.acquire() as connection:
        token = await operators.setup_link(connection)
    if token is not None:
        host = proxy.settings.http.host
        if host in ("0.0.0.0", "::"):  # noqa: S104 - not listening here, only naming it
            host = "localhost"
        elif ":" in host:
            host = f"[{host}]"
        link = f"http://{host}:{proxy.http_port}/setup?token={token}"
        # Once, for a person: not in the log, which others read and keep.
        print(f"set up the console: {link}", file=sys.stderr, flush=True)


def run(settings: Settings, *, embedded_default: bool = False, tour: bool = False) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    setup_logging(settings.logging)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(settings, embedded_default=embedded_default, tour=tour))
        except asyncio.CancelledError:
            return 1
