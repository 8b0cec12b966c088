"""smpp-proxy credit …: credits in and out, and where they went."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption, LimitOption, NameArgument, SinceOption
from proxy.credit.money import text_from_micro
from proxy.credit.plans import expiry_of
from proxy.store import credit, history
from proxy.store.outcomes import Refused
from proxy.store.sql import Row

app = common.new_app("Credits: in and out, and where they went.")

COLUMNS = {
    "at": "at",
    "by": "by",
    "operation": "operation",
    "change": "change",
    "balance": "balance",
    "message_id": "message id",
    "note": "note",
}


# An unknown option is taken for an argument here, so that -5 is an amount.
@app.command("add", context_settings={"ignore_unknown_options": True})
def add(
    ctx: typer.Context,
    *,
    name: NameArgument,
    amount: Annotated[
        int,
        typer.Argument(
            parser=common.parse_credits, metavar="AMOUNT", help="Negative to remove credits."
        ),
    ],
    note: Annotated[str | None, typer.Option("--note", help="Kept in the credit log.")] = None,
    by: Annotated[str | None, typer.Option("--by", help="Who adds them; else you.")] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="The same key adds the same amount only once.")
    ] = None,
    expires: Annotated[
        date | None,
        typer.Option(
            "--expires",
            parser=common.parse_day_or_time,
            metavar="DATE",
            help="What is left then expires: after that day (in the account's time zone), or at "
            "an ISO 8601 time.",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add credits to an account, or remove them with a negative amount."""
    expires_at: datetime | None = None

    async def work(conn: Connection) -> credit.Added | credit.Exists | Refused:
        nonlocal expires_at
        if expires is not None:
            expires_at = await _expires_at(conn, name, expires)
        who, mint = by or common.actor(), common.mint()
        return await credit.add_credit(
            conn, name, amount, note=note, by=who, key=key, mint=mint, expires_at=expires_at
        )

    outcome = common.with_database(common.settings_for(ctx, config), work, partitions=True)
    if isinstance(outcome, Refused):
        common.refuse(outcome.reason)
    if as_json:
        added = isinstance(outcome, credit.Added)
        output.print_json(
            {
                "account": name,
                "change": Decimal(text_from_micro(amount)) if added else 0,
                "balance": Decimal(text_from_micro(outcome.balance_micro)),
                "id": outcome.ledger_id,
                "added": added,
                "expires_at": expires_at,
            }
        )
    else:
        _say_added(outcome, name, amount, expires)


def _say_added(
    outcome: credit.Added | credit.Exists, name: str, amount: int, expires: date | None
) -> None:
    balance = text_from_micro(outcome.balance_micro)
    if isinstance(outcome, credit.Exists):
        output.say(f"This key was used already, nothing was added; the balance is {balance}")
        return
    done = "added to" if amount > 0 else "removed from"
    until = f" until {expires}" if expires else ""
    changed = f"{credit.in_words(abs(amount))} {done} {name}{until}"
    output.say(f"{changed}; the balance is {balance}")


async def _expires_at(conn: Connection, name: str, expires: date) -> datetime:
    """The moment when they expire, by the account's time zone; ends the command when it can't."""
    zone = await conn.fetchval("SELECT timezone FROM account WHERE name = $1", name)
    if zone is None:
        common.refuse(f"there is no account {name!r}")
    try:
        return expiry_of(expires, zone)
    except ValueError as error:
        common.refuse(str(error))


@app.command("log")
def log(
    ctx: typer.Context,
    *,
    name: NameArgument,
    since: SinceOption = None,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every change of an account's credits, newest first."""

    async def work(conn: Connection) -> list[Row]:
        rows = await history.credit_log(conn, name, since=since, limit=limit)
        if not rows and not await history.account_exists(conn, name):
            common.refuse(f"there is no account {name!r}")
        return rows

    rows = common.with_database(common.settings_for(ctx, config), work)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(rows, COLUMNS)
