"""What a message would cost an account, and why: the answer to "what is the price of …?"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asyncpg import Connection

from proxy.credit.tariff import SERVICE_BINARY, Price, service_of
from proxy.store.outcomes import Refused, no_account
from proxy.store.tariffs import load_tariff

NotPriced = Literal["no_price", "not_sold"]
"""The names of the refusals."""


@dataclass(frozen=True, slots=True)
class UpstreamCost:
    """What an upstream takes for the message."""

    upstream: str
    paused: bool
    tariff: str
    price: Price | None
    """The row that matches in the upstream's tariff, if one does."""
    cost_micro: int | None
    """Of all segments; None: not known."""
    margin_micro: int | None
    """What is left of the account's price; None: one of the two is not known."""


@dataclass(frozen=True, slots=True)
class PriceExplained:
    """How the price of a message comes about."""

    account: str
    tariff: str
    destination: str
    service: str
    """As which it is priced: not what was asked for, where the tariff has nothing of that."""
    segments: int
    price: Price | None
    """The row that matches, if one does."""
    total_micro: int | None
    """Of all segments; None: refused."""
    refusal: NotPriced | None
    costs: tuple[UpstreamCost, ...]
    """Of every upstream whose costs are known, by name."""


async def explain_price(
    conn: Connection, account_name: str, destination: str, segments: int, service: str, now_s: float
) -> PriceExplained | Refused:
    """What an account would pay at a moment (seconds since the Unix epoch, not in the past).

    `service` is "sms", "binary" or a service_type; it is found as a message's price is.
    """
    tariff_id = await conn.fetchval("SELECT tariff_id FROM account WHERE name = $1", account_name)
    if tariff_id is None:
        return no_account(account_name)
    tariff = await load_tariff(conn, tariff_id)
    table = tariff.at(now_s)
    service = service.lower()
    priced_as = service_of(table, service, service == SERVICE_BINARY)
    price = table.find(destination, priced_as)
    total_micro = _total_micro(price, segments)
    refusal: NotPriced | None = None
    if total_micro is None:
        refusal = "no_price" if price is None else "not_sold"
    costs = await _costs(conn, destination, segments, priced_as, total_micro, now_s)
    return PriceExplained(
        account_name,
        tariff.name,
        destination,
        priced_as,
        segments,
        price,
        total_micro,
        refusal,
        tuple(costs),
    )


def _total_micro(price: Price | None, segments: int) -> int | None:
    return None if price is None or price.price_micro is None else price.price_micro * segments


async def _costs(
    conn: Connection,
    destination: str,
    segments: int,
    service: str,
    total_micro: int | None,
    now_s: float,
) -> list[UpstreamCost]:
    upstreams = await conn.fetch(
        "SELECT name, paused, cost_tariff_id FROM upstream"
        " WHERE cost_tariff_id IS NOT NULL ORDER BY name"
    )
    tariffs = {
        tariff_id: await load_tariff(conn, tariff_id)
        for tariff_id in {row["cost_tariff_id"] for row in upstreams}
    }
    costs = []
    for row in upstreams:
        tariff = tariffs[row["cost_tariff_id"]]
        price = tariff.at(now_s).find(destination, service)
        cost_micro = _total_micro(price, segments)
        margin_micro = (
            None if total_micro is None or cost_micro is None else total_micro - cost_micro
        )
        costs.append(
            UpstreamCost(row["name"], row["paused"], tariff.name, price, cost_micro, margin_micro)
        )
    return costs
