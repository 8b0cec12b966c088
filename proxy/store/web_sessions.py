"""Who is signed in to the console, on any proxy of this database, and who tries to."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Final

from asyncpg import Connection

from proxy.store.operators import TOKEN_BYTES, Operator, hash_of_token

IDLE_LIFE: Final = timedelta(hours=12)
WHOLE_LIFE: Final = timedelta(days=7)
SEEN_EVERY: Final = timedelta(minutes=1)
"""How exactly it is kept when a session was used last."""

ATTEMPTS_WITHIN: Final = timedelta(minutes=15)
ATTEMPTS_OF_NAME: Final = 10
ATTEMPTS_FROM_ADDRESS: Final = 30


def new_token() -> str:
    """What a browser holds."""
    return secrets.token_urlsafe(TOKEN_BYTES)


async def start(conn: Connection, operator: Operator, now: datetime) -> str:
    """A new session; returns its token.  Sessions that are over are forgotten."""
    token = new_token()
    await conn.execute(
        "DELETE FROM web_session WHERE seen_at <= $1 OR created_at <= $2",
        now - IDLE_LIFE,
        now - WHOLE_LIFE,
    )
    await conn.execute(
        "INSERT INTO web_session (hash, operator_id, created_at, seen_at) VALUES ($1, $2, $3, $3)",
        hash_of_token(token),
        operator.id,
        now,
    )
    await conn.execute("UPDATE operator SET signed_in_at = $2 WHERE id = $1", operator.id, now)
    return token


async def find(conn: Connection, token: str, now: datetime, *, use: bool = True) -> Operator | None:
    """Whose session it is, or None when it is over; `use` counts as being used."""
    row = await conn.fetchrow(
        "SELECT o.id, o.name, o.scope, s.seen_at FROM web_session s JOIN operator o"
        " ON o.id = s.operator_id WHERE s.hash = $1 AND o.enabled"
        " AND s.seen_at > $2 AND s.created_at > $3",
        hash_of_token(token),
        now - IDLE_LIFE,
        now - WHOLE_LIFE,
    )
    if row is None:
        return None
    if use and row["seen_at"] <= now - SEEN_EVERY:
        await conn.execute(
            "UPDATE web_session SET seen_at = $2 WHERE hash = $1", hash_of_token(token), now
        )
    return Operator(row["id"], row["name"], row["scope"])


async def end(conn: Connection, token: str) -> None:
    """Sign out."""
    await conn.execute("DELETE FROM web_session WHERE hash = $1", hash_of_token(token))


# ---------------------------------------------------------------------------- attempts


async def may_try(conn: Connection, name: str, address: str, now: datetime) -> bool:
    """Count an attempt to sign in; False when there were too many, and then it isn't counted."""
    of_name, from_address = _subjects(name, address)
    async with conn.transaction():
        # Else a hundred attempts at once would all see the count from before them.
        await conn.execute("SELECT pg_advisory_xact_lock(hashtext('smpp_proxy_sign_in'))")
        await conn.execute("DELETE FROM sign_in_attempt WHERE at <= $1", now - ATTEMPTS_WITHIN)
        counted = await conn.fetch(
            "SELECT subject, count(*) FROM sign_in_attempt WHERE subject = ANY ($1) GROUP BY 1",
            [of_name, from_address],
        )
        count = dict(counted)
        if (
            count.get(of_name, 0) >= ATTEMPTS_OF_NAME
            or count.get(from_address, 0) >= ATTEMPTS_FROM_ADDRESS
        ):
            return False
        await conn.execute(
            "INSERT INTO sign_in_attempt (subject, at) SELECT unnest($1::text[]), $2",
            [of_name, from_address],
            now,
        )
    return True


async def succeeded(conn: Connection, name: str, address: str) -> None:
    """Forget the attempts of a name, and the last one of an address: they were not an attack."""
    of_name, from_address = _subjects(name, address)
    await conn.execute("DELETE FROM sign_in_attempt WHERE subject = $1", of_name)
    await conn.execute(
        "DELETE FROM sign_in_attempt WHERE id ="
        " (SELECT max(id) FROM sign_in_attempt WHERE subject = $1)",
        from_address,
    )


def _subjects(name: str, address: str) -> tuple[str, str]:
    clean = name[:64].replace("\0", "").encode("utf-8", "replace").decode()
    return f"name {clean}", f"from {address[:64]}"
