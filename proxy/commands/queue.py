"""smpp-proxy queue …: what was charged and answered, and waits for its upstream."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption
from proxy.flow import queue_changes
from proxy.flow.queue_changes import Cancelled
from proxy.smpp.vocabulary import command_name, status_name
from proxy.store import history, queue_pages
from proxy.store.ids import ID_MAX
from proxy.store.outcomes import Refused
from proxy.store.queue_pages import Selection
from proxy.store.sql import Row

app = common.new_app("The durable queue: look at what waits, try it now, or take it out.")

LIMIT = 50
SUMMARY_COLUMNS = {
    "route": "route",
    "messages": "messages",
    "sending": "on their way",
    "scheduled": "scheduled",
    "oldest_at": "oldest due at",
}
COLUMNS = {
    "id": "id",
    "account": "account",
    "destination_addr": "to",
    "route": "route",
    "state": "state",
    "attempts": "attempts",
    "next_at": "next attempt at",
    "expires_at": "expires at",
    "last_status": "last status",
}

IdsArgument = Annotated[
    list[int] | None,
    typer.Argument(metavar="[ID]...", min=0, max=ID_MAX, help="Messages, by message_id."),
]
AccountOption = Annotated[
    str | None, typer.Option("--account", metavar="NAME", help="All messages of this account.")
]
RouteOption = Annotated[
    str | None, typer.Option("--route", metavar="NAME", help="All messages of this route.")
]


@app.command("list")
def list_all(
    ctx: typer.Context,
    *,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Only this account's messages, oldest first."),
    ] = None,
    route: Annotated[
        str | None, typer.Option("--route", metavar="NAME", help="Only of this route.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, max=1_000_000, help=f"How many at most; else {LIMIT}."),
    ] = None,
    routes: Annotated[bool, typer.Option("--routes", help="Only count, by route.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What waits: a summary by route or, with any of NAME, --route, --limit, the messages.

    The next to go comes first; of one account, the oldest.
    """
    counted = routes or (name is None and route is None and limit is None)

    async def work(conn: Connection) -> list[Row]:
        if name is not None and not await history.account_exists(conn, name):
            common.refuse(f"there is no account {name!r}")
        if counted:
            rows = await queue_pages.summary(conn, name)
            return [row for row in rows if route in {None, row["route"]}]
        if name is not None:
            return await queue_pages.of_account(conn, name, route=route, limit=limit or LIMIT)
        return await queue_pages.next_to_go(conn, route=route, limit=limit or LIMIT)

    rows = common.with_database(common.settings_for(ctx, config), work)
    for row in rows:
        row.pop("key", None)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(map(_shown, rows), SUMMARY_COLUMNS if counted else COLUMNS)


def _shown(row: Row) -> Row:
    status = row.get("last_status")
    return row if status is None else {**row, "last_status": status_name(status)}


@app.command("show")
def show(
    ctx: typer.Context,
    message_id: Annotated[
        int, typer.Argument(metavar="ID", min=0, max=ID_MAX, help="The proxy's message_id.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """One message of the queue: how often it was tried, when it goes, and who is before it.

    What became of one that is not there any more: `message ID`.
    """

    async def work(conn: Connection) -> Row:
        row = await queue_pages.message(conn, message_id)
        if row is None:
            common.refuse(f"there is no message {message_id} in the queue")
        return row

    row = common.with_database(common.settings_for(ctx, config), work)
    if as_json:
        output.print_json(row)
        return
    shown = {**_shown(row), "command_id": command_name(row["command_id"])}
    output.print_record(shown, list(row))


@app.command("retry")
def retry(
    ctx: typer.Context,
    ids: IdsArgument = None,
    route: RouteOption = None,
    account: AccountOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try messages now that wait for another attempt, with all before them to their destination.

    What is on its way, and what is scheduled for later, stays as it is.
    """
    _check(ids, route, account)

    async def work(conn: Connection) -> int:
        chosen = await _chosen(conn, ids, route, account)
        return await queue_changes.retry(conn, chosen, by=common.actor())

    lines = common.with_database(common.settings_for(ctx, config), work, partitions=True)
    if as_json:
        output.print_json({"destinations": lines})
    if not lines:
        common.refuse("nothing waits for another attempt there")
    if not as_json:
        what = "destination is" if lines == 1 else "destinations are"
        output.say(f"{lines} {what} tried now.")


@app.command("cancel")
def cancel(
    ctx: typer.Context,
    *,
    ids: IdsArgument = None,
    route: RouteOption = None,
    account: AccountOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take messages out of the queue: they are not sent, and their credit goes back.

    Credit goes back as the account's charge_on says, and who asked for a receipt gets one
    (DELETED).  What is on its way already is left.
    """
    _check(ids, route, account)
    settings = common.settings_for(ctx, config)

    async def look(conn: Connection) -> int:
        return await queue_pages.count(conn, await _chosen(conn, ids, route, account))

    async def work(conn: Connection) -> Cancelled:
        chosen = await _chosen(conn, ids, route, account)
        return await queue_changes.cancel(conn, common.mint(), chosen, by=common.actor())

    if not yes:
        number = common.with_database(settings, look)
        if not number:
            common.refuse("there is no such message in the queue")
        what = "1 message" if number == 1 else f"{number} messages"
        if not _sure(f"Cancel {what}?"):
            common.refuse("nothing was cancelled")
    done = common.with_database(settings, work, partitions=True)
    if as_json:
        output.print_json({"cancelled": done.cancelled, "left": done.left})
    if not done.cancelled:
        common.refuse(
            f"nothing was cancelled: {done.left} on their way"
            if done.left
            else "there is no such message in the queue"
        )
    if not as_json:
        left = f"; {done.left} on their way were left" if done.left else ""
        noun = "message" if done.cancelled == 1 else "messages"
        output.say(f"{done.cancelled} {noun} cancelled{left}.")


def _sure(question: str) -> bool:
    """Ask whoever is at the keyboard, on stderr: stdout is for what was asked for."""
    # typer.confirm writes a space to stdout.
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return answer.strip().lower() in {"y", "yes"}


def _check(ids: list[int] | None, route: str | None, account: str | None) -> None:
    """Wrong usage unless messages are chosen by their ids, or by account, route or both."""
    if bool(ids) == (route is not None or account is not None):
        raise typer.BadParameter("give message IDs, or --account, --route or both of these")


async def _chosen(
    conn: Connection, ids: list[int] | None, route: str | None, account: str | None
) -> Selection:
    chosen = await queue_pages.selection(conn, ids=ids or (), route=route, account=account)
    if isinstance(chosen, Refused):
        common.refuse(chosen.reason)
    return chosen
