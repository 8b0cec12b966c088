"""Step 4: pick the upstream and hand the messages to it, in order."""

from __future__ import annotations

from collections.abc import Callable

from proxy.flow.message import Message, Upstream


class Forward:
    """Chooses, for each charged message, the first of its upstreams that is bound."""

    def __init__(self, not_sent: Callable[[list[Message], str], None]) -> None:
        self._not_sent = not_sent

    def send(self, messages: list[Message]) -> None:
        """Messages that no upstream can take any more are released and refused."""
        by_upstream: dict[Upstream, list[Message]] = {}
        homeless: list[Message] = []
        for message in messages:
            for upstream in message.upstreams:
                if upstream.bound:
                    group = by_upstream.get(upstream)
                    if group is None:
                        by_upstream[upstream] = [message]
                    else:
                        group.append(message)
                    break
            else:
                homeless.append(message)
        for upstream, group in by_upstream.items():
            upstream.send(group)
        if homeless:
            self._not_sent(homeless, "no upstream is bound")
