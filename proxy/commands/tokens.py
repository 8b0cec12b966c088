"""smpp-proxy token …: who may use the HTTP API."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption
from proxy.credit.plans import expiry_of
from proxy.store import tokens
from proxy.store.outcomes import Refused
from proxy.store.sql import Row

app = common.new_app("Tokens: who may use the HTTP API.")

TokenArgument = Annotated[str, typer.Argument(metavar="NAME", help="The token's name.")]

COLUMNS = {
    "name": "name",
    "scope": "scope",
    "account": "account",
    "created_at": "created at",
    "created_by": "by",
    "expires_at": "expires at",
    "last_used_at": "last used at",
    "revoked_at": "revoked at",
}


class Scope(StrEnum):
    """What a token allows; each what the ones before it allow."""

    READ = "read"
    CREDIT = "credit"
    ADMIN = "admin"


def parse_expiry(text: str) -> datetime:
    """A date (good through that day, UTC) or an ISO 8601 time (local unless it says)."""
    when = common.parse_day_or_time(text)
    try:
        return expiry_of(when.astimezone() if isinstance(when, datetime) else when, "UTC")
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error)) from None


@app.command("create")
def create(
    ctx: typer.Context,
    *,
    name: TokenArgument,
    scope: Annotated[
        Scope,
        typer.Option(
            "--scope", help="read looks; credit also adds and removes credits; admin does all."
        ),
    ],
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="A", help="Sees this account only, with --scope read."),
    ] = None,
    expires: Annotated[
        datetime | None,
        typer.Option(
            "--expires", parser=parse_expiry, metavar="DATE", help="When it ends; else never."
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it, this once: only its hash is kept."""

    async def work(conn: Connection) -> tokens.TokenCreated | Refused:
        return await tokens.create_token(
            conn, name, scope.value, account=account, expires_at=expires, by=common.actor()
        )

    outcome = common.with_database(common.settings_for(ctx, config), work, partitions=True)
    if isinstance(outcome, Refused):
        common.refuse(outcome.reason)
    if as_json:
        output.print_json(
            {"name": name, "scope": scope.value, "account": account, "token": outcome.token}
        )
        return
    output.say(outcome.token)
    output.note("Keep it now: it can't be shown again.  Requests send it as")
    output.note("  Authorization: Bearer sp_…")


@app.command("list")
def list_tokens(
    ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List all tokens, revoked ones included."""

    async def work(conn: Connection) -> list[Row]:
        return await tokens.list_tokens(conn)

    rows = common.with_database(common.settings_for(ctx, config), work)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(rows, COLUMNS)


@app.command("revoke")
def revoke(
    ctx: typer.Context,
    name: TokenArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a token at once.  Its name is not free again, because the log names it."""

    async def work(conn: Connection) -> tokens.TokenRevoked | Refused:
        return await tokens.revoke_token(conn, name, by=common.actor())

    outcome = common.with_database(common.settings_for(ctx, config), work, partitions=True)
    if isinstance(outcome, Refused):
        common.refuse(outcome.reason)
    if as_json:
        output.print_json({"name": name, "revoked": True})
    else:
        output.say(f"Token {name} is revoked")
