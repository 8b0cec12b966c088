"""Step 4: pick the upstream and hand the messages to it, in order."""

from __future__ import annotations

from collections.abc import Callable

from proxy.flow.message import Message, Upstream


class Forward:
    """Chooses, for each charged message, the first of its upstreams that is bound and has room."""

    def __init__(self, not_sent: Callable[[list[Message], str], None]) -> None:
        self._not_sent = not_sent

    def send(self, messages: list[Message]) -> None:
        """Messages that no upstream can take any more are released and refused."""
        by_upstream: dict[Upstream, list[Message]] = {}
        room: dict[Upstream, int] = {}
        homeless: list[Message] = []
        for message in messages:
            upstream = _choose(message.upstreams, room)
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
