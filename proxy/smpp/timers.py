"""The session timers of SMPP 3.4 section 7.2, as a pure function of (state, now).

Times are seconds of one monotonic clock; a limit of 0 switches its timer off.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What a link has to do now."""

    NONE = "none"
    ENQUIRE = "enquire_link"
    CLOSE_UNBOUND = "no bind in time"
    CLOSE_SILENT = "no answer to enquire_link"
    CLOSE_INACTIVE = "inactive"


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds."""

    session_init_s: float
    enquire_link_s: float
    inactivity_s: float
    response_s: float


@dataclass(slots=True)
class LinkTimes:
    """When things last happened."""

    opened: float
    received: float
    """Anything at all."""
    active: float
    """A message in either direction: what the inactivity timer looks at."""
    enquired: float | None = None
    """An enquire_link of ours that is not answered yet."""


def next_action(times: LinkTimes, limits: Limits, *, bound: bool, now: float) -> Action:
    """The most urgent thing to do."""
    if not bound:
        if limits.session_init_s and now - times.opened >= limits.session_init_s:
            return Action.CLOSE_UNBOUND
        return Action.NONE
    if times.enquired is not None:
        # Any octet received since shows that the peer lives; only its silence counts.
        silent_since = max(times.enquired, times.received)
        if now - silent_since >= limits.response_s:
            return Action.CLOSE_SILENT
    if limits.inactivity_s and now - times.active >= limits.inactivity_s:
        return Action.CLOSE_INACTIVE
    if times.enquired is not None:
        return Action.NONE
    if limits.enquire_link_s and now - times.received >= limits.enquire_link_s:
        return Action.ENQUIRE
    return Action.NONE
