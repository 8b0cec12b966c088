"""What the console's pages show, read in pages that stay right while rows are added.

Pages are those of pages.py, or like them; as there rows are dictionaries, credits exact Decimals
and times in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from asyncpg import Connection

from proxy.store import pages
from proxy.store.ids import id_of_text
from proxy.store.pages import EventKey
from proxy.store.sql import Row, clean, dicts

Key = TypeVar("Key")

PAGE_ROWS: Final = 50
_SEARCH_MAX: Final = 200
"""Of a text that is looked for."""
_REFUSED: Final = "Could not send message.%"
"""How the text of every refusal begins."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Key]):
    """Some rows, in order, and the key that the next page begins behind (None: there is none)."""

    rows: list[Row]
    next: Key | None


# ----------------------------------------------------------------------------- traffic


@dataclass(frozen=True, slots=True)
class Traffic:
    """What happened in each minute, oldest first; the last minute is still going on."""

    minutes: list[datetime]
    accepted: list[int]
    refused: list[int]
    per_second: float
    """Accepted messages a second, over the last minute."""
    refused_per_minute: float
    reasons: list[tuple[str, int]]
    """Why messages were refused, most frequent first."""


async def traffic(conn: Connection, now: datetime, minutes: int = 60) -> Traffic:
    """Messages accepted and refused on every proxy, from the event log."""
    this_minute = now.replace(second=0, microsecond=0)
    first = this_minute - timedelta(minutes=minutes - 1)
    rows = await conn.fetch(
        "SELECT minute, coalesce(sum(count) FILTER (WHERE kind = 'submit_accepted'), 0)::bigint,"
        " coalesce(sum(count) FILTER (WHERE text LIKE $2), 0)::bigint"
        " FROM event WHERE minute >= $1 AND (kind = 'submit_accepted' OR text LIKE $2) GROUP BY 1",
        first,
        _REFUSED,
    )
    counts = {row[0]: (row[1], row[2]) for row in rows}
    times = [first + timedelta(minutes=i) for i in range(minutes)]
    accepted = [counts.get(time, (0, 0))[0] for time in times]
    refused = [counts.get(time, (0, 0))[1] for time in times]
    reasons = await conn.fetch(
        "SELECT text, sum(count)::bigint FROM event WHERE minute >= $1 AND text LIKE $2"
        " GROUP BY 1 ORDER BY 2 DESC LIMIT 8",
        first,
        _REFUSED,
    )
    past = (now - this_minute).total_seconds() / 60
    return Traffic(
        times,
        accepted,
        refused,
        _over_last_minute(accepted, past) / 60,
        _over_last_minute(refused, past),
        [(row[0], row[1]) for row in reasons],
    )


def _over_last_minute(counts: list[int], past: float) -> float:
    """The minute that goes on, and of the one before as much as makes it a whole one."""
    return counts[-1] + counts[-2] * (1 - past)


# ---------------------------------------------------------------------------- accounts


_ACCOUNTS: Final = """
SELECT v.*, p.used_per_hour, p.hours_to_empty
FROM v_account v LEFT JOIN v_pace p ON p.account = v.name
"""


async def accounts(conn: Connection, search: str = "", after: str = "") -> Page[str]:
    """Accounts by name, of those whose name or system_id has the text in it."""
    names = await conn.fetch(
        "SELECT name FROM account a WHERE name > $2 AND ($1 = '' OR strpos(lower(name), $1) > 0"
        " OR EXISTS (SELECT FROM login l"
        " WHERE l.account_id = a.id AND strpos(lower(l.system_id), $1) > 0))"
        " ORDER BY name LIMIT $3",
        _clean(search).lower(),
        _clean(after),
        PAGE_ROWS + 1,
    )
    shown = [row["name"] for row in names[:PAGE_ROWS]]
    rows = await conn.fetch(_ACCOUNTS + "WHERE v.name = ANY ($1) ORDER BY v.name", shown)
    return Page(dicts(rows), shown[-1] if len(names) > PAGE_ROWS else None)


async def account(conn: Connection, name: str) -> Row | None:
    """One account, with its pace."""
    row = await conn.fetchrow(_ACCOUNTS + "WHERE v.name = $1", _clean(name))
    return None if row is None else dict(row)


async def almost_empty(conn: Connection, limit: int = 8) -> list[Row]:
    """Accounts that ran dry, or will within a day at their pace; those that send now first."""
    rows = await conn.fetch(
        "SELECT a.name, credits(a.balance_micro) AS balance, p.used_per_hour, p.hours_to_empty,"
        " a.balance_micro + a.credit_limit_micro <= 0 AS empty"
        " FROM account a LEFT JOIN v_pace p ON p.account = a.name"
        " WHERE a.enabled AND (p.hours_to_empty < 24"
        " OR (a.used_micro > 0 AND a.balance_micro + a.credit_limit_micro <= 0))"
        " ORDER BY p.hours_to_empty NULLS LAST, a.name LIMIT $1",
        limit,
    )
    return dicts(rows)


async def credit_log(conn: Connection, name: str, before: int | None = None) -> Page[int]:
    """The changes of an account's credits, newest first."""
    return _page(await pages.credit_log(conn, name, before=before, limit=PAGE_ROWS + 1), "id")


# ---------------------------------------------------------------------------- messages


@dataclass(frozen=True, slots=True)
class MessageSearch:
    """Which messages are wanted; what is empty lets everything through."""

    account: str = ""
    number: str = ""
    """The beginning of the sender's or the recipient's address."""
    message_id: str = ""
    """Ours, or the one that the carrier gave."""
    state: str = ""
    """Of the credit (held, charged …) or of the receipt (DELIVRD …)."""
    since: datetime | None = None
    until: datetime | None = None


_MESSAGES: Final = """
SELECT * FROM v_message
WHERE id < $1 AND id >= $2 AND ($4 = '' OR account = $4)
  AND ($5 = '' OR starts_with(ltrim(destination_addr, '+'), $5)
       OR starts_with(ltrim(source_addr, '+'), $5)
       OR $5 = ANY (string_to_array(destination_addr, ',')))
  AND ($6 = '' OR state = $6 OR receipt_state = $6)
ORDER BY id DESC LIMIT $3
"""


async def messages(conn: Connection, search: MessageSearch, before: int | None = None) -> Page[int]:
    """The messages that are wanted, newest first."""
    account = _clean(search.account)
    if search.message_id:
        return Page(await _messages_of_id(conn, account, search.message_id), None)
    rows = await pages.newest(
        conn,
        _MESSAGES,
        (account, _clean(search.number).lstrip("+"), _clean(search.state)),
        since=search.since,
        until=search.until,
        before=before,
        limit=PAGE_ROWS + 1,
    )
    return _page(rows, "id")


async def _messages_of_id(conn: Connection, account: str, text: str) -> list[Row]:
    number = id_of_text(text)
    ids = [] if number is None else [number]
    found = await conn.fetch(
        "SELECT message_id FROM outcome WHERE coalesce(receipt_key, smsc_message_id) = $1"
        " ORDER BY message_id DESC LIMIT $2",
        _clean(text),
        PAGE_ROWS,
    )
    ids += [row["message_id"] for row in found]
    rows = await conn.fetch(
        "SELECT * FROM v_message WHERE id = ANY ($1) AND ($2 = '' OR account = $2)"
        " ORDER BY id DESC",
        ids,
        account,
    )
    return dicts(rows)


# ------------------------------------------------------------------------------ events


async def warnings(conn: Connection, since: datetime, limit: int = 12) -> list[Row]:
    """Warnings and errors since then, equal ones counted together, latest first."""
    rows = await conn.fetch(
        "SELECT account, kind, text, max(severity) AS severity, sum(count)::bigint AS count,"
        " max(last_at) AS last_at FROM v_event"
        " WHERE last_at >= $1 AND severity IN ('warning', 'error')"
        " GROUP BY account, kind, text ORDER BY max(last_at) DESC LIMIT $2",
        since,
        limit,
    )
    return dicts(rows)


async def events(
    conn: Connection,
    *,
    account: str = "",
    text: str = "",
    severity: str = "",
    before: EventKey | None = None,
) -> Page[EventKey]:
    """Events of the last minute first."""
    rows = await pages.events(
        conn,
        account=_clean(account) or None,
        text=_clean(text) or None,
        severity=severity if severity in {"info", "warning", "error"} else None,
        before=before,
        limit=PAGE_ROWS + 1,
    )
    return _page(rows, "key")


# ----------------------------------------------------------------------- prices, plans


async def prices(conn: Connection, tariff: str, search: str, offset: int) -> list[Row]:
    """Prices of a tariff by prefix, of those that begin with the text, one more than a page."""
    rows = await conn.fetch(
        "SELECT p.prefix, p.service, credits(p.price_micro) AS price, p.valid_from, p.valid_to"
        " FROM price p JOIN tariff t ON t.id = p.tariff_id WHERE t.name = $1"
        " AND p.retired_at IS NULL AND starts_with(p.prefix, $2)"
        " ORDER BY p.prefix, p.service, p.valid_from NULLS FIRST OFFSET $3 LIMIT $4",
        _clean(tariff),
        _clean(search).lstrip("+"),
        offset,
        PAGE_ROWS + 1,
    )
    return dicts(rows)


async def tariff(conn: Connection, name: str) -> Row | None:
    """One tariff: name, version, created_at."""
    row = await conn.fetchrow(
        "SELECT name, version, created_at FROM tariff WHERE name = $1", _clean(name)
    )
    return None if row is None else dict(row)


async def tariff_names(conn: Connection) -> list[str]:
    """Of all of them."""
    return [row["name"] for row in await conn.fetch("SELECT name FROM tariff ORDER BY name")]


async def plans_of_account(conn: Connection, account: str) -> list[Row]:
    """The plans an account has or had: plan, credits, every, roll_over, started_at, ended_at."""
    rows = await conn.fetch(
        "SELECT p.name AS plan, credits(p.amount_micro) AS credits, p.every::text AS every,"
        " p.roll_over, ap.started_at, ap.ended_at FROM account_plan ap"
        " JOIN plan p ON p.id = ap.plan_id JOIN account a ON a.id = ap.account_id"
        " WHERE a.name = $1 ORDER BY ap.ended_at DESC NULLS FIRST, p.name",
        _clean(account),
    )
    return dicts(rows)


# ----------------------------------------------------------------------------- helpers


def _page(rows: list[Row], key: str) -> Page[Any]:
    """Of one row more than a page, if there are so many."""
    shown = rows[:PAGE_ROWS]
    return Page(shown, shown[-1][key] if len(rows) > PAGE_ROWS else None)


def _clean(text: str) -> str:
    return clean(text, _SEARCH_MAX)
