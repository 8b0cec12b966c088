"""The backlog of a modem, and the task that sends it: what becomes of each message is told once."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

from proxy.config import ModemSettings
from proxy.flow.failover import Failover
from proxy.flow.forward import Forward
from proxy.flow.message import Message, Upstream
from proxy.flow.settle import Settle
from proxy.links.modem_inbox import Inbox
from proxy.links.modem_limits import SimLimits
from proxy.links.modem_link import ModemLink, ModemLost, Unanswered
from proxy.links.modem_reports import Reports
from proxy.links.modem_send import LATE_S, Answer, Doubt, Job, Sender
from proxy.routing.health import Health
from proxy.routing.status_rules import ABOUT_CARRIER
from proxy.routing.throttle import Throttle
from proxy.smpp import vocabulary as smpp
from proxy.smpp.address_rules import AddressRules
from proxy.smpp.pdu import PduError
from proxy.telemetry import metrics
from proxy.telemetry.tasks import wait_until

log = structlog.get_logger()

JOB_S = 900.0
"""Parts of one message that are not sent by then are not sent at all."""
_SLOW_PARTS = 40
"""With a rate: the time that so many parts take comes on top of it."""
_REFUSALS_MAX = 5
"""So many refusals in a row that speak about the modem: it is started anew."""
_END_S = 1.0


def job_max_s(settings: ModemSettings) -> float:
    """How long the parts of one message may take."""
    return JOB_S + (_SLOW_PARTS / settings.rate if settings.rate else 0.0)


def answer_within_s(settings: ModemSettings) -> float:
    """How long a modem may have a message until its outcome is known, at most.

    It waits as long as for an answer, then its parts are sent; the last one has time too.
    """
    waits_s = 2 * settings.answer_timeout_s + settings.command_timeout_s
    return waits_s + LATE_S + job_max_s(settings)


class ModemSide(Upstream, Protocol):
    """What the worker needs of its upstream."""

    forward: Forward | None

    @property
    def sending_link(self) -> ModemLink | None:
        """The modem, when it may send now."""

    def trouble(self) -> None:
        """A message failed for a reason that may be the network's."""


class Worker:
    """Sends one message at a time."""

    def __init__(
        self,
        settings: ModemSettings,
        upstream: ModemSide,
        settle: Settle,
        failover: Failover,
        reports: Reports,
        inbox: Inbox,
        limits: SimLimits,
        health: Health,
        on_room: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._upstream = upstream
        self._settle = settle
        self._failover = failover
        self._reports = reports
        self._inbox = inbox
        self._limits = limits
        self._health = health
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self.backlog: deque[Job] = deque()
        self.job: Job | None = None
        """What is being sent."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._references = random.randrange(256)  # noqa: S311 - no secret
        self._throttle = Throttle(settings.rate, self._loop.time(), 1.0) if settings.rate else None
        self._rules = AddressRules(settings.address)
        self._sender = Sender(settings, reports, self._pace, self._written, self._doubtful)
        self._short_messages = metrics.MODEM_SHORT_MESSAGES.labels(settings.name)

    def send(self, messages: list[Message]) -> None:
        """One after the other; the rest waits."""
        deadline = self._loop.time() + self._settings.answer_timeout_s
        for message in messages:
            message.waits_until = message.waits_until or deadline
        self.backlog.extend(Job(message) for message in messages)
        self.wake()

    def wake(self) -> None:
        """It may be able to send again."""
        self._wake.set()

    def started_anew(self) -> None:
        """What went wrong before the modem was started is forgotten."""
        self._sender.refusals = 0
        self.wake()

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.backlog and (link := self._upstream.sending_link) is not None:
                self.job = job = self.backlog.popleft()
                try:
                    await self._send(link, job)
                except asyncio.CancelledError:
                    if job.in_flight:
                        self._doubtful(job, "the proxy stopped before the modem answered")
                    elif not job.in_doubt:
                        self.backlog.appendleft(job)
                    raise
                except Exception:
                    log.exception("modem_send_failed", upstream=self._settings.name)
                    self._failed(job)
                finally:
                    self.job = None
                self._on_room()

    # ------------------------------------------------------------------------ one message

    async def _send(self, link: ModemLink, job: Job) -> None:
        began = self._loop.time()
        try:
            if not self._begins(job):
                return
            done = await self._sender.send(link, job)
        except PduError as error:
            self._answer(job, Answer(error.status))
        except Unanswered as error:
            now = self._loop.time()
            self._health.answered(0, 0, 1, now - began, now)
            self._doubtful(job, str(error))
        except ModemLost:
            if not job.in_doubt:
                # Not written: it is the first when the modem is back.
                self.backlog.appendleft(job)
        else:
            if isinstance(done, Doubt):
                self._doubtful(job, done.reason)
                self._upstream.trouble()
            else:
                self._judge(done, self._loop.time() - began, link)
                self._answer(job, done)

    def _begins(self, job: Job) -> bool:
        """Whether it may go out now; if not, its answer is given.  Raises PduError."""
        if job.legs is None:
            job.prepare(self._settings, self._rules, self._new_reference)
            job.until = self._loop.time() + job_max_s(self._settings)
        number, left = job.parts_left(), self._limits.left(time.time())
        if left is not None and number > left and not job.touched:
            # Half a message is of no use to anybody: it waits for more room, or goes elsewhere.
            passing = self._limits.ever(number)
            self._answer(job, Answer(smpp.ESME_RMSGQFUL if passing else smpp.ESME_RSUBMITFAIL))
            return False
        return True

    def _new_reference(self) -> int:
        self._references = (self._references + 1) % 256
        return self._references

    async def _pace(self, link: ModemLink) -> None:
        """Until the rate lets another part through.  Raises ModemLost."""
        throttle = self._throttle
        while throttle is not None and throttle.available(self._loop.time()) < 1:
            await asyncio.wait((link.gone,), timeout=max(throttle.wait_s(), 0.001))
            if link.gone.done():
                raise ModemLost(link.gone.result())
        if throttle is not None:
            throttle.take(1)

    def _written(self) -> None:
        self._limits.count(time.time())
        self._short_messages.inc()

    def _judge(self, answer: Answer, seconds: float, link: ModemLink) -> None:
        """What an answer says about the modem."""
        failed = answer.status in ABOUT_CARRIER
        self._health.answered(int(not failed), int(failed), 0, seconds, self._loop.time())
        if failed:
            self._upstream.trouble()
        if self._sender.refusals >= _REFUSALS_MAX:
            link.lose(f"{_REFUSALS_MAX} messages were refused in a row")

    def _answer(self, job: Job, answer: Answer) -> None:
        if answer.status == smpp.ESME_ROK:
            for body in job.receipts(self._reports):
                self._inbox.receipt(body)
        answers = [(job.message, answer.status, answer.body)]
        if answer.status != smpp.ESME_ROK and job.touched:
            # No rule of an operator's may send again what is half sent.
            self._settle.answered(self._upstream, answers, late=job.in_doubt)
        else:
            self._failover.answered(self._upstream, answers, late=job.in_doubt)

    def _doubtful(self, job: Job, reason: str) -> None:
        """Once for each message."""
        if not job.in_doubt:
            job.in_doubt = True
            self._settle.doubtful(self._upstream, [job.message], reason)

    def _failed(self, job: Job) -> None:
        """A mistake of ours must not lose a message, nor send it twice."""
        if job.touched or job.in_flight:
            self._doubtful(job, "the proxy failed while it was sent")
        elif not job.in_doubt:
            self._answer(job, Answer(smpp.ESME_RSUBMITFAIL))

    # ------------------------------------------------------------------------ giving back

    def look(self, now: float) -> None:
        """What has waited too long goes back; a message that was begun has more time."""
        stale = [
            job
            for job in self.backlog
            if (job.until if job.touched else job.message.waits_until) <= now
        ]
        if not stale:
            return
        self.backlog = deque(job for job in self.backlog if job not in stale)
        for job in stale:
            if job.touched:
                self._answer(job, job.answer())
            else:
                reason = f"upstream {self._settings.name} had no room in time"
                self._settle.not_sent_in_time([job.message], reason)

    def give_back(self) -> None:
        """The modem stays away: whatever is not begun goes to another upstream."""
        jobs, self.backlog = list(self.backlog), deque()
        untouched = []
        for job in jobs:
            if job.touched:
                # Some parts are out: what is left is refused, and nothing is sent again.
                self._answer(job, job.answer())
            else:
                untouched.append(job.message)
        if untouched and self._upstream.forward is not None:
            self._upstream.forward.send(untouched)
        elif untouched:
            reason = f"upstream {self._settings.name} is down"
            self._settle.not_sent(untouched, reason)

    def start(self, spawn: Callable[..., asyncio.Task[None]]) -> None:
        """Begin to send; `spawn` makes the task."""
        self._task = spawn(self.run(), f"modem {self._settings.name}")

    async def finish(self, patience_s: float) -> None:
        """Send what can be sent in time."""

        def nothing_to_do() -> bool:
            can_send = self._upstream.sending_link is not None
            return self.job is None and not (self.backlog and can_send)

        await wait_until(nothing_to_do, patience_s)

    async def end(self) -> None:
        """What is in flight is in doubt, the rest goes back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=_END_S)
        self.give_back()
