"""smpp-proxy operator …: who may sign in to the console."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption
from proxy.store import operators
from proxy.store.outcomes import Refused

app = common.new_app("Operators: who may sign in to the console.")

COLUMNS = {
    "name": "name",
    "scope": "scope",
    "enabled": "enabled",
    "sessions": "sessions",
    "signed_in_at": "signed in at",
    "created_at": "created at",
    "created_by": "created by",
}

Scope = Literal["read", "credit", "admin"]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The operator's name.")]
PasswordOption = Annotated[
    str | None, typer.Option("--password", help="Else it is asked for on the terminal.")
]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


def _password(given: str | None, from_stdin: bool) -> str:
    """The password; what is seen by nobody else is asked twice."""
    if given is not None and from_stdin:
        raise typer.BadParameter("say either --password or --password-stdin")
    if from_stdin:
        given = sys.stdin.readline().rstrip("\r\n")
    elif given is None:
        if not sys.stdin.isatty():
            raise typer.BadParameter("there is no terminal to ask on: use --password-stdin")
        given = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    problem = operators.password_problem(given)
    if problem is not None:
        common.refuse(problem)
    return given


@app.command("add")
def add(
    ctx: typer.Context,
    *,
    name: Name,
    scope: Annotated[
        Scope, typer.Option("--scope", help="read looks, credit also adds credits, admin does all.")
    ],
    password: PasswordOption = None,
    password_stdin: StdinOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let somebody sign in to the console."""
    secret = _password(password, password_stdin)

    async def work(conn: Connection) -> operators.Done | Refused:
        return await operators.add(conn, name, secret, scope, by=common.actor())

    _change(ctx, config, name, as_json, work)


@app.command("list")
def list_operators(
    ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List all operators."""
    rows = common.with_database(common.settings_for(ctx, config), operators.all_operators)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(rows, COLUMNS)


@app.command("disable")
def disable(
    ctx: typer.Context, name: Name, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Sign an operator out and keep them out."""

    async def work(conn: Connection) -> operators.Done | Refused:
        return await operators.set_enabled(conn, name, False, by=common.actor())

    _change(ctx, config, name, as_json, work)


@app.command("enable")
def enable(
    ctx: typer.Context, name: Name, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Let a disabled operator sign in again."""

    async def work(conn: Connection) -> operators.Done | Refused:
        return await operators.set_enabled(conn, name, True, by=common.actor())

    _change(ctx, config, name, as_json, work)


@app.command("scope")
def scope(
    ctx: typer.Context,
    name: Name,
    scope: Annotated[Scope, typer.Argument(metavar="SCOPE", help="read, credit or admin.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let an operator do more, or less."""

    async def work(conn: Connection) -> operators.Done | Refused:
        return await operators.set_scope(conn, name, scope, by=common.actor())

    _change(ctx, config, name, as_json, work)


@app.command("password")
def password(
    ctx: typer.Context,
    *,
    name: Name,
    password: PasswordOption = None,
    password_stdin: StdinOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set an operator's password; ends their sessions."""
    secret = _password(password, password_stdin)

    async def work(conn: Connection) -> operators.Done | Refused:
        return await operators.set_password(conn, name, secret, by=common.actor())

    _change(ctx, config, name, as_json, work)


def _change(
    ctx: typer.Context,
    config: Any,
    name: str,
    as_json: bool,
    work: Callable[[Connection], Awaitable[operators.Done | Refused]],
) -> None:
    """Do it, and show the operator as it is then."""

    async def changed(conn: Connection) -> dict[str, Any] | None:
        outcome = await work(conn)
        if isinstance(outcome, Refused):
            common.refuse(outcome.reason)
        return await operators.find(conn, name)

    row = common.with_database(common.settings_for(ctx, config), changed, partitions=True)
    assert row is not None
    if as_json:
        output.print_json(row)
    else:
        output.print_record(row, list(COLUMNS))
