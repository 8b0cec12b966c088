"""Step 4: pick the upstream and hand the messages to it, in order."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from proxy.flow.message import Message, Upstream

_PINNED_S = 600.0
_PINNED_MAX = 50_000


class Forward:
    """Chooses, for each charged message, the first of its upstreams that is bound and has room.

    The parts of one longer message all take the upstream of the first: a handset can't join
    parts of two carriers' making.
    """

    def __init__(self, not_sent: Callable[[list[Message], str], None]) -> None:
        self._not_sent = not_sent
        self._pinned: OrderedDict[tuple[int, str], _Pin] = OrderedDict()

    def send(self, messages: list[Message]) -> None:
        """Messages that no upstream can take any more are released and refused."""
        by_upstream: dict[Upstream, list[Message]] = {}
        room: dict[Upstream, int] = {}
        homeless: list[Message] = []
        for message in messages:
            if message.part is None:
                upstream = _choose(message.upstreams, room)
            else:
                upstream = self._of_part(message, room)
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

    def _of_part(self, message: Message, room: dict[Upstream, int]) -> Upstream | None:
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
            upstream = _choose(message.upstreams, room)
            if upstream is None:
                return None
            pin = _Pin(upstream)
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


def _choose(upstreams: tuple[Upstream, ...], room: dict[Upstream, int]) -> Upstream | None:
    """`room` counts down what this batch leaves of each upstream's.

    The first bound one when all are full: what is charged is not turned away for a few places.
    """
    for upstream in upstreams:
        if upstream.bound:
            left = room.get(upstream)
            if left is None:
                left = upstream.room
            if left > 0:
                room[upstream] = left - 1
                return upstream
    return next((upstream for upstream in upstreams if upstream.bound), None)
