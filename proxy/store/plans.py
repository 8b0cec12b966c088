"""Plans: credits that an account gets each day, week or month of its time zone, once per period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import asyncpg
import structlog
from asyncpg import Connection, LockNotAvailableError

from proxy.credit.money import MAX_MICRO, text_from_micro
from proxy.credit.plans import (
    EVERY,
    Every,
    Period,
    period_name,
    period_of,
    periods_between,
    start_of_day,
)
from proxy.store.credit import in_words
from proxy.store.events import write_event
from proxy.store.ids import IdMint
from proxy.store.outcomes import NotFound, Refused, bad_name, no_account
from proxy.store.sql import load

log = structlog.get_logger(__name__)

ACTOR: Final = "smpp-proxy"
"""Who grants what is due, in the credit log."""


@dataclass(frozen=True, slots=True)
class Done:
    """The plan was created, ended for an account, or removed."""

    plan_id: int


@dataclass(frozen=True, slots=True)
class Granted:
    """The credits of one period."""

    account_id: int
    plan: str
    amount_micro: int
    period: str
    """As period_name() gives it."""
    ledger_id: int
    balance_micro: int
    """The balance afterwards."""
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Assigned:
    """The account has the plan."""

    account_id: int
    plan_id: int
    granted: Granted | None
    """None: this period's credits were granted before, or would be more than a balance holds."""


async def create_plan(
    conn: Connection, name: str, amount_micro: int, every: Every, roll_over: bool, by: str
) -> Done | Refused:
    """Create a plan.

    What is left of a period's credits expires when the period ends, unless they roll over.
    """
    if every not in EVERY:
        return Refused(f"a period is one of {', '.join(EVERY)}")
    if not 0 < amount_micro <= MAX_MICRO:
        return Refused("a plan grants more than 0 credits")
    async with conn.transaction():
        try:
            async with conn.transaction():  # a savepoint, for the CHECK to fail in
                plan_id = await conn.fetchval(
                    "INSERT INTO plan (name, amount_micro, every, roll_over)"
                    " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING id",
                    name,
                    amount_micro,
                    every,
                    roll_over,
                )
        except asyncpg.CheckViolationError:
            return bad_name()
        if plan_id is None:
            return Refused(f"there is already a plan {name!r}")
        rolls = ", rolling over" if roll_over else ""
        text = f"Plan {name} added: {in_words(amount_micro)} each {every}{rolls} by {by}"
        await write_event(conn, "plan_added", text)
    return Done(plan_id)


async def list_plans(conn: Connection) -> list[dict[str, Any]]:
    """All plans by name.

    Keys: id, name, credits, every, roll_over, created_at, accounts (names).
    """
    return [dict(row) for row in await conn.fetch(load("plans"))]


async def assign(
    conn: Connection, plan_name: str, account_name: str, *, by: str, mint: IdMint, now: datetime
) -> Assigned | Refused:
    """Give an account a plan, and the current period's credits in the same transaction.

    A period that was granted before the plan was ended is not granted again.
    """
    async with conn.transaction():
        plan, account, missing = await _lock(conn, plan_name, account_name)
        if missing is not None:
            return missing
        active = await conn.fetchval(
            "SELECT ended_at IS NULL FROM account_plan WHERE account_id = $1 AND plan_id = $2",
            account["id"],
            plan["id"],
        )
        if active:
            return Refused(f"account {account_name!r} has plan {plan_name!r} already")
        await conn.execute(
            "INSERT INTO account_plan (account_id, plan_id, started_at) VALUES ($1, $2, $3)"
            " ON CONFLICT (account_id, plan_id)"
            " DO UPDATE SET started_at = excluded.started_at, ended_at = NULL",
            account["id"],
            plan["id"],
            now,
        )
        text = f"Plan {plan_name} assigned by {by}"
        await write_event(conn, "plan_assigned", text, account_id=account["id"])
        granted = await _grant_due(conn, mint, account["id"], plan["id"], now, by)
    return Assigned(account["id"], plan["id"], granted[0] if granted else None)


async def end(
    conn: Connection, plan_name: str, account_name: str, by: str, now: datetime
) -> Done | Refused:
    """End a plan for an account; what was granted stays until it expires."""
    async with conn.transaction():
        plan, account, missing = await _lock(conn, plan_name, account_name)
        if missing is not None:
            return missing
        ended = await conn.execute(
            "UPDATE account_plan SET ended_at = $3"
            " WHERE account_id = $1 AND plan_id = $2 AND ended_at IS NULL",
            account["id"],
            plan["id"],
            now,
        )
        if ended == "UPDATE 0":
            return Refused(f"account {account_name!r} does not have plan {plan_name!r}")
        text = f"Plan {plan_name} ended by {by}"
        await write_event(conn, "plan_ended", text, account_id=account["id"])
    return Done(plan["id"])


async def remove_plan(conn: Connection, name: str, by: str) -> Done | Refused:
    """Remove a plan that no account has; the ledger keeps what it granted."""
    async with conn.transaction():
        plan_id = await conn.fetchval("SELECT id FROM plan WHERE name = $1 FOR UPDATE", name)
        if plan_id is None:
            return NotFound(f"there is no plan {name!r}")
        accounts = await conn.fetchval(
            "SELECT count(*) FROM account_plan WHERE plan_id = $1 AND ended_at IS NULL", plan_id
        )
        if accounts:
            have = "1 account has" if accounts == 1 else f"{accounts} accounts have"
            return Refused(f"{have} plan {name!r}: end it first")
        await conn.execute("DELETE FROM plan_grant WHERE plan_id = $1", plan_id)
        await conn.execute("DELETE FROM account_plan WHERE plan_id = $1", plan_id)
        await conn.execute("DELETE FROM plan WHERE id = $1", plan_id)
        await write_event(conn, "plan_removed", f"Plan {name} removed by {by}")
    return Done(plan_id)


async def grant_due(conn: Connection, mint: IdMint, now: datetime) -> list[Granted]:
    """Grant every period that is due and was not granted, disabled accounts' too.

    Without roll-over that is the current period only, for what was missed would have expired;
    with it every period since the plan was assigned.  One transaction for each account and plan.
    Several proxies may do it at once.  An account that somebody else keeps locked is left for
    the next time.
    """
    due = await conn.fetch(
        "SELECT account_id, plan_id FROM account_plan WHERE ended_at IS NULL AND next_at <= $1"
        " ORDER BY account_id, plan_id",
        now,
    )
    granted: list[Granted] = []
    for row in due:
        account_id, plan_id = row["account_id"], row["plan_id"]
        try:
            async with conn.transaction():
                await conn.execute(
                    "SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE", account_id
                )
                granted += await _grant_due(conn, mint, account_id, plan_id, now, ACTOR)
        except LockNotAvailableError:
            log.warning("plan_not_granted", account_id=account_id, reason="it is locked")
        except ValueError as error:  # a time zone that this machine does not know
            log.warning("plan_not_granted", account_id=account_id, reason=str(error))
    return granted


async def _lock(
    conn: Connection, plan_name: str, account_name: str
) -> tuple[Any, Any, NotFound | None]:
    """The rows of a plan and an account, which stay as they are until the transaction ends."""
    plan = await conn.fetchrow("SELECT id FROM plan WHERE name = $1 FOR KEY SHARE", plan_name)
    if plan is None:
        return None, None, NotFound(f"there is no plan {plan_name!r}")
    account = await conn.fetchrow(load("lock_account"), account_name)
    if account is None:
        return None, None, no_account(account_name)
    return plan, account, None


async def _grant_due(
    conn: Connection, mint: IdMint, account_id: int, plan_id: int, now: datetime, by: str
) -> list[Granted]:
    """What grant_due() does, for one plan of an account that the transaction has locked."""
    plan = await conn.fetchrow(load("plan_of_account"), account_id, plan_id)
    if plan is None:  # ended meanwhile
        return []
    granted = []
    for period in _due(plan, now):
        one = await _grant(conn, mint, plan, period, by)
        if one is not None:
            granted.append(one)
    await conn.execute(
        "UPDATE account_plan SET next_at = $3 WHERE account_id = $1 AND plan_id = $2",
        account_id,
        plan_id,
        period_of(plan["every"], now, plan["timezone"]).ends_at,
    )
    return granted


def _due(plan: Mapping[str, Any], now: datetime) -> list[Period]:
    """The periods to grant, in order: only ever later ones than the last that was granted.

    So a clock that goes back, or a change of the time zone, grants nothing twice.
    """
    every, zone = plan["every"], plan["timezone"]
    last: date | None = plan["last_period"]
    if plan["roll_over"]:
        since = plan["started_at"]
        if last is not None:
            since = max(since, start_of_day(last, zone))
        periods = list(periods_between(every, since, now, zone))
    else:
        periods = [period_of(every, now, zone)]
    return [period for period in periods if last is None or period.first_day > last]


async def _grant(
    conn: Connection, mint: IdMint, plan: Mapping[str, Any], period: Period, by: str
) -> Granted | None:
    """The credits of one period: ledger row, grant, event; None when the balance would overflow."""
    account_id, amount_micro, every = plan["account_id"], plan["amount_micro"], plan["every"]
    amount, name = text_from_micro(amount_micro), period_name(every, period.first_day)
    balance_micro = await conn.fetchval(
        "SELECT balance_micro FROM account WHERE id = $1", account_id
    )
    if balance_micro + amount_micro > MAX_MICRO:
        most = text_from_micro(MAX_MICRO)
        text = f"Credits not granted: {amount} by plan {plan['name']}: a balance is at most {most}"
        await write_event(conn, "credit_not_granted", text, "warning", account_id)
        return None
    ledger_id = mint.mint(1)[0]
    expires_at = None if plan["roll_over"] else period.ends_at
    balance_micro = await conn.fetchval(
        "SELECT grant_credit($1, $2, $3, $4, $5, $6)",
        account_id,
        ledger_id,
        amount_micro,
        expires_at,
        by,
        f"plan {plan['name']}, {name}",
    )
    # The primary key is "once per period", whatever the code above believes.
    await conn.execute(
        "INSERT INTO plan_grant (account_id, plan_id, period, ledger_id) VALUES ($1, $2, $3, $4)",
        account_id,
        plan["plan_id"],
        period.first_day,
        ledger_id,
    )
    text = f"Credits granted: {amount} by plan {plan['name']}"
    await write_event(conn, "credit_granted", text, account_id=account_id)
    return Granted(
        account_id, plan["name"], amount_micro, name, ledger_id, balance_micro, expires_at
    )
