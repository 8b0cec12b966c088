"""The one place where the parts are put together: start, drain, stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

import structlog

from proxy.admin.context import Context
from proxy.admin.http import HttpServer
from proxy.config import ConfigError, Settings, load
from proxy.flow.balance import Balance
from proxy.flow.bind import Bind, Registry
from proxy.flow.charge import Charge
from proxy.flow.deliver import Deliver
from proxy.flow.failover import Failover
from proxy.flow.forward import Forward
from proxy.flow.grants import Grants
from proxy.flow.operate import Operate
from proxy.flow.queue import Queue
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
from proxy.links.webhook import WebhookClient
from proxy.store.database import Database
from proxy.store.events import EventLog
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.migrations import migrate
from proxy.store.nodes import DISCONNECT_CHANNEL, parse_disconnect
from proxy.store.presence import Presence
from proxy.telemetry import metrics
from proxy.telemetry.tasks import Tasks, wait_until
from proxy.ways import Ways, slowest_answer_s

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
        self.started = False
        self._stopped = False
        self._webhook: WebhookClient | None = None
        self.http: HttpServer | None = None
        self._http_context: Context | None = None
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
            self._http_context = self._context()
            self.http = HttpServer(self._http_context)
            self.http_port = await self.http.start()
        await wait_until(lambda: self.charge.up, READY_S)
        if self.ways.upstreams:
            await wait_until(
                lambda: self.ways.any_bound,
                READY_S if upstream_within_s is None else upstream_within_s,
            )
        self.started = True
        self.events.record("proxy_started", f"The proxy started as node {self._mint.node}")

    def _compose(self) -> None:
        s, record = self.settings, self.events.record
        connect, pool, mint = self.database.connect, self._pool, self._mint
        slowest_s = slowest_answer_s(s.upstream) + s.retry.patience_s
        self.retry = Retry(pool, self.tasks, record, s.status.in_doubt, answer_within_s=slowest_s)
        self.settle = Settle(connect, mint, s.status, self.retry, record)
        self.forward = Forward(self.settle.not_sent)
        self.queue = Queue(pool, connect, mint, s.queue, self.settle, self.forward, record)
        self.settle.queue = self.queue
        self.failover = Failover(s.retry, self.settle, self.forward, self.queue)
        self.refuser = Refuser(s.status, record)
        self._compose_charge()
        self._compose_deliver()
        self.ways = Ways(
            self.settle, self.failover, self.deliver, self.forward, self.queue, self.tasks, record
        )
        self.refresh = Refresh(pool, self._registry, self.deliver, self.ways.upstreams)
        self.bind = Bind(pool, self._registry, record, self.refresh.again)
        self._compose_beside(slowest_s)

    def _compose_charge(self) -> None:
        self.charge = Charge(
            self.database.connect,
            self._mint,
            self._registry,
            self.forward,
            self.settle,
            self.queue,
            self.retry,
            self.refuser,
            self.settings.status,
            self.events.record,
        )

    def _compose_deliver(self) -> None:
        connect, record = self.database.connect, self.events.record
        self.release = Release(connect, self._mint, record)
        self.deliver = Deliver(
            self._pool,
            connect,
            self._mint,
            self.settings.delivery,
            record,
            self.tasks,
            self.release,
            answers_settled=self.settle.answers_passed,
        )

    def _compose_beside(self, slowest_s: float) -> None:
        """What runs beside the way of messages."""
        s, pool, mint = self.settings, self._pool, self._mint
        self.presence = Presence(
            self.database.connect,
            mint,
            {
                "smpp_proxy_account": self.refresh.changed,
                "smpp_proxy_tariff": self.refresh.changed,
                "smpp_proxy_upstream": self.refresh.changed,
                "smpp_proxy_credit": self.refresh.credit_came,
                "smpp_proxy_delivery": self._delivery_queued,
                DISCONNECT_CHANNEL: self._disconnect,
            },
            doubtful=self._doubtful,
        )
        self.sweep = Sweep(
            pool,
            mint,
            self.deliver,
            self.release,
            s.in_doubt,
            s.delivery,
            self.events.record,
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
            "queue": self.queue.run(),
            "queue watch": self.queue.watch(),
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
        await self.ways.build(self.settings, self.database.pool)
        smpp = self.settings.smpp
        self.submit = Submit(
            self.charge,
            self.ways.routes,
            self.queue,
            self.refuser,
            self.retry,
            Balance(smpp.balance_address, self._pool, self._mint, self.deliver, self.tasks),
            queue_max=_QUEUE_MAX,
            record_event=self.events.record,
        )
        self.operate = Operate(self._pool, dict(self.ways.upstreams), self.queue)
        self.server = EsmeServer(
            self.settings.smpp, self.bind, self.submit, self.operate, self.deliver, self.tasks
        )
        self.ways.start()

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
            self.queue.lane,
            self.release.lane,
            self.deliver.keep_lane,
            self.deliver.end_lane,
        ]

    # ----------------------------------------------------------------- while it runs

    def readiness(self) -> dict[str, bool]:
        """What /readyz reports."""
        return {
            "database": self.charge.up,
            "upstream": self.ways.any_bound,
            "accepting": not self.submit.draining,
        }

    def reload(self) -> None:
        """Take the routes that the configuration file has now; all else needs a restart.

        What is wrong with the file is logged, and nothing changes.
        """
        try:
            new = load(self.settings.source)
            self.ways.set_routes(new)
        except ConfigError as error:
            log.error("not_reloaded", reason=str(error))
            return
        except KeyError as error:
            log.error("not_reloaded", reason=f"upstream {error} needs a restart")
            return
        self.submit.routes = self.ways.routes
        old = self.settings
        other = [key for key in type(new).model_fields if getattr(new, key) != getattr(old, key)]
        self.settings = old.model_copy(update={"route": new.route})
        if self._http_context is not None:
            self._http_context.settings = self.settings
        log.info("reloaded", routes=[route.name for route in self.ways.routes.routes])
        self.events.record("routes_reloaded", "The routes of the configuration were read again")
        if needs_restart := [key for key in other if key != "route"]:
            log.warning("restart_needed", sections=needs_restart)

    def _doubtful(self, counts: list[tuple[int, int]]) -> None:
        self.sweep.doubtful(counts)

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
            "upstreams": self.ways.statuses(),
        }

    async def _gauges(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _GAUGES_EVERY_S
            await asyncio.sleep(_GAUGES_EVERY_S)
            metrics.EVENT_LOOP_LAG_SECONDS.set(max(0.0, loop.time() - due))
            for lane in self._all_lanes():
                metrics.QUEUE_MESSAGES.labels(lane.name).set(lane.depth)
            metrics.QUEUE_MESSAGES.labels("upstream").set(self.ways.backlog)
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
        await self.queue.stop()
        self.failover.drain()
        await self.ways.stop(_DRAIN_S - 10)
        await self.settle.passed()
        await self.queue.close()
        await self.server.stop()
        await self.deliver.keep_lane.passed()
        await self.release.lane.passed()
        await self.deliver.end_lane.passed()
