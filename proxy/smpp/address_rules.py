"""What an upstream's rules change in the addresses of messages, and nothing else (promise 5).

Outward, towards the carrier: the sender, the kinds of both addresses, a prefix of the
destination, and a receipt where the client asked for none.  Inward the change of the prefix is
undone, so that clients see numbers as they write them.

Prefixes and "+".  `strip_prefix` is taken away where the destination begins with it.  One that
begins with "+" means the address as it is written; for any other a "+" in front of the number is
overlooked, and goes with the prefix.  `add_prefix` is then put in front of every destination,
whether something was taken away or not; a "+" that is still there makes room for it, for it can
only stand at the very beginning.  So strip "+" turns +44 into 44, strip "+" with add "00" turns
+44 into 0044 (and 44 too), and strip "44" with add "0" turns +4477 and 4477 into 077.

An address that would not fit its field (SMPP 3.4 sections 5.2.8 and 5.2.9), or of which nothing
would be left, stays as the client wrote it, and so does a body that can't be read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.config import AddressSettings
from proxy.smpp import vocabulary as smpp
from proxy.smpp.multi import multi_destinations
from proxy.smpp.pdu import (
    ALERT,
    CANCEL,
    DATA,
    MULTI_ADDRESS,
    MULTI_HEAD,
    MULTI_TAIL,
    QUERY,
    REPLACE,
    SUBMIT,
    Layout,
    PduError,
)

_OUTWARD: Final = {
    smpp.SUBMIT_SM: SUBMIT,
    smpp.DATA_SM: DATA,
    smpp.QUERY_SM: QUERY,
    smpp.CANCEL_SM: CANCEL,
    smpp.REPLACE_SM: REPLACE,
}
_INWARD: Final = {smpp.DELIVER_SM: SUBMIT, smpp.DATA_SM: DATA, smpp.ALERT_NOTIFICATION: ALERT}
_NUMBER_TONS: Final = (0, 1, 2)
"""Unknown, international, national (section 5.2.5): what `strip_prefix` may have been part of."""


class AddressRules:
    """The rules of one upstream, compiled from its `[upstream.address]`."""

    __slots__ = (
        "_add",
        "_dest_npi",
        "_dest_ton",
        "_registered_delivery",
        "_source",
        "_source_npi",
        "_source_ton",
        "_strip",
        "changes_inward",
        "changes_outward",
    )

    def __init__(self, settings: AddressSettings) -> None:
        def octet(value: int | None) -> bytes | None:
            return None if value is None else bytes((value,))

        s = settings
        self._source = None if s.source_addr is None else s.source_addr.encode("latin-1")
        self._source_ton, self._source_npi = octet(s.source_addr_ton), octet(s.source_addr_npi)
        self._dest_ton, self._dest_npi = octet(s.dest_addr_ton), octet(s.dest_addr_npi)
        self._strip = s.strip_prefix.encode("latin-1")
        self._add = s.add_prefix.encode("latin-1")
        self._registered_delivery = s.registered_delivery or 0
        self.changes_inward = bool(self._strip or self._add)
        """Whether `inward` and `undone` have to be asked at all."""
        changed = (
            *(self._source, self._source_ton, self._source_npi, self._dest_ton, self._dest_npi),
            *(self._strip or None, self._add or None, self._registered_delivery or None),
        )
        self.changes_outward = any(value is not None for value in changed)
        """Whether `outward` has to be asked at all."""

    @property
    def asks_receipt(self) -> bool:
        """Whether messages ask for receipts that their clients did not ask for."""
        return bool(self._registered_delivery & smpp.REGISTERED_RECEIPT_MASK)

    # --------------------------------------------------------------------------- outward

    def outward(self, command_id: int, body: bytes) -> bytes:
        """A body as this carrier gets it; the same object when nothing has to change.

        Of submit_sm, data_sm and submit_multi with all its destinations (sections 4.4.1, 4.7.1
        and 4.5.1), and of query_sm, cancel_sm and replace_sm (4.8 to 4.10), whose addresses must
        be those of the message they are about.
        """
        if not self.changes_outward:
            return body
        try:
            if command_id == smpp.SUBMIT_MULTI:
                changed = self._multi(body)
            elif command_id in _OUTWARD:
                changed = self._single(_OUTWARD[command_id], body)
            else:
                return body
        except PduError:
            return body
        return body if changed == body else changed

    def _single(self, layout: Layout, body: bytes) -> bytes:
        values, end = layout.split(body)
        new = list(values)
        self._source_of(layout, new)
        if "destination_addr" in layout.index:
            at = layout.index["destination_addr"]
            new[at - 2 : at + 1] = self._destination(layout, *values[at - 2 : at + 1])
        self._receipt_of(layout, new)
        return _joined(layout, new) + body[end:]

    def _multi(self, body: bytes) -> bytes:
        values, _ = MULTI_HEAD.split(body)
        destinations, at = multi_destinations(body)
        head = list(values)
        self._source_of(MULTI_HEAD, head)
        tail, length = MULTI_TAIL.split(body[at:])
        new_tail = list(tail)
        self._receipt_of(MULTI_TAIL, new_tail)
        addresses = [
            b"\1"
            + _joined(
                MULTI_ADDRESS,
                self._destination(MULTI_ADDRESS, bytes((one.ton,)), bytes((one.npi,)), one.addr),
            )
            for one in destinations
        ]
        return (
            b"".join((_joined(MULTI_HEAD, head), *addresses, _joined(MULTI_TAIL, new_tail)))
            + (body[at + length :])
        )

    def _source_of(self, layout: Layout, values: list[bytes]) -> None:
        at = layout.index["source_addr"]
        for i, new in ((at - 2, self._source_ton), (at - 1, self._source_npi), (at, self._source)):
            if new is not None and _fits(layout, i, new):
                values[i] = new

    def _destination(self, layout: Layout, ton: bytes, npi: bytes, addr: bytes) -> list[bytes]:
        """TON, NPI and address; an empty one (of a cancel_sm) names nobody and stays so."""
        if not addr:
            return [ton, npi, addr]
        new = self._changed(addr)
        if not _fits(layout, layout.index["destination_addr"], new):
            new = addr
        return [
            ton if self._dest_ton is None else self._dest_ton,
            npi if self._dest_npi is None else self._dest_npi,
            new,
        ]

    def _changed(self, addr: bytes) -> bytes:
        strip, add = self._strip, self._add
        new = addr
        if strip:
            plain = addr if strip[:1] == b"+" else addr.removeprefix(b"+")
            if plain.startswith(strip):
                new = plain[len(strip) :]
        if add:
            new = add + new.removeprefix(b"+")
        # A prefix alone is nobody's number.
        return addr if new in (b"", add) else new

    def _receipt_of(self, layout: Layout, values: list[bytes]) -> None:
        at = layout.index.get("registered_delivery")
        if at is not None and not values[at][0] & smpp.REGISTERED_RECEIPT_MASK:
            values[at] = bytes((values[at][0] | self._registered_delivery,))

    # ---------------------------------------------------------------------------- inward

    def inward(self, command_id: int, body: bytes) -> bytes:
        """A body from this carrier as clients get it; the same object when nothing changes.

        Of deliver_sm, data_sm and alert_notification (sections 4.6.1, 4.7.1 and 4.12.1): the
        prefix that was added to the source_addr goes, and what was stripped comes back, where it
        is a number of digits.
        """
        layout = _INWARD.get(command_id)
        if layout is None or not self.changes_inward:
            return body
        try:
            values, end = layout.split(body)
        except PduError:
            return body
        at = layout.index["source_addr"]
        if values[at - 2][0] not in _NUMBER_TONS:
            return body
        new = self._restored(values[at])
        if new == values[at] or not _fits(layout, at, new):
            return body
        return _joined(layout, [*values[:at], new, *values[at + 1 :]]) + body[end:]

    def _restored(self, addr: bytes) -> bytes:
        """What a client may have written; the address itself when it can't be from here."""
        new = addr
        if self._add:
            plain = addr if self._add[:1] == b"+" else addr.removeprefix(b"+")
            if not plain.startswith(self._add):
                return addr
            new = plain[len(self._add) :]
        if not new.removeprefix(b"+").isdigit():
            return addr
        if new.startswith(self._strip):
            return new
        return self._strip + new.removeprefix(b"+")

    def undone(self, message_body: bytes, response_body: bytes) -> bytes:
        """A submit_multi_resp with the destinations that it refuses as the client wrote them.

        Section 4.5.2; `message_body` is the client's submit_multi.  What can't be read, and
        addresses that were not in it, stay.
        """
        if not self.changes_inward:
            return response_body
        try:
            written = {
                self._destination(MULTI_ADDRESS, b"\0", b"\0", one.addr)[2]: one.addr
                for one in multi_destinations(message_body)[0]
            }
            return _refused_as(written.get, response_body)
        except PduError:
            return response_body


def _refused_as(original: Callable[[bytes], bytes | None], body: bytes) -> bytes:
    """A submit_multi_resp with other addresses.  Raises PduError when it is cut off."""
    at = body.find(b"\0") + 2
    if at < 2 or at > len(body):
        return body
    pieces = [body[:at]]
    for _ in range(body[at - 1]):
        values, length = MULTI_ADDRESS.split(body[at : at + 23])
        new = original(values[2])
        pieces.append(_joined(MULTI_ADDRESS, [*values[:2], values[2] if new is None else new]))
        pieces.append(body[at + length : at + length + 4])  # error_status_code
        at += length + 4
    return b"".join(pieces) + body[at:]


def _fits(layout: Layout, number: int, value: bytes) -> bool:
    octets = layout.fields[number].octets
    return not octets or len(value) < octets  # with its NUL


def _joined(layout: Layout, values: list[bytes]) -> bytes:
    """The octets of mandatory parameters: what Layout.split takes apart."""
    return b"".join(
        [
            value + b"\0" if field.octets else value
            for field, value in zip(layout.fields, values, strict=True)
        ]
    )
