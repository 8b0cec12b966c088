"""Long messages from phones: their parts, put together (3GPP TS 23.040 section 9.2.3.24.1).

A part is kept here by reference only: it stays in the modem's storage until the whole is safe,
so each comes with a key (its slot there) that goes out again with the message it is in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from proxy.gsm.address import Number
from proxy.gsm.alphabet import Alphabet, alphabet_of, decode_text
from proxy.gsm.errors import TpduError
from proxy.gsm.tpdu import Deliver
from proxy.gsm.user_data import header_elements, header_octets, header_of
from proxy.smpp.tlv import VALUE_OCTETS_MAX
from proxy.smpp.udh import concatenation

_CONCATENATION_8: Final = 0x00
_CONCATENATION_16: Final = 0x08
_LANGUAGE_ELEMENTS: Final = frozenset({0x24, 0x25})
"""National language shift tables (sections 9.2.3.24.15 and 16): what septets mean."""
_UCS2: Final = 0x08

Whole = tuple[Deliver, list[object]]
"""A message, and the keys of all parts that it came in."""


class _Group(NamedTuple):
    """What the parts of one message have in common."""

    source: Number
    reference: int
    long_reference: bool
    """Of 16 bits: another number space (section 9.2.3.24.8)."""
    total: int


class _Parts:
    """The parts of one message that are there."""

    __slots__ = ("keys", "parts", "since_s")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.parts: dict[int, Deliver] = {}
        self.keys: dict[int, list[object]] = {}


class Reassembly:
    """The parts of messages that are not whole yet, of one modem.

    It holds a limited number of parts for a limited time.  What is over a limit is given up: its
    parts come out one by one, as they are, so that nothing is lost and who gets them may still
    put them together.
    """

    def __init__(self, age_max_s: float = 86400.0, parts_max: int = 1000) -> None:
        """`age_max_s`: how long the first part waits for the last; `parts_max`: of all together."""
        self._age_max_s = age_max_s
        self._parts_max = parts_max
        # In order of their first parts: the oldest is the first.
        self._groups: dict[_Group, _Parts] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many keys are held."""
        return self._count

    def add(self, deliver: Deliver, key: object, now_s: float) -> list[Whole]:
        """What this message makes complete, and what has to be given up; never raises.

        A message that is no part comes out at once.  A part that is there already adds its key
        only (a list of the storage shows it again); one with the same number and another text
        is of another message that got the same reference, and the older one is given up.

        Args:
            deliver: the message.
            key: what stands for it in the modem; compared with ==.
            now_s: a clock that does not go back.
        """
        out = self.due(now_s)
        found = _group_of(deliver)
        if found is None:
            return [*out, (deliver, [key])]
        group, number = found
        held = self._groups.get(group)
        if held is not None and not _same(held.parts.get(number, deliver), deliver):
            out += self._take(group)
            held = None
        if held is None:
            held = self._groups[group] = _Parts(now_s)
        held.parts.setdefault(number, deliver)
        keys = held.keys.setdefault(number, [])
        if key not in keys:
            keys.append(key)
            self._count += 1
        if len(held.parts) == group.total:
            out += self._complete(group)
        while self._count > self._parts_max:
            out += self._take(next(iter(self._groups)))
        return out

    def due(self, now_s: float) -> list[Whole]:
        """What has waited too long, as single parts.  To be asked now and then."""
        out: list[Whole] = []
        while self._groups:
            group, held = next(iter(self._groups.items()))
            if now_s - held.since_s < self._age_max_s:
                break
            out += self._take(group)
        return out

    def oldest(self) -> list[Whole]:
        """Give up the message that has waited longest: what is there of it, as single parts."""
        return self._take(next(iter(self._groups))) if self._groups else []

    def forget(self) -> None:
        """Drop everything held: the modem went away, and its storage will be read again."""
        self._groups.clear()
        self._count = 0

    def _take(self, group: _Group) -> list[Whole]:
        """The parts in order, each by itself; they are no longer held."""
        held = self._groups.pop(group)
        self._count -= sum(map(len, held.keys.values()))
        return [(held.parts[number], held.keys[number]) for number in sorted(held.parts)]

    def _complete(self, group: _Group) -> list[Whole]:
        parts = self._take(group)
        whole = _joined([deliver for deliver, _ in parts])
        if whole is None:
            return parts
        return [(whole, [key for _, keys in parts for key in keys])]


def _same(one: Deliver, other: Deliver) -> bool:
    return one.user_data == other.user_data and one.data_coding == other.data_coding


def _split(deliver: Deliver) -> tuple[bytes, bytes]:
    """Header and text of a message that has a header.  Raises TpduError."""
    end = header_octets(deliver.user_data, deliver.udhi)
    return deliver.user_data[:end], deliver.user_data[end:]


def _group_of(deliver: Deliver) -> tuple[_Group, int] | None:
    """Which part of which message it is; None: it is a message of its own."""
    part = concatenation(deliver.user_data) if deliver.udhi else None
    if part is None or part.total == 1:
        return None
    elements = header_elements(_split(deliver)[0]) or []
    last = [iei for iei, _ in elements if iei in {_CONCATENATION_8, _CONCATENATION_16}][-1]
    long_reference = last == _CONCATENATION_16
    return _Group(deliver.source, part.reference, long_reference, part.total), part.part


def _joined(parts: list[Deliver]) -> Deliver | None:
    """One message of all parts in order; None when they don't make one.

    Its header has what else stood in the first part's (ports, a language).  Parts in different
    alphabets, as some phones send them, become UCS-2.
    """
    first = parts[0]
    try:
        elements = header_elements(_split(first)[0]) or []
        rest = [e for e in elements if e[0] not in {_CONCATENATION_8, _CONCATENATION_16}]
        header = header_of(rest)
        texts = [_split(part)[1] for part in parts]
    except TpduError:
        return None
    dcs = first.data_coding
    if any(part.data_coding != dcs for part in parts):
        alphabets = {alphabet_of(part.data_coding) for part in parts}
        if len(alphabets) > 1:
            if Alphabet.OCTETS in alphabets or _has_language(parts):
                return None
            dcs = _UCS2
            texts = [
                _units(text, part.data_coding) for text, part in zip(texts, parts, strict=True)
            ]
    user_data = header + b"".join(texts)
    if len(user_data) > VALUE_OCTETS_MAX:
        return None
    last = parts[-1]
    return first._replace(
        data_coding=dcs, udhi=bool(header), more_to_send=last.more_to_send, user_data=user_data
    )


def _has_language(parts: Iterable[Deliver]) -> bool:
    return any(
        iei in _LANGUAGE_ELEMENTS
        for part in parts
        for iei, _ in header_elements(_split(part)[0]) or []
    )


def _units(text: bytes, dcs: int) -> bytes:
    if alphabet_of(dcs) is Alphabet.UCS2:
        return text
    return (decode_text(text, dcs) or "").encode("utf-16-be")
