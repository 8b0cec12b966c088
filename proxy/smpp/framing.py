"""Octets in, PDUs out (SMPP 3.4 section 3.2)."""

from __future__ import annotations

from struct import Struct
from typing import TypeAlias

from proxy.smpp import vocabulary as smpp

Pdu: TypeAlias = tuple[int, int, int, bytes]
"""command_id, command_status, sequence_number, body (the octets behind the header)."""

_HEADER = Struct(">IIII")


def pack_pdu(command_id: int, status: int, sequence_number: int, body: bytes = b"") -> bytes:
    """A whole PDU."""
    return _HEADER.pack(smpp.HEADER_OCTETS + len(body), command_id, status, sequence_number) + body


class Framer:
    """Cuts a stream into PDUs.

    A command_length under 16 or over the limit leaves no way to find the next PDU: from then on
    `error` holds the generic_nack to send before closing, and nothing more is read.  PDUs that
    came before the bad one are still returned.
    """

    __slots__ = ("_max_octets", "_needed", "_rest", "error")

    def __init__(self, max_octets: int) -> None:
        self._max_octets = max_octets
        self._rest = bytearray()
        self._needed = 0
        self.error: bytes | None = None

    def feed(self, data: bytes) -> list[Pdu]:
        """The PDUs that are whole now; what is left over waits for the next call."""
        if self.error is not None:
            return []
        if self._rest:
            # Collected in one buffer and looked at only when a whole PDU can be there, so that
            # a PDU which comes octet by octet costs linear time.
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        unpack = _HEADER.unpack_from
        pdus: list[Pdu] = []
        offset, end = 0, len(data)
        while end - offset >= 16:
            length, command_id, status, sequence_number = unpack(data, offset)
            if not 16 <= length <= self._max_octets:
                self.error = pack_pdu(smpp.GENERIC_NACK, smpp.ESME_RINVCMDLEN, sequence_number)
                return pdus
            following = offset + length
            if following > end:
                self._needed = length
                break
            pdus.append((command_id, status, sequence_number, data[offset + 16 : following]))
            offset = following
        else:
            self._needed = 16
        if offset < end:
            self._rest += data[offset:] if offset else data
        return pdus
