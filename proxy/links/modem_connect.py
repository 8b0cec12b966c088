"""Keeps one modem connected: finds it, starts it, attends to it, and begins again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog

from proxy.config import ModemSettings
from proxy.links.modem_inbox import Inbox
from proxy.links.modem_link import ModemLink, ModemLost
from proxy.links.modem_port import PortError, candidates
from proxy.links.modem_start import Modem, NotAModem, Pin, SimLocked, start
from proxy.links.modem_watch import Watch

log = structlog.get_logger()

LOCKED_LOOK_S: Final = 60.0
"""A SIM that wants a person is looked at so often."""
_STABLE_S: Final = 60.0
"""A modem that worked this long starts its back-off anew."""


class Owner(Protocol):
    """Who uses the modem."""

    def connected(self, link: ModemLink, modem: Modem) -> None:
        """It can send, once it has a network."""

    def disconnected(self, reason: str) -> None:
        """It is gone, and comes back if it can."""


class Connector:
    """Of one modem."""

    def __init__(
        self,
        settings: ModemSettings,
        owner: Owner,
        inbox: Inbox,
        watch: Watch,
        record_event: Callable[..., None],
    ) -> None:
        self._settings = settings
        self._owner = owner
        self._inbox = inbox
        self._watch = watch
        self._record_event = record_event
        self._loop = asyncio.get_running_loop()
        self.pin: Pin | None = None
        """Known as soon as the database has said whether it was tried before."""
        self.link: ModemLink | None = None
        self.locked = ""
        """Why the SIM can't be used, in words; empty: it can, or nobody knows."""
        self._locked_by = ""
        self._told = ""
        self.stopping = False
        self.reason = ""
        """Why it is down, or was the last time."""

    async def keep_connected(self) -> None:
        """Until cancelled, or `stopping`."""
        s = self._settings
        wait_s = s.reconnect_min_s
        while not self.stopping:
            began = self._loop.time()
            try:
                reason = await self._once()
            except Exception as error:  # whatever a modem may think of: the next attempt counts
                log.exception("modem_failed", upstream=s.name)
                reason = str(error) or type(error).__name__
            if self.stopping:
                return
            if self._loop.time() - began > _STABLE_S:
                wait_s = s.reconnect_min_s
            pause_s = wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            if self.locked:
                pause_s = max(LOCKED_LOOK_S, s.reconnect_min_s)
            else:
                wait_s = min(wait_s * 2, s.reconnect_max_s)
            self._tell("upstream_down", f"Upstream {s.name} is down: {reason}")
            level = log.debug if reason == self.reason else log.info  # news once
            level("modem_down", upstream=s.name, reason=reason, retry_in_s=round(pause_s, 2))
            self.reason = reason
            await asyncio.sleep(pause_s)

    def _tell(self, kind: str, text: str) -> None:
        """An event, once for each new reason."""
        if text != self._told:
            self._told = text
            self._record_event(kind, text, severity="error")

    async def _once(self) -> str:
        """From looking for it to losing it; returns why it ended."""
        try:
            addresses = await candidates(self._settings.device)
        except (OSError, ValueError) as error:
            return f"{self._settings.device}: {error}"
        reason = f"{self._settings.device} is not there"
        for address in addresses:
            link = ModemLink(self._settings.name, self._settings.command_timeout_s)
            try:
                await link.open(address, self._settings.baud)
            except PortError as error:
                reason = str(error)
                continue
            self.link = link
            try:
                modem = await self._start(link)
                await self._attend(link, modem)
            except SimLocked as error:
                self._lock(error)
                return str(error)
            except (NotAModem, ModemLost) as error:
                why = link.gone.result() if link.gone.done() else str(error)
                if link.settled:
                    return why
                reason = f"{address}: {why}"  # a modem may have several ports: the next one
            finally:
                link.lose("it is given up")
                self.link = None
        return reason

    async def _start(self, link: ModemLink) -> Modem:
        if self.pin is None:
            raise ModemLost("the database has not been read yet")
        link.unasked = self._unasked
        modem = await start(link, self._settings, self.pin)
        self.locked = self._locked_by = ""
        return modem

    def _lock(self, error: SimLocked) -> None:
        name = self._settings.name
        if self._locked_by != error.event:
            self._locked_by = error.event
            self._record_event(error.event, f"Modem {name}: {error}", severity="error")
        self.locked = str(error)
        self._told = f"Upstream {name} is down: {error}"  # once is enough

    def _unasked(self, code: str, line: str, pdu: str | None) -> None:
        if code in ("+CMTI", "+CDSI", "+CMT", "+CDS"):
            self._inbox.heard(code, line, pdu)
        else:
            self._watch.heard(code, line)

    async def _attend(self, link: ModemLink, modem: Modem) -> None:
        """As long as it lives.  Raises ModemLost."""
        self._told = ""
        jobs = [
            asyncio.ensure_future(self._watch.run(link)),
            asyncio.ensure_future(self._inbox.run(link, modem)),
        ]
        self._owner.connected(link, modem)
        try:
            waits: list[asyncio.Future[Any]] = [*jobs, link.gone]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for job in jobs:
                if job.done() and not isinstance(job.exception(), ModemLost | None):
                    log.error("modem_job_failed", exc_info=job.exception())
            link.lose("it does not do what it should")
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            self._owner.disconnected(link.gone.result() if link.gone.done() else "it is given up")
            self._watch.lost()
        raise ModemLost(link.gone.result())
