"""Credits that people put into an account or take out of it.

Messages are charged elsewhere, in batches (charge_batch); this is the slow path, one transaction
for one change, where every refusal is explained.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from asyncpg import Connection

from proxy.credit.money import MAX_MICRO, text_from_micro
from proxy.credit.plans import expiry_text
from proxy.store.events import write_event
from proxy.store.ids import IdMint
from proxy.store.outcomes import Refused, no_account
from proxy.store.sql import load

KEY_MAX = 200
"""The longest idempotency key, in characters: it has to fit an index row."""


@dataclass(frozen=True, slots=True)
class Added:
    """The credits are in the account (or out of it, for a negative amount)."""

    balance_micro: int
    """The balance after the change."""
    ledger_id: int


@dataclass(frozen=True, slots=True)
class Exists:
    """The same key added the same amount before; nothing was changed now."""

    balance_micro: int
    """The balance of today, not of the first time."""
    ledger_id: int
    """The row that the first time wrote."""


async def add_credit(
    conn: Connection,
    account_name: str,
    amount_micro: int,
    *,
    note: str | None = None,
    by: str,
    key: str | None = None,
    mint: IdMint,
    expires_at: datetime | None = None,
    now: datetime | None = None,
) -> Added | Exists | Refused:
    """Add credits to an account, or remove them when the amount is negative.

    One transaction, which writes the ledger row and the event and tells every proxy.  The same
    key with the same amount adds once; with another amount it is refused.

    With `expires_at` (with a time zone) what is left then expires, except what pays a debt.  A
    removal takes credits that do not expire first, then of those that expire first.  `now` is
    the time of day unless it is given.
    """
    now = now or datetime.now(UTC)
    if amount_micro == 0:
        return Refused("the amount is zero")
    if key is not None and not 0 < len(key) <= KEY_MAX:
        return Refused(f"a key has 1 to {KEY_MAX} characters")
    if expires_at is not None and amount_micro < 0:
        return Refused("only credits that are added can expire")
    async with conn.transaction():
        # The id is minted behind this lock: commands share one node number, and the lock is
        # what keeps two of them from minting the same id for one account.
        account = await conn.fetchrow(load("lock_account"), account_name)
        if account is None:
            return no_account(account_name)
        # What is due is not there any more, though no proxy may have come by yet.
        balance_micro = account["balance_micro"] - await expire_account(conn, account["id"], now)
        if key is not None:
            again = await _used_before(conn, account["id"], key, amount_micro, balance_micro)
            if again is not None:
                return again
        if expires_at is not None and expires_at <= now:
            return Refused("credits can't be added that have expired already")
        refusal = _refusal(balance_micro, account["credit_limit_micro"], amount_micro)
        if refusal is not None:
            return refusal
        ledger_id = mint.mint(1)[0]
        await _book(conn, account["id"], ledger_id, amount_micro, expires_at, by, note)
        if key is not None:
            await conn.execute(
                "INSERT INTO credit_key (account_id, key, ledger_id, amount_micro)"
                " VALUES ($1, $2, $3, $4)",
                account["id"],
                key,
                ledger_id,
                amount_micro,
            )
        until = "" if expires_at is None else expiry_text(expires_at, account["timezone"])
        await _tell(conn, account["id"], amount_micro, by, until)
    return Added(balance_micro + amount_micro, ledger_id)


async def _used_before(
    conn: Connection, account_id: int, key: str, amount_micro: int, balance_micro: int
) -> Exists | Refused | None:
    """The answer to a key that was used before, or None when it is new."""
    before = await conn.fetchrow(
        "SELECT ledger_id, amount_micro FROM credit_key WHERE account_id = $1 AND key = $2",
        account_id,
        key,
    )
    if before is None:
        return None
    if before["amount_micro"] != amount_micro:
        first = text_from_micro(before["amount_micro"])
        return Refused(f"this key was used before, with the amount {first}")
    return Exists(balance_micro, before["ledger_id"])


async def expire_account(conn: Connection, account_id: int, now: datetime) -> int:
    """Take what has expired out of an account's balance; returns how many micro-credits."""
    # Locked first, so that expire_grants() sees what was committed meanwhile.
    return (
        await conn.fetchval(
            "SELECT expire_grants(id, $2) FROM (SELECT id FROM account WHERE id = $1"
            " AND next_expiry_at <= $2 FOR NO KEY UPDATE) AS due",
            account_id,
            now,
        )
        or 0
    )


async def _book(
    conn: Connection,
    account_id: int,
    ledger_id: int,
    amount_micro: int,
    expires_at: datetime | None,
    by: str,
    note: str | None,
) -> None:
    """Change the balance and write the ledger row."""
    if expires_at is None:
        if amount_micro < 0:
            await conn.execute("SELECT remove_from_grants($1, $2)", account_id, -amount_micro)
        await conn.execute(load("add_credit"), account_id, ledger_id, amount_micro, by, note)
    else:
        await conn.execute(
            "SELECT grant_credit($1, $2, $3, $4, $5, $6)",
            account_id,
            ledger_id,
            amount_micro,
            expires_at,
            by,
            note,
        )


def _refusal(balance_micro: int, credit_limit_micro: int, amount_micro: int) -> Refused | None:
    """Why the balance can't be changed by the amount, or None when it can."""
    if balance_micro + amount_micro > MAX_MICRO:
        return Refused(f"a balance is at most {text_from_micro(MAX_MICRO)} credits")
    removable_micro = balance_micro + credit_limit_micro
    if removable_micro + amount_micro < 0:
        most = in_words(removable_micro)
        return Refused(f"only {most} can be removed" if removable_micro else "no credits are left")
    return None


def in_words(micro: int) -> str:
    """Micro-credits as "1 credit" or "2.5 credits"."""
    text = text_from_micro(micro)
    return f"{text} credit" if text == "1" else f"{text} credits"


async def _tell(conn: Connection, account_id: int, amount_micro: int, by: str, until: str) -> None:
    """Write the event and wake whoever waits for this account's credits."""
    amount = text_from_micro(abs(amount_micro))
    if amount_micro > 0:
        text = f"Credits added: {amount} by {by}" + (f", until {until}" if until else "")
        await write_event(conn, "credit_added", text, account_id=account_id)
    else:
        await write_event(
            conn, "credit_removed", f"Credits removed: {amount} by {by}", account_id=account_id
        )
    await conn.execute("SELECT pg_notify('smpp_proxy_credit', $1)", str(account_id))
