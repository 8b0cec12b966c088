"""One account on a database, with a clock that only the test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from support.messages import bare_message

from proxy.smpp.vocabulary import ESME_RTHROTTLED
from proxy.store import ledger
from proxy.store.audit import audit
from proxy.store.credit import Added, Exists, add_credit
from proxy.store.grants import expire_due, grants_of
from proxy.store.ids import IdMint
from proxy.store.outcomes import Refused

MICRO = 1_000_000


class Clock:
    """Begins an hour from now, so that the database's own clock is always behind it."""

    def __init__(self) -> None:
        self.now = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def ns(self) -> int:
        """For IdMint."""
        return int(self.now.timestamp()) * 1_000_000_000

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += timedelta(seconds=seconds)


class Purse:
    """Credits in whole numbers; a message is charged and released as the lanes do it."""

    def __init__(self, conn: Any, account_id: int, name: str, clock: Clock) -> None:
        self.conn = conn
        self.account_id = account_id
        self.name = name
        self.clock = clock
        self.mint = IdMint(9, clock.ns)

    async def add(
        self, credits: int, expires_in_s: float | None = None, **values: Any
    ) -> Added | Exists | Refused:
        """Adds or removes; with `expires_in_s` a grant."""
        expires_at = None
        if expires_in_s is not None:
            expires_at = self.clock.now + timedelta(seconds=expires_in_s)
        defaults = {
            "by": "anna",
            "mint": self.mint,
            "expires_at": expires_at,
            "now": self.clock.now,
        }
        return await add_credit(self.conn, self.name, credits * MICRO, **(defaults | values))

    async def charge(self, *prices: int) -> list[Any]:
        """The messages that were charged, in one batch."""
        # What charge_batch does when it comes by a grant that is due, by the database's clock.
        await self.expire()
        messages = [submit(self.account_id, price) for price in prices]
        outcome = await ledger.charge(self.conn, self.mint, messages)
        charged = zip(outcome.messages, outcome.balances, strict=True)
        return [message for message, balance in charged if balance is not None]

    async def release(self, *messages: Any, back: int | None = None) -> None:
        """The upstream refuses them; `back` credits of each are given back, else all."""
        back_micro = None if back is None else back * MICRO
        await ledger.settle(
            self.conn,
            self.mint,
            [
                ledger.Settlement(m, None, ESME_RTHROTTLED, released=True, back_micro=back_micro)
                for m in messages
            ],
        )

    async def expire(self) -> int:
        """What has expired by now, of this account; in credits."""
        expired = dict(await expire_due(self.conn, self.clock.now))
        return expired.get(self.account_id, 0) // MICRO

    async def left(self) -> list[int]:
        """Of each grant that has something left, the one that expires first on top."""
        return [int(row["left"]) for row in await grants_of(self.conn, self.name)]

    async def balance(self) -> int:
        """In credits."""
        return int(await self._of_account("balance_micro")) // MICRO

    async def granted(self) -> int:
        """Of the balance, what expires one day; in credits."""
        return int(await self._of_account("granted_micro")) // MICRO

    async def _of_account(self, column: str) -> int:
        sql = f"SELECT {column} FROM account WHERE id = $1"
        return int(await self.conn.fetchval(sql, self.account_id))

    async def log(self) -> list[tuple[str, int, int]]:
        """(operation, change, balance), in the order in which the rows were written."""
        rows = await self.conn.fetch(
            "SELECT operation::text, amount_micro, balance_micro FROM ledger WHERE account_id = $1"
            " ORDER BY xmin::text::bigint, id",
            self.account_id,
        )
        return [(op, change // MICRO, balance // MICRO) for op, change, balance in rows]

    async def assert_books_balance(self) -> None:
        """The audit finds nothing about it."""
        findings = [f for f in await audit(self.conn) if f.account in {self.name, "all accounts"}]
        assert findings == []


async def new_purse(
    conn: Any, name: str, *, limit: int = 0, timezone: str = "UTC", clock: Clock | None = None
) -> Purse:
    """An account without credits."""
    account_id = await conn.fetchval(
        "INSERT INTO account (name, credit_limit_micro, timezone) VALUES ($1, $2, $3) RETURNING id",
        name,
        limit * MICRO,
        timezone,
    )
    return Purse(conn, account_id, name, clock or Clock())


def submit(account_id: int, credits: int) -> Any:
    """What charge() needs to know of a message of that price."""
    return bare_message(account_id, credits * MICRO)
