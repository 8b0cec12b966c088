"""What all commands share: the options, the settings, the database, and how to refuse."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import asyncpg
import typer
from asyncpg import Connection

from proxy import config as configuration
from proxy.commands.output import note
from proxy.config import ConfigError, Settings
from proxy.credit.money import micro_from_text
from proxy.credit.times import day_or_time, utc_time
from proxy.store.database import UNREACHABLE, Database, DatabaseUnreachable
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.migrations import MigrationError, migrate, pending
from proxy.telemetry.logs import setup_logging

Result = TypeVar("Result")

STATEMENT_TIMEOUT_S = 600.0
"""Looking for something in months of history may take its time."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The configuration file; else $SMPP_PROXY_CONFIG."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LimitOption = Annotated[
    int, typer.Option("--limit", min=1, max=1_000_000, help="How many at most.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]


def new_app(help_text: str) -> typer.Typer:
    """A Typer application, or group of commands, that behaves like all of them."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=False,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def refuse(reason: str) -> NoReturn:
    """Say why on stderr, in one line, and end with exit status 1."""
    note(" ".join(reason.split()))
    raise typer.Exit(1)


def config_path(ctx: typer.Context, config: Path | None) -> Path | None:
    """The file named after or before the command, or by the environment; None: the default."""
    before = ctx.obj if isinstance(ctx.obj, Path) else None
    return configuration.find(config or before)


def settings_for(ctx: typer.Context, config: Path | None) -> Settings:
    """The settings of that file, or of the embedded default."""
    try:
        settings = configuration.load(config_path(ctx, config))
    except ConfigError as error:
        refuse("; ".join(str(error).splitlines()))
    # A command says its own piece; of the logs only what went wrong belongs beside it.
    setup_logging(settings.logging.model_copy(update={"level": "warning"}))
    return settings


def mint() -> IdMint:
    """Ids of rows that a command writes."""
    return IdMint(COMMAND_NODE)


def with_database(
    settings: Settings, work: Callable[[Connection], Awaitable[Result]], *, partitions: bool = False
) -> Result:
    """Do something with one connection to a database that has this version's schema.

    An embedded database is brought to this version when it is not; another one is left to
    the migrate command.  `partitions` also makes sure of today's: a row of the ledger needs one,
    and perhaps no proxy ran for days.  A database that is away, or fails, is a refusal.
    """

    async def prepared(conn: Connection) -> Result:
        if await pending(conn):
            if not settings.database.embedded:
                refuse("the database is not at this version: run smpp-proxy migrate")
            await migrate(conn)
        if partitions:
            await conn.execute("SELECT ensure_partitions()")
        return await work(conn)

    return with_bare_database(settings, prepared)


def with_bare_database(
    settings: Settings, work: Callable[[Connection], Awaitable[Result]]
) -> Result:
    """Like with_database, whatever schema there is."""

    async def main() -> Result:
        # A person waits for the answer and can give up; a proxy must not wait this long.
        timeout_s = max(settings.database.statement_timeout_s, STATEMENT_TIMEOUT_S)
        patient = settings.database.model_copy(update={"statement_timeout_s": timeout_s})
        database = Database(patient, application_name="smpp-proxy command")
        try:
            await database.open(wait=False)
            async with database.pool.acquire() as conn:
                return await work(conn)
        finally:
            await database.close()

    try:
        return asyncio.run(main())
    except BrokenPipeError:  # whoever read our output is gone; that is not the database
        raise
    except (DatabaseUnreachable, MigrationError) as error:
        refuse(str(error))
    except (asyncpg.PostgresError, *UNREACHABLE) as error:
        refuse(f"the database failed: {error or type(error).__name__}")


def actor() -> str:
    """The name of the person at the keyboard, for the credit log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return f"uid {os.getuid()}"


def parse_credits(text: str) -> int:
    """An amount of credits on the command line, in micro-credits; else a usage error."""
    try:
        return micro_from_text(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_day_or_time(text: str) -> date | datetime:
    """A day, or an ISO 8601 time; else a usage error."""
    try:
        return day_or_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


_AGO = re.compile(r"(\d{1,6})([smhd])")
_AGO_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_since(text: str) -> datetime:
    """A moment: "90s", "15m", "2h", "7d" ago, or an ISO 8601 time (local unless it says)."""
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            seconds = int(ago[1]) * _AGO_SECONDS[ago[2]]
            return datetime.now(UTC) - timedelta(seconds=seconds)
        return utc_time(text, None)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is neither a time such as 2026-01-31T12:00 nor an age such as 15m"
        ) from None


SinceOption = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        parser=parse_since,
        metavar="WHEN",
        help="Only from then on: an ISO 8601 time, or an age such as 90s, 15m, 2h, 7d.",
    ),
]
