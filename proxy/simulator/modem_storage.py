"""The message storages of a modem and its SIM (3GPP TS 27.005 section 3.1, "Message Storage")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.simulator.modem_at import AtError

REC_UNREAD, REC_READ, STO_UNSENT, STO_SENT, ALL = range(5)
"""The values of <stat> in PDU mode."""
STATUS_TEXTS: Final = ("REC UNREAD", "REC READ", "STO UNSENT", "STO SENT", "ALL")
"""And in text mode."""

INVALID_MEMORY_INDEX: Final = 321
MEMORY_FULL: Final = 322


@dataclass(slots=True)
class Stored:
    """A message in a slot."""

    status: int
    octets: bytes
    """With its SC address before it."""

    @property
    def tpdu_octets(self) -> int:
        """The length that AT+CMGR tells: without the SC address."""
        return len(self.octets) - 1 - self.octets[0]


class Storage:
    """The slots of one memory, numbered from 1."""

    def __init__(self, name: str, slots: int) -> None:
        self.name = name
        self.slots = slots
        self.messages: dict[int, Stored] = {}

    @property
    def full(self) -> bool:
        """No slot is free."""
        return len(self.messages) >= self.slots

    def put(self, message: Stored) -> int:
        """Store in the first free slot, and return its index. Raises AtError when it is full."""
        for index in range(1, self.slots + 1):
            if index not in self.messages:
                self.messages[index] = message
                return index
        raise AtError("CMS", MEMORY_FULL)

    def get(self, index: int) -> Stored:
        """The message in a slot. Raises AtError: nothing is in it."""
        message = self.messages.get(index)
        if message is None:
            raise AtError("CMS", INVALID_MEMORY_INDEX)
        return message

    def listed(self, status: int) -> list[tuple[int, Stored]]:
        """The messages of a <stat>, in order of their slots."""
        return [
            (index, message)
            for index, message in sorted(self.messages.items())
            if status in (ALL, message.status)
        ]

    def delete(self, index: int, flag: int) -> None:
        """Delete one (flag 0), or those of some states (AT+CMGD, 27.005 section 3.5.4).

        An empty slot is no error, as on most modems.
        """
        if flag == 0:
            if not 1 <= index <= self.slots:
                raise AtError("CMS", INVALID_MEMORY_INDEX)
            self.messages.pop(index, None)
            return
        gone = {1: {REC_READ}, 2: {REC_READ, STO_SENT}, 3: {REC_READ, STO_SENT, STO_UNSENT}}
        states = gone.get(flag, {REC_UNREAD, REC_READ, STO_SENT, STO_UNSENT})
        self.messages = {i: m for i, m in self.messages.items() if m.status not in states}

    @property
    def usage(self) -> str:
        """Used and total, as AT+CPMS tells them."""
        return f"{len(self.messages)},{self.slots}"
