"""Step 4b: an upstream refused a message.  Its client hears that, or it is tried again.

A message whose client waits is tried again here or at the next upstream, a few times and within
the client's patience; one of the durable queue has all its validity.  Nothing is charged again:
the hold that it has moves with it.  What is in doubt is never tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from proxy.config import RetrySettings
from proxy.flow.forward import Forward
from proxy.flow.message import Message, Upstream
from proxy.flow.queue import Queue
from proxy.flow.settle import Answer, Settle
from proxy.routing.status_rules import Rule
from proxy.smpp import vocabulary as smpp
from proxy.telemetry import metrics


class Failover:
    """Stands between the upstreams' answers and their settling."""

    def __init__(
        self, settings: RetrySettings, settle: Settle, forward: Forward, queue: Queue
    ) -> None:
        self._settings = settings
        self._settle = settle
        self._forward = forward
        self._queue = queue
        self._number = 0
        self._waiting: dict[int, tuple[Upstream, list[Answer]]] = {}
        """What is tried again in a moment, with the answers that its clients get otherwise."""
        self._draining = False

    def answered(self, upstream: Upstream, answers: Iterable[Answer], late: bool = False) -> None:
        """Responses of an upstream; `late` ones are of messages in doubt."""
        final: list[Answer] = []
        again: list[Answer] = []
        for answer in answers:
            message, status, _ = answer
            if status == smpp.ESME_ROK or late:
                final.append(answer)
                continue
            rule = upstream.rule(status)
            if message.queue is not None and rule != "pass":
                self._of_queue(upstream, message, status, rule)
            elif rule == "next" and self._elsewhere(upstream, message):
                metrics.FAILOVERS.labels(upstream.name).inc()
            elif rule == "retry" and self._has_time(message):
                again.append(answer)
            else:
                final.append(answer)
        if final:
            self._settle.answered(upstream, final, late)
        if again:
            self._number += 1
            loop = asyncio.get_running_loop()
            loop.call_later(self._settings.delay_s, self._again, self._number)
            self._waiting[self._number] = (upstream, again)

    def _of_queue(self, upstream: Upstream, message: Message, status: int, rule: Rule) -> None:
        if rule == "next" and self._elsewhere(upstream, message):
            metrics.FAILOVERS.labels(upstream.name).inc()
            return
        reason = f"refused by {upstream.name}: {smpp.status_name(status)}"
        self._queue.refused(message, status, reason)

    def _elsewhere(self, upstream: Upstream, message: Message) -> bool:
        """Give it to the next upstream of its route, if there is one that it has not tried.

        A part stays with the other parts: a handset can't join what two carriers made.
        """
        if self._draining or message.part is not None:
            return False
        message.tried = (*message.tried, upstream.pool or upstream)
        if not any(other.bound for other in message.upstreams if other not in message.tried):
            return False
        if message.queue is None and not self._has_time(message):
            return False
        message.waits_until = 0.0  # it waits anew
        self._forward.send([message])
        return True

    def _has_time(self, message: Message) -> bool:
        """Whether its client waits that long, and it was not tried too often."""
        s = self._settings
        message.tries += 1
        now = asyncio.get_running_loop().time()
        return (
            not self._draining
            and message.tries <= s.tries_max
            and now + s.delay_s < message.arrived_at + s.patience_s
        )

    def _again(self, number: int) -> None:
        if number not in self._waiting:  # answered by `drain`
            return
        upstream, answers = self._waiting.pop(number)
        messages = [message for message, _, _ in answers]
        for message in messages:
            message.waits_until = 0.0  # it waits anew
        home = upstream.pool or upstream
        if home.healthy:
            home.send(messages)
        else:
            self._forward.send(messages)

    def drain(self) -> None:
        """The proxy stops: what waits here gets the answer that it has."""
        self._draining = True
        for upstream, answers in self._waiting.values():
            self._settle.answered(upstream, answers)
        self._waiting.clear()
