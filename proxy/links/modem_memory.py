"""What outlives a process: what a SIM has sent, its balance, and a PIN that was wrong."""

from __future__ import annotations

import asyncio
import time

import structlog

from proxy.links.modem_limits import SimLimits, month_start_s
from proxy.links.modem_start import Pin
from proxy.store.sim_usage import SimUsage

log = structlog.get_logger()

_AGAIN_S = 1.0


class SimMemory:
    """Of one modem; `save` is called now and then."""

    def __init__(self, name: str, upstream_id: int, usage: SimUsage, limits: SimLimits) -> None:
        self._name = name
        self._id = upstream_id
        self._usage = usage
        self._limits = limits
        self.balance_text: str | None = None
        """The network's own words."""
        self.balance_at_s = 0.0
        self._balance_saved = True

    async def load(self, pin: str | None) -> Pin:
        """What is known from before this process, however long the database takes."""
        while True:
            try:
                record = await self._usage.load(self._id, month_start_s(time.time()))
                break
            except Exception as error:  # without it nobody knows what the SIM may send
                log.warning(
                    "modem_waits_for_database",
                    upstream=self._name,
                    reason=str(error) or repr(error),
                )
                await asyncio.sleep(_AGAIN_S)
        self._limits.load(record.short_messages)
        if record.balance_text is not None:
            self.balance_text, self.balance_at_s = record.balance_text, record.balance_at_s or 0.0
        return Pin(self._name, pin, record.pin_tried, self)

    async def tried(self, digest: str | None) -> None:
        """Remember a PIN that is tried, and forget it when it was right.

        Raises what the database raises.
        """
        await self._usage.pin_tried(self._id, digest)

    def balance_came(self, text: str) -> None:
        """The network has said it."""
        self.balance_text, self.balance_at_s = text, time.time()
        self._balance_saved = False

    async def save(self) -> None:
        """Write what is new; what can't be written is written the next time."""
        unsaved = self._limits.unsaved()
        try:
            if unsaved:
                await self._usage.add(self._id, unsaved)
                unsaved = {}
            if not self._balance_saved:
                await self._usage.set_balance(self._id, self.balance_text or "")
                self._balance_saved = True
        except Exception as error:  # whatever it is: what was counted is not to be lost
            self._limits.keep(unsaved)
            log.warning(
                "sim_usage_not_saved", upstream=self._name, reason=str(error) or repr(error)
            )
