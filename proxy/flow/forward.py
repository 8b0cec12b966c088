"""Step 4: pick the upstream and hand the messages to it, in order."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from proxy.flow.message import Message, Upstream

_PINNED_S = 600.0
_PINNED_MAX = 50_000


class Forward:
    """Chooses, for each charged message, the first of its upstreams that is healthy and has room.

    The parts of one longer message all take the upstream of the first: a handset can't join
    parts of two carriers' making.
    """

    def __init__(self, not_sent: Callable[[list[Message], str], None]) -> None:
        self._not_sent = not_sent
        self._pinned: OrderedDict[tuple[int, str], _Pin] = OrderedDict()

    def send(self, messages: list[Message]) -> None:
        """Messages that no upstream can take any more are released and refused."""
        by_upstream: dict[Upstream, list[Message]] = {}
        seen: _Seen = {}
        homeless: list[Message] = []
        for message in messages:
            if message.part is None:
                upstream = _choose(message, seen)
            else:
                upstream = self._of_part(message, seen)
            if upstream is None:
                homeless.append(message)
                continue
            group = by_upstream.get(upstream)
            if group is None:
                by_upstream[upstream] = [message]
            else:
                group.append(message)
        for upstream, group in by_upstream.items():
            upstream.send(group)
        if homeless:
            self._not_sent(homeless, "no upstream is bound")

    def _of_part(self, message: Message, seen: _Seen) -> Upstream | None:
        """The upstream that has the other parts; None when that is not bound any more.

        A first part that comes again begins anew: its client sends the whole message again.
        """
        assert message.part is not None
        key, number, now = (
            (message.account.id, message.part_key),
            message.part.part,
            time.monotonic(),
        )
        pin = self._pinned.pop(key, None)
        if (
            pin is None
            or now >= pin.until
            or pin.upstream not in message.upstreams  # another proxy chose, or the route changed
            or (not pin.upstream.bound and number == 1 and number in pin.seen)
        ):
            upstream = _choose(message, seen)
            if upstream is None:
                return None
            pin = _Pin(upstream)
        if pin.upstream.bound:
            pin.until = now + _PINNED_S
        pin.seen.add(number)
        self._pinned[key] = pin
        if len(self._pinned) > _PINNED_MAX:
            self._pinned.popitem(last=False)
        return pin.upstream if pin.upstream.bound else None


class _Pin:
    """The upstream of a longer message's parts."""

    __slots__ = ("seen", "until", "upstream")

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.until = 0.0
        self.seen: set[int] = set()


class _Room:
    """What one batch leaves of an upstream, which is asked once."""

    __slots__ = ("bound", "gently", "left")

    def __init__(self, upstream: Upstream) -> None:
        self.bound = upstream.bound
        self.left = upstream.room if self.bound else 0
        allowance = upstream.allowance if upstream.healthy else 0
        self.gently = self.left if allowance is None else allowance
        """How many it gets before another is preferred."""


_Seen = dict[Upstream, _Room]


def _choose(message: Message, seen: _Seen) -> Upstream | None:
    """The first healthy upstream that has room.

    One that is not well is better than none, and the first one when all are full: what is
    charged is not turned away for a few places.  One that refused the message is not asked again.
    """
    rest: list[tuple[Upstream, _Room]] = []
    for upstream in message.upstreams:
        if upstream in message.tried:
            continue
        room = seen.get(upstream)
        if room is None:
            room = seen[upstream] = _Room(upstream)
        if room.gently > 0 and room.left > 0:
            room.gently -= 1
            room.left -= 1
            return upstream
        if room.bound:
            rest.append((upstream, room))
    for upstream, room in rest:
        if room.left > 0:
            room.left -= 1
            return upstream
    return rest[0][0] if rest else None
