"""A proxy in this process, in front of a simulated carrier, on a fresh database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from pydantic import SecretStr
from support.esme import Esme
from support.waiting import eventually

from proxy.app import Proxy
from proxy.config import (
    DatabaseSettings,
    DeliverySettings,
    HttpSettings,
    Settings,
    SmppSettings,
    UpstreamSettings,
)
from proxy.credit.account_keys import changes_from_text
from proxy.credit.money import micro_from_text
from proxy.credit.price_rows import PriceRow
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions
from proxy.store import account_values, accounts, credit, tariffs
from proxy.store.audit import audit
from proxy.store.ids import COMMAND_NODE, IdMint


class Running:
    """The proxy, its carrier, and short ways to look at both."""

    def __init__(self, proxy: Proxy, smsc: SimulatedSmsc) -> None:
        self.proxy = proxy
        self.smsc = smsc
        self.mint = IdMint(COMMAND_NODE)

    def esme(self) -> Esme:
        """A client of the proxy; use it with `async with`, then bind."""
        return Esme("127.0.0.1", self.proxy.server.port)

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """Rows of the database."""
        return list(await self.proxy.database.pool.fetch(sql, *args))

    async def fetchval(self, sql: str, *args: object) -> Any:
        """One value of the database."""
        return await self.proxy.database.pool.fetchval(sql, *args)

    async def add_account(self, name: str, credits: int = 100, **values: object) -> int:
        """An account with a login of the same name and password; returns its id."""
        async with self.proxy.database.pool.acquire() as connection:
            await accounts.create(
                connection,
                name,
                password=name,
                credit_micro=credits * 1_000_000,
                by="test",
                mint=self.mint,
            )
            for key, value in values.items():
                changes = changes_from_text({key: str(value)})
                outcome = await account_values.set_values(connection, name, changes, by="test")
                assert isinstance(outcome, accounts.Changed), outcome
        return int(await self.fetchval("SELECT id FROM account WHERE name = $1", name))

    async def set_account(self, name: str = "demo", **values: object) -> None:
        """As `account set`; returns once the proxy knows."""
        changes = changes_from_text({key: str(value) for key, value in values.items()})
        async with self.proxy.database.pool.acquire() as connection:
            outcome = await account_values.set_values(connection, name, changes, by="test")
            assert isinstance(outcome, accounts.Changed), outcome
        await self.proxy.refresh.once()

    async def set_prices(self, tariff: str, *prices: tuple[str, str, str | None]) -> None:
        """(prefix, service, price in credits; None: not sold) as all of a tariff's rows."""
        rows = [
            PriceRow(prefix, service, None if price is None else micro_from_text(price))
            for prefix, service, price in prices
        ]
        async with self.proxy.database.pool.acquire() as connection:
            await tariffs.import_prices(connection, tariff, rows, by="test")
        await self.proxy.refresh.once()

    async def add_credit(self, name: str, credits: int) -> None:
        """Top up; returns once this proxy has heard of it, which takes less than a second."""
        async with self.proxy.database.pool.acquire() as connection:
            await credit.add_credit(
                connection,
                name,
                credits * 1_000_000,
                note="test",
                by="test",
                key=None,
                mint=self.mint,
            )
        known = [a for a in self.proxy._registry.accounts.values() if a.name == name]
        await eventually(lambda: all(a.dry_micro is None for a in known), timeout_s=4)

    async def balance(self, name: str = "demo") -> Decimal:
        """In credits."""
        return Decimal(await self.fetchval("SELECT balance FROM v_account WHERE name = $1", name))

    async def state(self, message_id: int) -> str:
        """Of a message."""
        return str(await self.fetchval("SELECT state FROM v_message WHERE id = $1", message_id))

    async def assert_books_balance(self) -> None:
        """The audit finds nothing."""
        async with self.proxy.database.pool.acquire() as connection:
            assert await audit(connection) == []


def upstream_settings(smsc: SimulatedSmsc, **values: Any) -> UpstreamSettings:
    """How to reach a simulated carrier."""
    return UpstreamSettings(
        **{
            "name": "carrier",
            "host": "127.0.0.1",
            "port": smsc.port,
            "system_id": "proxy",
            "password": SecretStr("proxy"),
            "reconnect_min_s": 0.05,
            "reconnect_max_s": 0.2,
            **values,
        }
    )


@asynccontextmanager
async def running_proxy(
    database_url: str,
    *,
    options: SmscOptions | None = None,
    smpp: dict[str, Any] | None = None,
    upstream: dict[str, Any] | None = None,
    delivery: dict[str, Any] | None = None,
    http: dict[str, Any] | None = None,
    smsc: SimulatedSmsc | None = None,
    also: Sequence[SimulatedSmsc] = (),
    credits: int = 100,
    **sections: Any,
) -> AsyncIterator[Running]:
    """A proxy with account demo/demo and one carrier; stopped (drained) at the end.

    The carriers in `also` are second to it.
    """
    own_smsc = smsc is None
    if smsc is None:
        # What it refuses it refuses for good: nothing is tried again.
        final = SmscOptions(receipt_delay_s=0.0, refuse_status=0x66)
        smsc = SimulatedSmsc(options or final)
        await smsc.start()
    settings = Settings(
        database=DatabaseSettings(url=database_url),
        smpp=SmppSettings(**{"port": 0, **(smpp or {})}),
        http=HttpSettings(**{"enabled": False, "port": 0, **(http or {})}),
        delivery=DeliverySettings(**{"retry_min_s": 0.05, **(delivery or {})}),
        upstream=[
            upstream_settings(smsc, **(upstream or {})),
            *(upstream_settings(other, name=f"also{i}") for i, other in enumerate(also)),
        ],
        **sections,
    )
    proxy = Proxy(settings)
    try:
        await proxy.start()
        one = Running(proxy, smsc)
        if not await one.fetchval("SELECT count(*) FROM account WHERE name = 'demo'"):
            await one.add_account("demo", credits)
        yield one
    finally:
        await proxy.stop()
        if own_smsc:
            await smsc.stop()
