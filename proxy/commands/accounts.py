"""smpp-proxy account …: who may send, and who pays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption, NameArgument
from proxy.config import Settings
from proxy.credit.account_keys import KEYS, OTHER_KEYS, AccountChanges, changes_from_text
from proxy.smpp.vocabulary import ESME_RMSGQFUL, ESME_RSYSERR, ESME_RTHROTTLED, ESME_RX_T_APPN
from proxy.store import account_values, accounts, history
from proxy.store.outcomes import NotFound
from proxy.store.sql import Row

app = common.new_app("Accounts: who may send, and who pays.")

COLUMNS = {
    "name": "name",
    "enabled": "enabled",
    "balance": "balance",
    "held": "held",
    "credit_limit": "credit limit",
    "max_binds": "max binds",
    "system_ids": "system_id",
    "inbound": "inbound",
}
KANNEL_RETRIES = {ESME_RSYSERR, ESME_RMSGQFUL, ESME_RTHROTTLED, ESME_RX_T_APPN}
PASSWORD_OCTETS = 8
"""SMPP 3.4 section 4.1.1: a C-octet string of at most 9 with its NUL."""


@app.command("add")
def add(
    ctx: typer.Context,
    *,
    name: NameArgument,
    password: Annotated[str, typer.Option("--password", help="What the client binds with.")],
    system_id: Annotated[
        str | None, typer.Option("--system-id", help="What the client binds as; else NAME.")
    ] = None,
    credit: Annotated[
        int | None,
        typer.Option(
            "--credits", parser=common.parse_credits, metavar="N", help="Credits to begin with."
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create an account with one login."""
    if not password:
        raise typer.BadParameter("the password is empty")
    settings = common.settings_for(ctx, config)

    async def work(conn: Connection) -> Row:
        outcome = await accounts.create(
            conn,
            name,
            password=password,
            system_id=system_id,
            credit_micro=credit or 0,
            by=common.actor(),
            mint=common.mint(),
        )
        if not isinstance(outcome, accounts.Created):
            common.refuse(outcome.reason)
        return await _row(conn, name)

    row = common.with_database(settings, work, partitions=True)
    _note_password(password)
    if as_json:
        output.print_json(row)
        return
    _say_what_next(row, settings)


def _say_what_next(row: Row, settings: Settings) -> None:
    name, system_id = row["name"], row["system_ids"][0]
    where = f"{settings.smpp.host}:{settings.smpp.port}"
    output.say(f"Account {name} is there, with {output.cell(row['balance'])} credits.")
    output.say(f"Its client binds to {where} as {system_id}.  Next:")
    if not row["balance"]:
        output.say(f"  smpp-proxy credit add {name} 100")
    output.say(
        f"  smpp-proxy send --system-id {system_id} --password … --to 447700900123 --text hello"
    )


def _note_password(password: str | None) -> None:
    if password is not None and len(password.encode()) > PASSWORD_OCTETS:
        output.note(
            f"Note: SMPP 3.4 passwords have at most {PASSWORD_OCTETS} octets; "
            "some clients cut or refuse longer ones."
        )


@app.command("list")
def list_accounts(
    ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List all accounts."""
    rows = common.with_database(common.settings_for(ctx, config), history.accounts)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(rows, COLUMNS)


@app.command("show")
def show(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show one account."""

    async def work(conn: Connection) -> Row:
        return await _row(conn, name)

    _print(common.with_database(common.settings_for(ctx, config), work), as_json)


_KEYS = "\n".join(
    f"  {name}: {meaning}"
    for name, meaning in {**OTHER_KEYS, **{key.name: key.help for key in KEYS.values()}}.items()
)


@app.command("set", help=f"Change an account; its clients stay bound.\n\nThe keys:\n\n\b\n{_KEYS}")
def set_values(
    ctx: typer.Context,
    name: NameArgument,
    values: Annotated[list[str], typer.Argument(metavar="KEY=VALUE")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change an account (the help is made from the list of keys)."""
    changes = _changes(values)

    async def work(conn: Connection) -> Row:
        outcome = await account_values.set_values(conn, name, changes, by=common.actor())
        if not isinstance(outcome, accounts.Changed):
            common.refuse(outcome.reason)
        return await _row(conn, name)

    row = common.with_database(common.settings_for(ctx, config), work)
    _note_password(changes.password)
    if changes.columns.get("insufficient_status") in KANNEL_RETRIES:
        output.note("Note: Kannel keeps a message with this status and tries again for ever.")
    _print(row, as_json)


def _changes(values: list[str]) -> AccountChanges:
    pairs: dict[str, str] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise typer.BadParameter(f"{value!r} is not key=value")
        if key in pairs:
            raise typer.BadParameter(f"{key} is given twice")
        pairs[key] = text
    try:
        return changes_from_text(pairs)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command("enable")
def enable(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Let a disabled account send again."""
    _print(_set_enabled(ctx, config, name, True), as_json)


@app.command("disable")
def disable(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Keep an account from sending; its credits stay."""
    _print(_set_enabled(ctx, config, name, False), as_json)


def _set_enabled(ctx: typer.Context, config: Path | None, name: str, enabled: bool) -> Row:
    async def work(conn: Connection) -> Row:
        outcome = await accounts.set_enabled(conn, name, enabled, by=common.actor())
        if isinstance(outcome, NotFound):
            common.refuse(outcome.reason)
        return await _row(conn, name)

    return common.with_database(common.settings_for(ctx, config), work)


async def _row(conn: Connection, name: str) -> Row:
    row = await history.account(conn, name)
    if row is None:
        common.refuse(f"there is no account {name!r}")
    return row


def _print(row: Row, as_json: bool) -> None:
    if as_json:
        output.print_json(row)
        return
    shown = dict(row)
    if row["insufficient_status"] is not None:
        shown["insufficient_status"] = f"0x{row['insufficient_status']:X}"
    output.print_record(shown, list(row))
