"""The one place where the parts are put together: start, drain, stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

import structlog

from proxy.admin.context import Context
from proxy.admin.http import HttpServer
from proxy.config import Settings
from proxy.flow.balance import Balance
from proxy.flow.bind import Bind, Registry
from proxy.flow.charge import Charge
from proxy.flow.deliver import Deliver
from proxy.flow.forward import Forward
from proxy.flow.grants import Grants
from proxy.flow.message import Upstream
from proxy.flow.operate import Operate
from proxy.flow.refresh import Refresh
from proxy.flow.refusals import Refuser
from proxy.flow.release import Release
from proxy.flow.report import Report
from proxy.flow.retry import Retry
from proxy.flow.seal import Seal
from proxy.flow.settle import Settle
from proxy.flow.submit import Submit
from proxy.flow.sweep import Sweep
from proxy.flow.warn import Warn
from proxy.flow.webhooks import Webhooks
from proxy.links.esme_listener import EsmeServer
from proxy.links.smsc_upstream import SmscUpstream
from proxy.links.webhook import WebhookClient
from proxy.routing.table import RouteTable
from proxy.store.database import Database
from proxy.store.events import EventLog
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.migrations import migrate
from proxy.store.nodes import DISCONNECT_CHANNEL, parse_disconnect
from proxy.store.presence import Presence
from proxy.telemetry import metrics
from proxy.telemetry.tasks import Tasks, wait_until

log = structlog.get_logger()

_QUEUE_MAX = 20_000
"""Messages that may wait for their charge, over all sessions."""
_DRAIN_S = 35.0
READY_S = 10.0
_GAUGES_EVERY_S = 1.0


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
        self._stopped = False
        self._webhook: WebhookClient | None = None
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
        for lane in self._all_lanes():
            self._lanes.spawn(lane.run(), f"lane {lane.name}")
        self._lanes.spawn(self.events.run(), "events")
        await self._connect_upstreams()
        await self.refresh.once()
        for name, job in self._jobs().items():
            self.tasks.spawn(job, name)
        await self.server.start()
        if self.settings.http.enabled:
            self.http = HttpServer(self._context())
            self.http_port = await self.http.start()
        await wait_until(lambda: self.charge.up, READY_S)
        if self._upstreams:
            await wait_until(
                lambda: any(u.bound for u in self._upstreams.values()),
                READY_S if upstream_within_s is None else upstream_within_s,
            )
        self.events.record("proxy_started", f"The proxy started as node {self._mint.node}")

    def _compose(self) -> None:
        s, record = self.settings, self.events.record
        connect, pool, mint = self.database.connect, self._pool, self._mint
        # A message waits for a window slot as long as for its answer, at most.
        slowest_s = max((2 * u.response_timeout_s for u in s.upstream), default=0.0)
        self.retry = Retry(pool, self.tasks, record, s.status.in_doubt, answer_within_s=slowest_s)
        self.settle = Settle(connect, mint, s.status, self.retry, record)
        self.forward = Forward(self.settle.not_sent)
        self.refuser = Refuser(s.status, record)
        self.charge = Charge(
            connect,
            mint,
            self._registry,
            self.forward,
            self.settle,
            self.retry,
            self.refuser,
            s.status,
            record,
        )
        self.release = Release(connect, mint, record)
        self.deliver = Deliver(
            pool,
            connect,
            mint,
            s.delivery,
            record,
            self.tasks,
            self.release,
            answers_settled=self.settle.lane.passed,
        )
        self.refresh = Refresh(pool, self._registry, self.deliver, self._upstreams)
        self.bind = Bind(pool, self._registry, record, self.refresh.again)
        self.presence = Presence(
            connect,
            mint,
            {
                "smpp_proxy_account": self.refresh.changed,
                "smpp_proxy_tariff": self.refresh.changed,
                "smpp_proxy_upstream": self.refresh.changed,
                "smpp_proxy_credit": self.refresh.credit_came,
                "smpp_proxy_delivery": self._delivery_queued,
                DISCONNECT_CHANNEL: self._disconnect,
            },
        )
        self.sweep = Sweep(
            pool,
            mint,
            self.deliver,
            self.release,
            s.in_doubt,
            s.delivery,
            record,
            answer_within_s=slowest_s,
        )
        self.report = Report(pool, lambda: mint.node, self._status)

    def _jobs(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs beside the way of messages, by name."""
        s, pool = self.settings, self._pool
        jobs = {
            "sweep": self.sweep.run(),
            "presence": self.presence.run(self.refresh.changed),
            "gauges": self._gauges(),
            "refresh": self.refresh.run(),
            "recheck": self.refresh.recheck(),
            "retry": self.retry.run(),
            "grants": Grants(pool, self._mint).run(),
            "warn": Warn(pool, webhooks=s.webhook.url is not None).run(),
            "seal": Seal(pool).run(),
            "report": self.report.run(),
        }
        if s.webhook.url is not None:
            self._webhook = WebhookClient(s.webhook)
            webhooks = Webhooks(pool, self._webhook.send, timeout_s=s.webhook.timeout_s)
            jobs["webhooks"] = webhooks.run()
        return jobs

    def _context(self) -> Context:
        return Context(
            pool=self._pool,
            mint=IdMint(COMMAND_NODE),
            settings=self.settings,
            readiness=self.readiness,
            record_event=self.events.record,
            node=lambda: self._mint.node,
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
        smpp = self.settings.smpp
        self.submit = Submit(
            self.charge,
            routes,
            self.refuser,
            self.retry,
            Balance(smpp.balance_address, self._pool, self._mint, self.deliver, self.tasks),
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
            self.release.lane,
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

    def _disconnect(self, payload: str) -> None:
        node, number = parse_disconnect(payload) or (0, 0)
        if node == self._mint.node:
            for connection in self.server.connections:
                if connection.number == number:
                    connection.unbind("an operator ended the session")
                    return

    def _delivery_queued(self, payload: str) -> None:
        if payload.isdigit():
            self.deliver.waiting_in_database(int(payload))

    def _status(self) -> dict[str, Any]:
        """What this proxy tells of itself to the others, in the form of proxy.store.nodes."""
        return {
            "sessions": [
                {
                    "id": session.number,
                    "account": session.account.name,
                    "system_id": session.system_id,
                    "bind_type": session.bind_type,
                    "peer": session.peer_address,
                    "bound_at": session.bound_at.isoformat(),
                    "open_requests": session.open_requests,
                }
                for session in self.server.connections
                if session.bind_type
            ],
            "upstreams": [upstream.status() for upstream in self._upstreams.values()],
        }

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
            if self._webhook is not None:
                stack.push_async_callback(self._webhook.close)
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
            stack.push_async_callback(self.report.close)
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
        await self.release.lane.passed()
        await self.deliver.end_lane.passed()
