"""Credits that expire: what is left of each grant, and taking out what is due.

Spending takes the grant that expires first.  Charges only count account.granted_micro down; what
that leaves of each grant the functions of migration 0003 work out whenever it matters.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import structlog
from asyncpg import Connection, LockNotAvailableError

from proxy.store.credit import expire_account
from proxy.store.sql import load

log = structlog.get_logger(__name__)


async def expire_due(conn: Connection, now: datetime) -> list[tuple[int, int]]:
    """Take what has expired out of every balance: an `expire` row for each grant, an event.

    One transaction for each account.  Several proxies may do it at once.  An account that
    somebody else keeps locked is left for the next time.

    Returns (account_id, micro-credits).
    """
    due = await conn.fetch("SELECT id FROM account WHERE next_expiry_at <= $1 ORDER BY id", now)
    expired = []
    for row in due:
        try:
            micro = await expire_account(conn, row["id"], now)
        except LockNotAvailableError:
            log.warning("credits_not_expired", account_id=row["id"], reason="it is locked")
            continue
        if micro:
            expired.append((row["id"], micro))
    return expired


async def grants_of(conn: Connection, account_name: str) -> list[dict[str, Any]]:
    """What is left of an account's grants, that which expires first on top.

    Keys: id (of the ledger row), granted_at, by, note, amount, left (credits), expires_at.  One
    that is due and that no proxy has come by for is still among them.
    """
    return [dict(row) for row in await conn.fetch(load("grants"), account_name)]
