"""smpp-proxy messages, message, events: what happened."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Literal

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption, LimitOption, SinceOption
from proxy.credit.cells import printable
from proxy.smpp.vocabulary import command_name, status_name
from proxy.store import history, pages
from proxy.store.ids import ID_MAX
from proxy.store.sql import Row

POLL_S = 0.5
OVERLAP_S = 10.0
"""How late a proxy may write an event, or its clock be wrong, for --follow not to miss it."""

MESSAGE_COLUMNS = {
    "id": "id",
    "submitted_at": "submitted at",
    "account": "account",
    "source_addr": "from",
    "destination_addr": "to",
    "segments": "seg",
    "price": "price",
    "state": "state",
    "upstream": "upstream",
    "receipt_state": "receipt",
}

State = Literal["queued", "sending", "held", "in_doubt", "accepted", "charged", "released"]
Severity = Literal["debug", "info", "warning", "error"]


def messages(
    ctx: typer.Context,
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this account's.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Only to this destination address.")
    ] = None,
    state: Annotated[State | None, typer.Option("--state", help="Only in this state.")] = None,
    since: SinceOption = None,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The delivery history, newest first."""

    async def work(conn: Connection) -> list[Row]:
        rows = await pages.messages(
            conn, account=name, destination=to, state=state, since=since, limit=limit
        )
        if not rows and name is not None and not await history.account_exists(conn, name):
            common.refuse(f"there is no account {name!r}")
        return rows

    rows = common.with_database(common.settings_for(ctx, config), work)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(rows, MESSAGE_COLUMNS)


def message(
    ctx: typer.Context,
    message_id: Annotated[
        int, typer.Argument(metavar="ID", min=0, max=ID_MAX, help="The proxy's message_id.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """One message, with everything that happened to it, in order."""

    async def work(conn: Connection) -> Row:
        row = await history.message(conn, message_id)
        if row is None:
            common.refuse(f"there is no message {message_id}")
        return row

    row = common.with_database(common.settings_for(ctx, config), work)
    if as_json:
        output.print_json(row)
        return
    shown = dict(row)
    shown["command_id"] = command_name(row["command_id"])
    if row["command_status"] is not None:
        shown["command_status"] = status_name(row["command_status"])
    output.print_record(shown, [key for key in row if key != "history"])
    output.say("")
    output.print_table(row["history"], {"at": "at", "what": "what", "detail": "detail"})


def events(
    ctx: typer.Context,
    *,
    name: Annotated[str | None, typer.Option("--account", help="Only about this account.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only of this kind.")] = None,
    severity: Annotated[
        Severity | None, typer.Option("--severity", help="Only of this severity or a higher one.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on printing events as they come.")
    ] = False,
    since: SinceOption = None,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The event log, oldest first: the last --limit events.

    An event that comes often is one row a minute, with a count.  With --follow such a row is
    printed again when its count has grown, and --json prints one object a line.
    """

    async def read(conn: Connection, since: datetime | None, limit: int) -> list[Row]:
        return await history.events(
            conn, account=name, kind=kind, severity=severity, since=since, limit=limit
        )

    async def once(conn: Connection) -> list[Row]:
        return await read(conn, since, limit)

    async def on_and_on(conn: Connection) -> None:
        follower = _Follower(conn, read, _print_json_line if as_json else _print_line)
        await _until_signal(follower.run(since, limit))

    settings = common.settings_for(ctx, config)
    if follow:
        common.with_database(settings, on_and_on)
        return
    rows = common.with_database(settings, once)
    if as_json:
        output.print_json(rows)
    else:
        for row in rows:
            _print_line(row)


Read = Callable[[Connection, datetime | None, int], Awaitable[list[Row]]]


class _Follower:
    """Prints events as they come, each state of a row once."""

    def __init__(self, conn: Connection, read: Read, print_row: Callable[[Row], None]) -> None:
        self._conn = conn
        self._read = read
        self._print_row = print_row
        self._seen: dict[tuple[object, ...], Row] = {}

    async def run(self, since: datetime | None, limit: int) -> None:
        """Print the last `limit` events, then what comes, for ever."""
        cursor = await self._cursor()
        self._show(await self._read(self._conn, since, limit), cursor)
        # What is older than these was left out by the limit, and is not news.
        for row in await self._read(self._conn, cursor, 1_000_000):
            self._seen.setdefault(_key(row), row)
        while True:
            await asyncio.sleep(POLL_S)
            next_cursor = await self._cursor()
            self._show(await self._read(self._conn, cursor, 1_000_000), next_cursor)
            cursor = next_cursor

    async def _cursor(self) -> datetime:
        """Where to read from the next time, by the database's clock."""
        now: datetime = await self._conn.fetchval("SELECT clock_timestamp()")
        return now - timedelta(seconds=OVERLAP_S)

    def _show(self, rows: list[Row], cursor: datetime) -> None:
        for row in rows:
            known = self._seen.get(_key(row))
            if known is None or known["count"] != row["count"]:
                self._print_row(row)
            self._seen[_key(row)] = row
        self._seen = {k: row for k, row in self._seen.items() if row["last_at"] >= cursor}


def _key(row: Row) -> tuple[object, ...]:
    """What makes a row of the event log the same one, later with a larger count."""
    return row["at"], row["account"], row["kind"], row["text"]


async def _until_signal(work: Awaitable[None]) -> None:
    """Await something endless until SIGINT or SIGTERM, which end it quietly."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelled():
            raise


def _print_line(row: Row) -> None:
    count = f" ({row['count']} times)" if row["count"] > 1 else ""
    account = f" {row['account']}:" if row["account"] else ""
    at = output.cell(row["last_at"])
    severity = f"{row['severity']:<7}"
    output.say(f"{at} {severity}{account} {printable(row['text'])}{count} [{row['kind']}]")


def _print_json_line(row: Row) -> None:
    output.print_json(row)
