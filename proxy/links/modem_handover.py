"""From a modem to the flow: deliver_sm bodies, and what becomes of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from proxy.flow.deliver import Deliver
from proxy.smpp import vocabulary as smpp

_WAITING_MAX: Final = 1_000
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
        )

    def respond(self, command_id: int, status: int, sequence_number: int, body: bytes) -> None:
        """What the flow says of one: ESME_ROK when the database has it."""
        done = self._waiting.pop(sequence_number, None)
        if done is None:
            return
        if status == smpp.ESME_ROK:
            done("kept")
        else:
            done("later" if status in _LATER else "refused")
