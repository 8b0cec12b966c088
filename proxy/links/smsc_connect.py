"""Keeping an upstream's connections up."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog

from proxy.config import SmppUpstreamSettings
from proxy.links.smsc_link import SmscLink
from proxy.smpp import vocabulary as smpp

log = structlog.get_logger()

BINDS: Final = {
    "transceiver": (smpp.BIND_TRANSCEIVER,),
    "transmitter+receiver": (smpp.BIND_TRANSMITTER, smpp.BIND_RECEIVER),
}
_STABLE_S = 10.0
"""A link that lived this long starts its back-off anew."""


class Connector:
    """Connects for an upstream (what SmscLink tells), again and again until it stops."""

    def __init__(
        self, settings: SmppUpstreamSettings, upstream: Any, record_event: Callable[..., None]
    ) -> None:
        self._settings = settings
        self._upstream = upstream
        self._record_event = record_event
        self.stopping = False
        """Nothing is connected any more."""
        self.reason = ""
        """Why a link is down, or was the last time."""

    async def keep_linked(self, bind_command: int) -> None:
        """One connection, bound so, until `stopping`."""
        s, loop = self._settings, asyncio.get_running_loop()
        wait_s = s.reconnect_min_s
        while not self.stopping:
            started = loop.time()
            reason = await self._one_link(bind_command)
            if self.stopping:
                return
            if loop.time() - started > _STABLE_S:
                wait_s = s.reconnect_min_s
            # Jitter: a carrier that restarts is not met by everybody in the same instant.
            pause_s = wait_s * random.uniform(0.5, 1.0)  # noqa: S311
            level = log.debug if reason == self.reason else log.info  # news once
            level("upstream_link_down", upstream=s.name, retry_in_s=round(pause_s, 2))
            self.reason = reason
            self._record_event(
                "upstream_down", f"Upstream {s.name} has a link down: {reason}", severity="error"
            )
            await asyncio.sleep(pause_s)
            wait_s = min(wait_s * 2, s.reconnect_max_s)

    async def _one_link(self, bind_command: int) -> str:
        """From connecting to losing; returns why it ended."""
        s, loop = self._settings, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(s.connect_timeout_s):
                _, link = await loop.create_connection(
                    partial(SmscLink, self._upstream, bind_command), s.host, s.port, ssl=self._tls()
                )
        except (OSError, TimeoutError, ssl.SSLError) as error:
            return str(error) or type(error).__name__
        return await link.gone

    def _tls(self) -> ssl.SSLContext | None:
        s = self._settings
        if not s.tls:
            return None
        context = ssl.create_default_context(cafile=str(s.tls_ca) if s.tls_ca else None)
        if not s.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
