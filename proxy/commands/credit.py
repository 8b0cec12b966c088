"""smpp-proxy credit …: credits in and out, and where they went."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption, LimitOption, NameArgument, SinceOption
from proxy.credit.money import text_from_micro
from proxy.store import credit, history

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
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add credits to an account, or remove them with a negative amount."""

    async def work(conn: Connection) -> credit.Added | credit.Exists | credit.Refused:
        return await credit.add_credit(
            conn, name, amount, note=note, by=by or common.actor(), key=key, mint=common.mint()
        )

    outcome = common.with_database(common.settings_for(ctx, config), work, partitions=True)
    if isinstance(outcome, credit.Refused):
        common.refuse(outcome.reason)
    added = isinstance(outcome, credit.Added)
    balance = text_from_micro(outcome.balance_micro)
    if as_json:
        output.print_json(
            {
                "account": name,
                "change": Decimal(text_from_micro(amount)) if added else 0,
                "balance": Decimal(balance),
                "id": outcome.ledger_id,
                "added": added,
            }
        )
    elif added:
        done = "added to" if amount > 0 else "removed from"
        output.say(f"{credit.in_words(abs(amount))} {done} {name}; the balance is {balance}")
    else:
        output.say(f"This key was used already, nothing was added; the balance is {balance}")


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

    async def work(conn: Connection) -> list[history.Row]:
        rows = await history.credit_log(conn, name, since=since, limit=limit)
        if not rows and not await history.account_exists(conn, name):
            common.refuse(f"there is no account {name!r}")
        return rows

    rows = common.with_database(common.settings_for(ctx, config), work)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(rows, COLUMNS)
