"""Changing an account: its rules, its tariff, its inbound addresses, its logins."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import asyncpg
from asyncpg import Connection

from proxy.credit.account_keys import KEYS, AccountChanges
from proxy.credit.money import text_from_micro
from proxy.store.accounts import Changed, LoginAdded, all_or_nothing, insert_login
from proxy.store.credit import in_words
from proxy.store.events import write_event
from proxy.store.outcomes import Refused, no_account
from proxy.store.passwords import hash_password
from proxy.store.sql import load


async def set_values(
    conn: Connection, name: str, changes: AccountChanges, *, by: str
) -> Changed | Refused:
    """Change an account; one transaction, and every proxy is told by the table's trigger."""
    password_hash = None
    if changes.password is not None:
        password_hash = await asyncio.to_thread(hash_password, changes.password)
    work = _set_values(conn, name, changes, password_hash, by)
    return await all_or_nothing(conn, work, Changed)


async def _set_values(
    conn: Connection, name: str, changes: AccountChanges, password_hash: str | None, by: str
) -> Changed | Refused:
    account = await conn.fetchrow(load("lock_account"), name)
    if account is None:
        return no_account(name)
    account_id: int = account["id"]
    refusal = await _set_columns(conn, account, changes.columns)
    if refusal is None and changes.tariff is not None:
        refusal = await _set_tariff(conn, account_id, changes.tariff)
    if refusal is None and changes.inbound is not None:
        refusal = await _replace_inbound(conn, account_id, changes.inbound)
    if refusal is not None:
        return refusal
    if password_hash is not None or changes.system_id is not None:
        login = await _set_login(conn, account_id, changes.system_id, password_hash)
        if not isinstance(login, Changed):
            return login
    text = f"Account changed by {by}: {_in_words(changes)}"
    await write_event(conn, "account_changed", text, account_id=account_id)
    return Changed(account_id)


async def _set_columns(
    conn: Connection, account: Mapping[str, Any], columns: Mapping[str, Any]
) -> Refused | None:
    """Set columns; their names come from KEYS only."""
    if not columns:
        return None
    values = dict(columns)
    moment = values.get("valid_until")
    if isinstance(moment, date) and not isinstance(moment, datetime):
        # A day counts to its end, in the account's time zone.
        zone = values.get("timezone") or account["timezone"]
        values["valid_until"] = await conn.fetchval(
            "SELECT ($1::date + 1)::timestamp AT TIME ZONE $2", moment, zone
        )
    unknown = values.keys() - {key.column for key in KEYS.values()}
    if unknown:  # they become part of the statement
        raise ValueError(f"no columns to set: {unknown}")
    assignments = [f"{column} = ${n}" for n, column in enumerate(values, start=2)]
    if "rate" in values:
        # Not the pause that another rate asked for.
        assignments.append("rate_next_at = '-infinity'")
    if "timezone" in values:
        # The day and the month that have begun end where they end there.
        zone_number = 2 + list(values).index("timezone")
        assignments += [
            "day_ends_at = CASE WHEN day_ends_at > now() THEN"
            f" ((now() AT TIME ZONE ${zone_number}::text)::date + 1)::timestamp"
            f" AT TIME ZONE ${zone_number}::text ELSE day_ends_at END",
            "month_ends_at = CASE WHEN month_ends_at > now() THEN"
            f" (date_trunc('month', now() AT TIME ZONE ${zone_number}::text) + interval '1 month')"
            f" AT TIME ZONE ${zone_number}::text ELSE month_ends_at END",
        ]
    sql = f"UPDATE account SET {', '.join(assignments)} WHERE id = $1"  # noqa: S608 - our names
    try:
        async with conn.transaction():  # a savepoint, for the CHECK to fail in
            await conn.execute(sql, account["id"], *values.values())
    except asyncpg.CheckViolationError as error:
        if error.constraint_name != "no_overdraft":
            raise
        owed = in_words(-account["balance_micro"])
        return Refused(f"the account owes {owed}: its credit limit can't be lower")
    except asyncpg.InvalidParameterValueError as error:  # a time zone that PostgreSQL has not
        return Refused(str(error))
    return None


async def _set_tariff(conn: Connection, account_id: int, tariff: str) -> Refused | None:
    changed = await conn.fetchval(
        "UPDATE account a SET tariff_id = t.id FROM tariff t WHERE a.id = $1 AND t.name = $2"
        " RETURNING a.id",
        account_id,
        tariff,
    )
    return None if changed else Refused(f"there is no tariff {tariff!r}")


def _in_words(changes: AccountChanges) -> str:
    """What was changed, without any password."""
    names = {key.column: key.name for key in KEYS.values()}
    parts = [f"{names[c]}={_value(c, v)}" for c, v in changes.columns.items()]
    if changes.tariff is not None:
        parts.append(f"tariff={changes.tariff}")
    if changes.inbound is not None:
        parts.append(f"inbound={','.join(changes.inbound)}")
    if changes.password is not None or changes.system_id is not None:
        parts.append(f"password of {changes.system_id or 'its login'}")
    return ", ".join(parts) or "nothing"


def _value(column: str, value: Any) -> str:
    if value is None or value == []:
        return "none"
    if column.endswith("_micro"):
        return text_from_micro(value)
    if isinstance(value, list):
        return ",".join(value)
    return str(value)


async def _replace_inbound(
    conn: Connection, account_id: int, patterns: Sequence[str]
) -> Refused | None:
    await conn.execute(
        "DELETE FROM inbound WHERE account_id = $1 AND pattern <> ALL ($2)",
        account_id,
        list(patterns),
    )
    try:
        async with conn.transaction():
            await conn.execute(load("insert_inbound"), account_id, list(patterns))
    except asyncpg.CheckViolationError:
        return Refused("an inbound pattern is an address, or a prefix that ends in '*'")
    taken = await conn.fetchrow(load("inbound_of_others"), account_id, list(patterns))
    if taken is not None:
        return Refused(f"inbound {taken['pattern']!r} belongs to account {taken['name']!r}")
    return None


async def _set_login(
    conn: Connection, account_id: int, system_id: str | None, password_hash: str | None
) -> Changed | Refused:
    """Set the password of one login, or add a login."""
    logins = await conn.fetch(
        "SELECT id, system_id FROM login WHERE account_id = $1 ORDER BY id", account_id
    )
    if system_id is None:
        if len(logins) != 1:
            names = ", ".join(login["system_id"] for login in logins)
            return Refused(f"say whose password with system_id=…, one of: {names}")
        system_id = logins[0]["system_id"]
    if password_hash is None:
        return Refused(f"the system_id {system_id!r} needs a password=… as well")
    if system_id not in [login["system_id"] for login in logins]:
        added = await insert_login(conn, account_id, system_id, password_hash)
        return Changed(account_id) if isinstance(added, LoginAdded) else added
    await conn.execute(
        "UPDATE login SET password_hash = $2 WHERE system_id = $1", system_id, password_hash
    )
    return Changed(account_id)


async def current_values(conn: Connection, name: str) -> dict[str, str] | None:
    """The values of an account as `account set` takes them, by key; None: no such account."""
    row = await conn.fetchrow("SELECT * FROM v_account WHERE name = $1", name)
    if row is None:
        return None
    values = {key: _text(row[key]) for key in KEYS}
    return {**values, "tariff": row["tariff"], "inbound": _text(row["inbound"])}


def _text(value: Any) -> str:
    """Something out of v_account, as `account set` takes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    return f"{value:g}" if isinstance(value, float) else str(value)
