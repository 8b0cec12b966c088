"""Low-balance warnings and the webhooks that tell of them.

Every statement may run on several proxies at once; each does its work in one statement, so a
proxy that stops in the middle leaves nothing half done.  `now` is for tests; None is the
database's clock, which is the same for all proxies.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from proxy.store.sql import load

WEBHOOK_KEPT_S: Final = 7 * 86400.0
"""How long a webhook stays in the database, whatever became of it."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A threshold that an account crossed just now; the event is written."""

    account: str
    threshold_kind: str
    """"absolute", "hours" or "zero"."""
    kind: str
    """Of the event: "low_balance" or "no_credits"."""
    severity: str
    text: str


@dataclass(frozen=True, slots=True)
class LowAccounts:
    """How many accounts are short of credit now."""

    low: int
    """At or below one of their thresholds."""
    empty: int
    """With nothing left to spend, of those that ever had credit."""


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A webhook that this proxy has claimed and should send now."""

    id: UUID
    attempts: int
    """This one included."""
    account_id: int
    body: str
    """The JSON text to send, the same at each attempt."""


async def rearm_thresholds(conn: Any, *, hours: bool = True, now: datetime | None = None) -> None:
    """Let thresholds fire again that are not crossed any more; `hours` says whether those too."""
    await conn.execute(load("rearm_thresholds"), now, hours)


async def fire_thresholds(
    conn: Any, *, webhooks: bool, hours: bool = True, now: datetime | None = None
) -> list[Fired]:
    """Fire the thresholds that are crossed: events, and webhooks where those are wanted."""
    args = (now, webhooks, hours)
    try:
        rows = await conn.fetch(load("fire_thresholds"), *args)
    except asyncpg.CheckViolationError:  # no partition yet for the events of this day
        await conn.execute("SELECT ensure_partitions()")
        rows = await conn.fetch(load("fire_thresholds"), *args)
    return [Fired(**row) for row in rows]


async def low_accounts(conn: Any) -> LowAccounts:
    """Count the accounts whose thresholds have fired and are still crossed."""
    row = await conn.fetchrow(
        "SELECT count(DISTINCT t.account_id) FILTER (WHERE t.threshold <> '0') AS low,"
        " count(*) FILTER (WHERE t.threshold = '0') AS empty"
        " FROM low_balance_threshold t JOIN account a ON a.id = t.account_id"
        " WHERE t.fired_at > '-infinity' AND t.recovered_at IS NULL AND a.enabled"
    )
    return LowAccounts(**row)


async def sample_usage(conn: Any, now: datetime | None = None) -> None:
    """Note what each account has used, for its pace, and forget what is old."""
    await conn.execute(load("sample_usage"), now)
    await conn.execute(load("forget_samples"), now)


async def claim_webhooks(
    conn: Any, limit: int, *, lease_s: float, now: datetime | None = None
) -> list[DueWebhook]:
    """Take at most so many webhooks that are due; they are this proxy's for `lease_s`."""
    rows = await conn.fetch(load("claim_webhooks"), now, lease_s, limit)
    return [DueWebhook(**row) for row in rows]


async def webhook_delivered(conn: Any, webhook_id: UUID, now: datetime | None = None) -> None:
    """The receiver has it."""
    await conn.execute(
        "UPDATE webhook SET delivered_at = coalesce($2::timestamptz, now()), last_error = NULL"
        " WHERE id = $1 AND delivered_at IS NULL",
        webhook_id,
        now,
    )


async def postpone_webhook(
    conn: Any,
    webhook: DueWebhook,
    reason: str,
    *,
    retry_in_s: float,
    give_up_after_s: float,
    now: datetime | None = None,
) -> bool:
    """The receiver did not take it: try later, or give it up; returns whether it was given up.

    `reason` becomes part of an event, so it has to be one of few texts.
    """
    args = (now, webhook.id, webhook.attempts, reason, retry_in_s, give_up_after_s)
    try:
        given_up = await conn.fetchval(load("postpone_webhook"), *args)
    except asyncpg.CheckViolationError:  # no partition yet for the events of this day
        await conn.execute("SELECT ensure_partitions()")
        given_up = await conn.fetchval(load("postpone_webhook"), *args)
    return bool(given_up)


async def forget_webhooks(conn: Any, now: datetime | None = None) -> None:
    """Delete webhooks that are a week old."""
    await conn.execute(
        "DELETE FROM webhook"
        " WHERE created_at < coalesce($1::timestamptz, now()) - $2 * interval '1 second'",
        now,
        WEBHOOK_KEPT_S,
    )
