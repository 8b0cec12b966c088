"""The one place where the parts are put together: start, drain, stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import structlog
import uvloop
from pydantic import SecretStr

from proxy.admin.http import HttpServer
from proxy.config import Settings, UpstreamSettings
from proxy.flow.bind import Bind, Registry
from proxy.flow.charge import Charge
from proxy.flow.deliver import Deliver
from proxy.flow.forward import Forward
from proxy.flow.message import Upstream
from proxy.flow.operate import Operate
from proxy.flow.settle import Settle
from proxy.flow.submit import Submit
from proxy.flow.sweep import Sweep
from proxy.links.esme_listener import EsmeServer
from proxy.links.smsc_upstream import SmscUpstream
from proxy.routing.inbound import InboundTable
from proxy.routing.table import RouteTable
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions
from proxy.store import accounts
from proxy.store.database import UNREACHABLE, Database, DatabaseUnreachable
from proxy.store.events import EventLog
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.migrations import MigrationError, migrate
from proxy.store.presence import Presence
from proxy.telemetry import metrics
from proxy.telemetry.logs import setup_logging
from proxy.telemetry.tasks import Tasks, wait_until

log = structlog.get_logger()

_QUEUE_MAX = 20_000
"""Messages that may wait for their charge, over all sessions."""
_DRAIN_S = 35.0
_READY_S = 10.0
_GAUGES_EVERY_S = 1.0
_REFRESH_EVERY_S = 10.0


class Proxy:
    """A running proxy.  `start` returns when it accepts binds; `stop` when everything is out."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tasks = Tasks()
        self.database = Database(settings.database)
        self.events = EventLog(self.database, account_name=self._account_name)
        self._lanes = Tasks()
        self._mint = IdMint(COMMAND_NODE)
        self._registry = Registry()
        self._upstreams: dict[int, SmscUpstream] = {}
        self._accounts_changed = asyncio.Event()
        self._stopped = False
        self.http: HttpServer | None = None
        self.http_port = 0

    async def start(self, upstream_within_s: float | None = None) -> None:
        """Raises OSError when a port is taken; waits as long as the database is away.

        For a bound upstream it waits only so long: that may take hours, and is no promise.
        """
        await self.database.open(wait=True)
        async with self.database.pool.acquire() as connection:
            await migrate(connection)
            await connection.execute("SELECT ensure_partitions()")
        self._compose()
        await self.presence.take_node()
        await self._reload_inbound()
        for lane in self._all_lanes():
            self._lanes.spawn(lane.run(), f"lane {lane.name}")
        self._lanes.spawn(self.events.run(), "events")
        await self._connect_upstreams()
        self.tasks.spawn(self.sweep.run(), "sweep")
        self.tasks.spawn(self.presence.run(self._accounts_changed.set), "presence")
        self.tasks.spawn(self._gauges(), "gauges")
        self.tasks.spawn(self._refresh(), "refresh accounts")
        await self.server.start()
        if self.settings.http.enabled:
            self.http = HttpServer(self.settings.http, self.readiness)
            self.http_port = await self.http.start()
        await wait_until(lambda: self.charge.up, _READY_S)
        if self._upstreams:
            await wait_until(
                lambda: any(u.bound for u in self._upstreams.values()),
                _READY_S if upstream_within_s is None else upstream_within_s,
            )
        self.events.record("proxy_started", f"The proxy started as node {self._mint.node}")

    def _compose(self) -> None:
        s, record = self.settings, self.events.record
        connect = self.database.connect
        self.settle = Settle(connect, self._mint, s.status, record)
        self.forward = Forward(self.settle.not_sent)
        self.charge = Charge(connect, self._mint, self.forward, self.settle, s.status, record)
        self.deliver = Deliver(
            self._pool,
            connect,
            self._mint,
            s.delivery,
            record,
            self.tasks,
            answers_settled=self.settle.lane.passed,
        )
        self.bind = Bind(self._pool, self._registry, record)
        self.presence = Presence(
            connect,
            self._mint,
            {
                "smpp_proxy_account": self._account_changed,
                "smpp_proxy_delivery": self._delivery_queued,
            },
        )
        # A message waits for a window slot as long as for its answer, at most.
        slowest_s = max((2 * u.response_timeout_s for u in s.upstream), default=0.0)
        self.sweep = Sweep(
            self._pool,
            self._mint,
            self.deliver,
            s.in_doubt,
            s.delivery,
            record,
            answer_within_s=slowest_s,
        )

    async def _connect_upstreams(self) -> None:
        by_name: dict[str, Upstream] = {}
        for settings in self.settings.upstream:
            upstream_id = await self.database.pool.fetchval(
                "INSERT INTO upstream (name) VALUES ($1) ON CONFLICT (name)"
                " DO UPDATE SET name = excluded.name RETURNING id",
                settings.name,
            )
            upstream = SmscUpstream(
                settings, upstream_id, self.settle, self.deliver, self.tasks, self.events.record
            )
            upstream.forward = self.forward
            self._upstreams[upstream_id] = by_name[settings.name] = upstream
        routes: RouteTable[Upstream] = RouteTable(
            [(r.prefix, [by_name[name] for name in r.upstreams]) for r in self.settings.route],
            list(by_name.values()),
        )
        self.submit = Submit(
            self.charge,
            routes,
            self.settings.status,
            queue_max=_QUEUE_MAX,
            record_event=self.events.record,
        )
        self.operate = Operate(self._pool, dict(self._upstreams))
        self.server = EsmeServer(
            self.settings.smpp, self.bind, self.submit, self.operate, self.deliver, self.tasks
        )
        for upstream in self._upstreams.values():
            upstream.start()

    def _account_name(self, account_id: int) -> str | None:
        account = self._registry.accounts.get(account_id)
        return account.name if account is not None else None

    def _pool(self) -> Any:
        return self.database.pool

    def _all_lanes(self) -> list[Any]:
        return [
            self.charge.lane,
            self.settle.lane,
            self.settle.release_lane,
            self.deliver.keep_lane,
            self.deliver.end_lane,
        ]

    # ----------------------------------------------------------------- while it runs

    def readiness(self) -> dict[str, bool]:
        """What /readyz reports."""
        return {
            "database": self.charge.up,
            "upstream": any(u.bound for u in self._upstreams.values()),
            "accepting": not self.submit.draining,
        }

    def _account_changed(self, _payload: str) -> None:
        self._accounts_changed.set()

    def _delivery_queued(self, payload: str) -> None:
        if payload.isdigit():
            self.deliver.waiting_in_database(int(payload))

    async def _refresh(self) -> None:
        """Bring what is remembered of accounts up to date: when told, and now and then anyhow.

        One at a time, so that an older answer never overwrites a newer one.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_EVERY_S):
                    await self._accounts_changed.wait()
            self._accounts_changed.clear()
            try:
                await self._registry.refresh(self.database.pool, list(self._registry.accounts))
                await self._reload_inbound()
            except UNREACHABLE as error:
                log.warning("accounts_not_refreshed", reason=str(error) or repr(error))

    async def _reload_inbound(self) -> None:
        self.deliver.inbound = InboundTable(await accounts.all_inbound(self.database.pool))

    async def _gauges(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _GAUGES_EVERY_S
            await asyncio.sleep(_GAUGES_EVERY_S)
            metrics.EVENT_LOOP_LAG_SECONDS.set(max(0.0, loop.time() - due))
            for lane in self._all_lanes():
                metrics.QUEUE_MESSAGES.labels(lane.name).set(lane.depth)
            backlog = sum(upstream.backlog for upstream in self._upstreams.values())
            metrics.QUEUE_MESSAGES.labels("upstream").set(backlog)
            metrics.HELD_CREDITS.set(self.settle.held_micro / 1e6)

    # ------------------------------------------------------------------------ leaving

    async def stop(self) -> None:
        """Drain: no new binds or submits, open answers are awaited, everything is committed."""
        if self._stopped:
            return
        self._stopped = True
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.database.close)
            stack.push_async_callback(self._lanes.cancel)
            stack.push_async_callback(self.tasks.cancel)
            if not hasattr(self, "server"):
                return
            self.submit.draining = True
            self.server.stop_listening()
            self.events.record("proxy_stopping", f"The proxy of node {self._mint.node} stops")
            log.info(
                "draining",
                open_requests=self._open_requests(),
                clients=len(self.server.connections),
                note="SIGTERM or Ctrl-C again stops at once",
            )
            stack.push_async_callback(self.presence.close)
            if self.http is not None:
                stack.push_async_callback(self.http.stop)
            stack.push_async_callback(self.events.close)
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    await self._drain()

    def _open_requests(self) -> int:
        return sum(connection.open_requests for connection in self.server.connections)

    async def _drain(self) -> None:
        await self.charge.lane.passed()
        await asyncio.gather(*(u.stop(_DRAIN_S - 10) for u in self._upstreams.values()))
        await self.settle.passed()
        await self.server.stop()
        await self.deliver.keep_lane.passed()
        await self.deliver.end_lane.passed()


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
    starting = proxy.tasks.spawn(
        proxy.start(_READY_S if embedded_default else 0.0), "start", awaited=True
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


def run(settings: Settings, *, embedded_default: bool = False, tour: bool = False) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    setup_logging(settings.logging)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(settings, embedded_default=embedded_default, tour=tour))
        except asyncio.CancelledError:
            return 1
