"""What an upstream takes for a message."""

from __future__ import annotations

import time

from proxy.credit.tariff import Tariff
from proxy.flow.message import Message


def cost_by(costs: Tariff | None, message: Message) -> int | None:
    """In micro-credits, by the tariff of its upstream's costs now; None: it is not known."""
    if costs is None:
        return None
    table = costs.at(time.time())
    each = message.segments // message.destinations
    total = 0
    for destination in message.all_destinations:
        cost = table.find(destination, message.service)
        if cost is None or cost.price_micro is None:
            return None
        total += cost.price_micro * each
    return total
