"""How a carrier stands with us: its health and the pace it takes, from its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from proxy.config import SmppUpstreamSettings
from proxy.routing.health import Health, State
from proxy.routing.status_rules import ABOUT_CARRIER, THROTTLING
from proxy.routing.throttle import AdaptiveRate
from proxy.smpp import vocabulary as smpp
from proxy.telemetry import metrics

log = structlog.get_logger()


class Standing:
    """Feeds `health` and `pace`, and tells of what they make of it."""

    def __init__(
        self, settings: SmppUpstreamSettings, now: float, record_event: Callable[..., None]
    ) -> None:
        self._name = settings.name
        self._record_event = record_event
        self.health = Health(settings.health)
        self.pace = AdaptiveRate(settings.rate, now)
        self._state = State.HEALTHY
        self._healthy = metrics.UPSTREAM_HEALTHY.labels(self._name)
        self._rate = metrics.UPSTREAM_RATE.labels(self._name)
        self._throttled = metrics.UPSTREAM_THROTTLED.labels(self._name)
        self._healthy.set(0)

    def answered(self, statuses: Mapping[int, int], seconds: float, now: float) -> None:
        """Answers of one read: how many had each command_status, the oldest sent `seconds` ago.

        ESME_RMSGQFUL may be the queue of one handset that is off, and some carriers say
        ESME_RTHROTTLED for one destination: few of these among many others slow nobody down.
        """
        number = sum(statuses.values())
        refused, throttled = 0, 0
        if len(statuses) > 1 or smpp.ESME_ROK not in statuses:
            refused = sum(count for status, count in statuses.items() if status in ABOUT_CARRIER)
            throttled = sum(count for status, count in statuses.items() if status in THROTTLING)
        if throttled:
            self._throttled.inc(throttled)
        if self.pace.answered(number - throttled, throttled, seconds, now):
            log.info(
                "upstream_slowed", upstream=self._name, rate=round(self.pace.rate_per_s or 0, 1)
            )
        self.health.answered(number - refused, refused, 0, seconds, now)
        self._tell_changes()

    def silent(self, count: int, seconds: float, now: float) -> None:
        """So many answers have not come within `seconds`."""
        self.health.answered(0, 0, count, seconds, now)
        self._tell_changes()

    def lost(self, now: float) -> None:
        """A link broke."""
        self.health.lost(now)
        self._tell_changes()

    def look(self, now: float, bound: bool) -> None:
        """Once in a while: bring what depends on the time up to date."""
        self.health.usable(now)
        self._tell_changes()
        self.pace.refresh(now)
        self._healthy.set(bound and self._state is State.HEALTHY)
        self._rate.set(self.pace.rate_per_s or 0)

    def status(self, now: float) -> dict[str, object]:
        """For the other proxies; rounded, so that it changes when something has changed."""
        response_s, rate = self.health.response_s(now), self.pace.rate_per_s
        return {
            "health": self.health.state.value,
            "why": self.health.why,
            "error_rate": round(self.health.error_rate(now), 2),
            "response_s": None if response_s is None else round(response_s, 3),
            "rate": None if rate is None else round(rate, 1),
            "slowed": self.pace.slowed,
        }

    def _tell_changes(self) -> None:
        state = self.health.state
        if state is self._state:
            return
        before, self._state = self._state, state
        if state is State.RESTING:
            self._record_event(
                "upstream_resting",
                f"Upstream {self._name} rests, others are preferred: {self.health.why}",
                severity="warning",
            )
        elif state is State.HEALTHY:
            self._record_event("upstream_back", f"Upstream {self._name} is healthy again")
        log.info("upstream_health", upstream=self._name, was=before.value, now=state.value)
