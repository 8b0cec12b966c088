"""From a modem to the flow: deliver_sm bodies, and what becomes of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Literal

import structlog

from proxy.flow.deliver import Deliver
from proxy.smpp import vocabulary as smpp

log = structlog.get_logger()

_WAITING_MAX: Final = 1_000
_AGAIN_MAX: Final = 1_000
_LATER: Final = frozenset({smpp.ESME_RX_T_APPN, smpp.ESME_RMSGQFUL, smpp.ESME_RSYSERR})

End = Literal["kept", "refused", "later"]


class Handover:
    """Gives deliver_sm bodies to the flow as a carrier's link does, and hears what becomes."""

    def __init__(self, deliver: Deliver, upstream_id: int, *, all_asked: bool = False) -> None:
        """`all_asked`: the modem asks for a report of every message."""
        self._deliver = deliver
        self._upstream_id = upstream_id
        self._all_asked = all_asked
        self._waiting: dict[int, Callable[[End], None]] = {}
        self._sequence = 0
        self._again = 0

    def give(self, body: bytes, done: Callable[[End], None], account_id: int | None = None) -> None:
        """`done` is called once, perhaps at once."""
        if len(self._waiting) >= _WAITING_MAX:
            done("later")
            return
        self._sequence = self._sequence % smpp.SEQUENCE_MAX + 1
        self._waiting[self._sequence] = done
        self._deliver.received(
            self,
            self._upstream_id,
            "as_is",
            [(smpp.DELIVER_SM, self._sequence, body)],
            account_id=account_id,
            all_asked=self._all_asked,
            own_sender=True,
        )

    def again(self, in_s: float, attempt: Callable[[], None]) -> None:
        """Try once more after so many seconds what is in no storage and could not be kept.

        Of a modem that brings more of it than that, some is dropped.  It was not acknowledged.
        """
        if self._again >= _AGAIN_MAX:
            log.error("modem_message_dropped", reason="too many wait, and it is not stored")
            return
        self._again += 1
        asyncio.get_running_loop().call_later(in_s, self._once_more, attempt)

    def _once_more(self, attempt: Callable[[], None]) -> None:
        self._again -= 1
        attempt()

    def respond(self, command_id: int, status: int, sequence_number: int, body: bytes) -> None:
        """What the flow says of one: ESME_ROK when the database has it."""
        done = self._waiting.pop(sequence_number, None)
        if done is None:
            return
        if status == smpp.ESME_ROK:
            done("kept")
        else:
            done("later" if status in _LATER else "refused")
