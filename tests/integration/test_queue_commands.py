"""queue, route and upstream list as people and scripts run them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support.queued import account, claim, enqueue, put_off

from proxy.config import DatabaseSettings
from proxy.store import history, nodes
from proxy.store.database import Database
from proxy.store.embedded import EmbeddedPostgres

Result = TypeVar("Result")

TIMEOUT_S = 60
CONFIG = """
[database]
data_dir = "{data_dir}"
[[upstream]]
name = "a"
host = "a.test"
system_id = "p"
password = "p"
[[upstream]]
name = "m"
kind = "modem"
device = "/dev/ttyUSB0"
per_day = 500
[[route]]
prefix = "33"
upstreams = ["a", "m"]
policy = "weighted"
weights = [3, 1]
mode = "direct"
when_down = "queue"
[[route]]
name = "modems"
prefix = "44"
upstreams = ["m"]
"""


class Commands:
    """Runs commands on one embedded database."""

    def __init__(self, home: Path) -> None:
        self.data_dir = home / "d"
        self.config = home / "proxy.toml"
        self.config.write_text(CONFIG.format(data_dir=self.data_dir))
        self.environment = {
            k: v for k, v in os.environ.items() if k not in {"SMPP_PROXY_CONFIG", "COLUMNS"}
        } | {"SMPP_PROXY_CONFIG": str(self.config), "PYTHONWARNINGS": "ignore"}

    def run(self, *arguments: str, status: int = 0, stdin: str = "") -> tuple[str, str]:
        """stdout and stderr of a command that ends with that status."""
        done = subprocess.run(
            [sys.executable, "-m", "proxy", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr.strip()

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", status=status)[0])

    def work(self, work: Callable[[Any], Awaitable[Result]]) -> Result:
        """Something with a connection beside the commands."""

        async def main() -> Result:
            database = Database(DatabaseSettings(data_dir=self.data_dir))
            await database.open(wait=False)
            try:
                async with database.pool.acquire() as conn:
                    return await work(conn)
            finally:
                await database.close()

        return asyncio.run(main())


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    home = Path(tempfile.mkdtemp(prefix="smpp-c-"))  # short: it holds a unix socket
    runner = Commands(home)
    # One user of the server that stays, so that it is not started for every command.
    server = EmbeddedPostgres(runner.data_dir)
    try:
        asyncio.run(server.start())
        runner.run("migrate")

        async def accounts(conn: Any) -> None:
            await conn.execute("SELECT ensure_partitions()")
            await account(conn)
            await account(conn, "other")

        runner.work(accounts)
        yield runner
    finally:
        asyncio.run(server.stop())
        shutil.rmtree(home)


@pytest.fixture(autouse=True)
def _empty_queue(commands: Commands) -> None:
    async def empty(conn: Any) -> None:
        await conn.execute("DELETE FROM queued; DELETE FROM queue_line; DELETE FROM node_status")

    commands.work(empty)


def add(commands: Commands, name: str, *numbers: str, put_them_off: bool = False) -> list[str]:
    """Messages of an account to these numbers; returns their ids."""

    async def work(conn: Any) -> list[int]:
        account_id = await conn.fetchval("SELECT id FROM account WHERE name = $1", name)
        ids = await enqueue(conn, account_id, *numbers)
        if put_them_off:
            await put_off(conn, await claim(conn))
        return ids

    return [str(message_id) for message_id in commands.work(work)]


def test_what_waits_is_counted_listed_and_shown(commands: Commands) -> None:
    assert commands.json("queue", "list") == []
    tried, second = add(commands, "shop", "441", "442", put_them_off=True)
    [foreign] = add(commands, "other", "441")
    [row] = commands.json("queue", "list")
    assert (row["route"], row["messages"], row["sending"]) == ("modems", 3, 0)
    assert commands.json("queue", "list", "--routes", "shop")[0]["messages"] == 2
    rows = commands.json("queue", "list", "--limit", "2")
    assert str(rows[0]["id"]) == foreign and len(rows) == 2
    rows = commands.json("queue", "list", "shop")
    assert [str(one["id"]) for one in rows] == [tried, second]
    assert (rows[0]["attempts"], rows[0]["last_status"]) == (1, 0x58)
    assert datetime.fromisoformat(rows[0]["next_at"]) > datetime.now(UTC)
    assert commands.json("queue", "list", "--route", "nowhere") == []
    table, _ = commands.run("queue", "list", "shop")
    assert "ESME_RTHROTTLED" in table and "441" in table
    shown = commands.json("queue", "show", tried)
    assert (shown["last_reason"], shown["before_it"]) == ("it is busy", 0)
    assert "submit_sm" in commands.run("queue", "show", tried)[0]
    _, why = commands.run("queue", "show", "5", status=1)
    assert why == "there is no message 5 in the queue"
    _, why = commands.run("queue", "list", "nobody", status=1)
    assert why == "there is no account 'nobody'"


def test_messages_are_tried_now(commands: Commands) -> None:
    first, _ = add(commands, "shop", "441", "442", put_them_off=True)
    assert commands.json("queue", "retry", first) == {"destinations": 1}
    _, why = commands.run("queue", "retry", first, status=1)
    assert why == "nothing waits for another attempt there"
    out, _ = commands.run("queue", "retry", "--route", "modems")
    assert out == "1 destination is tried now.\n"

    async def look(conn: Any) -> tuple[int, list[Any]]:
        return len(await claim(conn)), await history.events(conn, kind="queue_retried")

    claimed, events = commands.work(look)
    assert claimed == 2
    assert sum(event["count"] for event in events) == 2
    assert all(event["account"] == "shop" for event in events)


async def balance(conn: Any) -> Any:
    return await conn.fetchval("SELECT balance FROM v_account WHERE name = 'shop'")


def test_cancelling_asks_first(commands: Commands) -> None:
    before = commands.work(balance)
    ids = add(commands, "shop", "441", "442", "443")
    add(commands, "other", "441")
    out, asked = commands.run("queue", "cancel", "--account", "shop", status=1, stdin="n\n")
    assert "Cancel 3 messages? [y/N]" in asked and "nothing was cancelled" in asked and not out
    _, asked = commands.run("queue", "cancel", "--account", "shop", status=1)  # nobody answers
    assert asked.splitlines() == ["Cancel 3 messages? [y/N] ", "nothing was cancelled"]
    assert commands.json("queue", "list")[0]["messages"] == 4
    out, _ = commands.run("queue", "cancel", ids[0], stdin="y\n")
    assert out == "1 message cancelled.\n"
    assert commands.json("queue", "cancel", *ids, "--yes") == {"cancelled": 2, "left": 0}
    _, why = commands.run("queue", "cancel", *ids, "--yes", status=1)
    assert why == "there is no such message in the queue"
    _, why = commands.run("queue", "cancel", *ids, status=1)
    assert why == "there is no such message in the queue"
    _, why = commands.run("queue", "cancel", "--account", "nobody", "--yes", status=1)
    assert why == "there is no account 'nobody'"
    [row] = commands.json("queue", "list", "other")
    assert row["state"] == "queued"

    assert commands.work(balance) == before

    async def send(conn: Any) -> None:
        await claim(conn)

    commands.work(send)
    _, why = commands.run("queue", "cancel", "--route", "modems", "--yes", status=1)
    assert why == "nothing was cancelled: 1 on their way"


# ------------------------------------------------------------------------ routes, upstreams


def test_routes_are_listed(commands: Commands) -> None:
    first, second = commands.json("route", "list")
    assert first == {
        "name": "33", "conditions": "destination 33*", "upstreams": ["a", "m"],
        "policy": "weighted", "weights": [3, 1], "mode": "direct", "when_down": "queue",
    }  # fmt: skip
    assert (second["name"], second["mode"]) == ("modems", "queued")
    out, _ = commands.run("route", "list")
    assert "a (3), m (1)" in out and "direct, queued when down" in out


def test_a_route_is_tried(commands: Commands) -> None:
    asked = ("route", "test", "--account", "shop", "--to")
    found = commands.json(*asked, "+447700900123", "--from", "Shop", "--data-coding", "0x08")
    assert (found["route"], found["queued"], found["data_coding"]) == ("modems", True, 8)
    out, _ = commands.run(*asked, "33600000000", "--at", "2027-01-01T12:00")
    for text in ("destination 33*", "direct: the client waits", "1 a segment", "no proxy reports",
                 "a (3)", "not known"):  # fmt: skip
        assert text in out, text
    out, why = commands.run(*asked, "49", status=1)
    assert '"49" does not begin with 33' in out and '"49" does not begin with 44' in out
    assert why == "no route takes it: ESME_RINVDSTADR"
    assert commands.json(*asked, "49", status=1)["route"] is None
    _, why = commands.run("route", "test", "--account", "nobody", "--to", "44", status=1)
    assert why == "there is no account 'nobody'"


def test_upstreams_are_listed_as_the_proxies_report_them(commands: Commands) -> None:
    at_node = {"kind": "smpp", "state": "up", "links": 1, "window_used": 3, "window_max": 100,
               "backlog": 5, "paused": False}  # fmt: skip
    modem = {"name": "m", "kind": "modem", "state": "limit", "links": 0, "window_used": 0,
             "window_max": 0, "backlog": 0, "paused": False, "signal_dbm": -71,
             "used": {"hour": 9, "day": 500, "month": 700},
             "limits": {"hour": None, "day": 500, "month": None}}  # fmt: skip

    async def report(conn: Any) -> None:
        await conn.execute("INSERT INTO upstream (name) VALUES ('a'), ('m') ON CONFLICT DO NOTHING")
        for node in (1, 2):
            status = {"sessions": [], "upstreams": [{"name": "a", **at_node}, modem][: 3 - node]}
            await nodes.write_status(conn, node, status)

    commands.work(report)
    a, m = commands.json("upstream", "list")
    assert (a["state"], a["links"], a["window_used"], a["window_max"]) == ("up", 2, 6, 200)
    assert [one["node"] for one in a["nodes"]] == [1, 2]
    assert (m["kind"], m["state"], m["signal_dbm"]) == ("modem", "limit", -71)
    out, _ = commands.run("upstream", "list")
    for text in ("6/200", "-71 dBm", "9 this hour, 500/500 today, 700 this month"):
        assert text in out, text
    assert commands.json("upstream", "pause", "a")["paused"] is True
    assert commands.json("upstream", "list")[0]["state"] == "paused"
    commands.run("upstream", "resume", "a")
