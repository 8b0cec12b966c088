"""The commands as people and scripts run them: processes, exit statuses, JSON."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.messages import bare_message

from proxy.config import DatabaseSettings
from proxy.smpp.vocabulary import ESME_RTHROTTLED, ESME_RUNKNOWNERR, SUBMIT_SM
from proxy.store.database import Database
from proxy.store.embedded import EmbeddedPostgres
from proxy.store.ids import IdMint
from proxy.store.ledger import Settlement, charge, settle

if TYPE_CHECKING:
    from tests.conftest import Cluster

TIMEOUT_S = 60
MICRO = 1_000_000
COMMANDS = [
    "",
    "run",
    "check",
    "migrate",
    "account",
    "account add",
    "account list",
    "account show",
    "account set",
    "account enable",
    "account disable",
    "credit",
    "credit add",
    "credit log",
    "plan",
    "plan add",
    "plan list",
    "plan assign",
    "plan end",
    "plan remove",
    "statement",
    "upstream",
    "upstream list",
    "upstream pause",
    "upstream resume",
    "upstream cost",
    "route",
    "route list",
    "route test",
    "queue",
    "queue list",
    "queue show",
    "queue retry",
    "queue cancel",
    "messages",
    "message",
    "events",
    "audit",
    "send",
    "simulate",
    "simulate smsc",
    "simulate modem",
]
GROUPS = {"", "account", "credit", "plan", "upstream", "route", "queue", "simulate"}
SIMULATORS = {"simulate smsc", "simulate modem"}
WRONG_USAGE = [
    "",
    "nonsense",
    "account add eve",
    "account add eve --password",
    "account set eve colour=red",
    "account set eve max_binds",
    "account set eve max_binds=1 max_binds=2",
    "account set eve max_binds=-1",
    "credit add eve",
    "credit add eve much",
    "credit add eve 0.0000001",
    "credit add eve 5 --nonsense",
    "credit add eve 5 --expires tomorrow",
    "credit log eve --limit 0",
    "plan add gold --credits 5",
    "plan add gold --credits 5 --every year",
    "credit log eve --since yesterday",
    "statement",
    "statement eve --by colour",
    "statement eve --from yesterday",
    "message abc",
    "messages --state lost",
    "events --severity loud",
    "send --to 1",
    "simulate smsc --refuse-rate 2",
    "simulate smsc --refuse-status 0",
    "simulate modem --pin 12",
    "simulate modem --receive hello",
    "route test",
    "queue cancel 1 --route modems --yes",
    "route test --account shop --to 447700900123447700900123",
    "route test --account eve --to 44 --at yesterday",
    "queue show abc",
    "queue list --limit 0",
    "queue cancel",
    "queue retry",
    "check --nonsense",
]


class Commands:
    """Runs commands on one embedded database."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data_dir = home / "smpp-proxy"
        self.environment = {
            k: v for k, v in os.environ.items() if k not in {"SMPP_PROXY_CONFIG", "COLUMNS"}
        } | {"XDG_DATA_HOME": str(home), "PYTHONWARNINGS": "ignore"}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "proxy", *arguments],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """Run to the end; returns stdout, or of a refusal the reason that was given."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == status, (arguments, out, err)
        assert "Traceback" not in err
        if status == 1:
            assert len(err.splitlines()) == 1, err
            return err.strip()
        return out

    def json(self, *arguments: str, **environment: str) -> Any:
        return json.loads(self.run(*arguments, "--json", status=0, **environment))

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Any]:
        """A connection beside the commands."""
        database = Database(DatabaseSettings(data_dir=self.data_dir))
        await database.open(wait=False)
        try:
            async with database.pool.acquire() as conn:
                yield conn
        finally:
            await database.close()


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    home = Path(tempfile.mkdtemp(prefix="smpp-c-"))  # short: it holds a unix socket
    runner = Commands(home)
    # One user of the server that stays, so that it is not started for every command.
    server = EmbeddedPostgres(runner.data_dir)
    try:
        asyncio.run(server.start())
        yield runner
    finally:
        asyncio.run(server.stop())
        shutil.rmtree(home)


def at_once(check: Callable[[str], object], lines: list[str]) -> None:
    """Check each of the command lines, a few at a time."""
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(check, line) for line in lines]:
            done.result()


def test_every_command_has_help(commands: Commands) -> None:
    def ask(command: str) -> None:
        out = commands.run(*command.split(), "--help")
        assert out.startswith("Usage: smpp-proxy"), out
        if command not in GROUPS | SIMULATORS:
            assert "--config FILE" in out

    at_once(ask, COMMANDS)


def test_wrong_usage_is_status_2(commands: Commands) -> None:
    at_once(lambda line: commands.run(*line.split(), status=2), WRONG_USAGE)


def test_the_first_command_on_an_embedded_database_makes_it() -> None:
    home = Path(tempfile.mkdtemp(prefix="smpp-c-"))
    try:
        runner = Commands(home)
        assert "Account bob is there" in runner.run("account", "add", "bob", "--password", "p")
        assert not (runner.data_dir / "postgres/postmaster.pid").exists(), "a server is left"
        [row] = runner.json("account", "list")
        assert row["name"] == "bob"
        assert runner.json("migrate") == {"applied": []}
    finally:
        shutil.rmtree(home)


def test_the_story_of_an_account(commands: Commands) -> None:
    out = commands.run("account", "add", "bob", "--password", "p", "--system-id", "bob-1")
    assert "smpp-proxy credit add bob" in out and "bob-1" in out
    assert "already" in commands.run("account", "add", "bob", "--password", "p", status=1)

    row = commands.json("account", "show", "bob")
    assert row["system_ids"] == ["bob-1"] and row["enabled"] is True
    assert row["balance"] == row["held"] == row["credit_limit"] == 0
    assert "2.5 credits added to bob" in commands.run("credit", "add", "bob", "2.5")
    reason = commands.run("credit", "add", "bob", "-3", status=1)
    assert reason == "only 2.5 credits can be removed"
    assert "1 credit removed" in commands.run("credit", "add", "bob", "-1", "--note", "a gift")

    key = ("credit", "add", "bob", "100", "--key", "invoice 7", "--by", "alice")
    first, again = commands.json(*key), commands.json(*key)
    assert (first["added"], first["change"], first["balance"]) == (True, 100, 101.5)
    assert (again["added"], again["change"], again["balance"]) == (False, 0, 101.5)
    assert again["id"] == first["id"]
    refused = commands.run("credit", "add", "bob", "7", "--key", "invoice 7", status=1)
    assert "this key was used before" in refused

    log = commands.json("credit", "log", "bob")
    assert [(r["change"], r["balance"], r["note"]) for r in log] == [
        (100, 101.5, None),
        (-1, 1.5, "a gift"),
        (2.5, 2.5, None),
    ]
    assert set(log[0]) == {"at", "by", "operation", "change", "balance", "message_id", "note"}
    assert (log[0]["by"], log[0]["operation"]) == ("alice", "add")
    assert datetime.fromisoformat(log[0]["at"]) > datetime.now(UTC) - timedelta(hours=1)
    assert len(commands.json("credit", "log", "bob", "--limit", "2", "--since", "1h")) == 2

    changed = commands.json("account", "set", "bob", "max_binds=2", "inbound=44*,123")
    assert (changed["max_binds"], changed["inbound"]) == (2, ["123", "44*"])
    assert commands.json("account", "disable", "bob")["enabled"] is False
    assert commands.json("account", "enable", "bob")["enabled"] is True
    texts = [row["text"] for row in commands.json("events", "--account", "bob")]
    assert "Credits added: 100 by alice" in texts
    assert "the books balance" in commands.run("audit")


def test_unknown_names_are_refused(commands: Commands) -> None:
    for arguments in (
        ("account", "show", "nobody"),
        ("account", "disable", "nobody"),
        ("account", "set", "nobody", "max_binds=1"),
        ("credit", "add", "nobody", "1"),
        ("credit", "log", "nobody"),
        ("messages", "nobody"),
        ("statement", "nobody"),
    ):
        assert commands.run(*arguments, status=1) == "there is no account 'nobody'"
    assert commands.run("message", "1", status=1) == "there is no message 1"


async def send_messages(commands: Commands) -> dict[str, int]:
    """Messages of three fates for the account "sender"; returns their ids."""
    mint = IdMint(1)
    async with commands.database() as conn:
        login = await conn.fetchrow("SELECT id, account_id FROM login WHERE system_id = 'sender'")
        messages = {
            fate: bare_message(
                login["account_id"],
                2 * MICRO,
                login_id=login["id"],
                command_id=SUBMIT_SM,
                source_addr="me\x1b[2J",
                destination_addr=destination,
                segments=2,
                registered_delivery=1,
            )
            for fate, destination in (("sent", "111"), ("refused", "222,333"), ("late", "444"))
        }
        await charge(conn, mint, messages.values())
        upstream = await conn.fetchval("INSERT INTO upstream (name) VALUES ('c') RETURNING id")
        sent = Settlement(messages["sent"], upstream, 0, smsc_message_id="00ff")
        refused = Settlement(messages["refused"], upstream, ESME_RTHROTTLED, released=True)
        doubt = Settlement(messages["late"], upstream, ESME_RUNKNOWNERR, in_doubt=True, reason="!")
        await settle(conn, mint, [sent, refused, doubt])
        late = Settlement(messages["late"], upstream, 0, smsc_message_id="0100", late=True)
        await settle(conn, mint, [late])
        await conn.execute(
            "INSERT INTO delivered (id, account_id, kind, message_id, message_state, error, state,"
            " command_status) VALUES ($1, $2, 'receipt', $3, 2, '000', 'delivered', 0)",
            mint.mint(1)[0],
            login["account_id"],
            messages["sent"].id,
        )
    return {fate: message.id for fate, message in messages.items()}


def test_the_history_of_messages(commands: Commands) -> None:
    commands.run("account", "add", "sender", "--password", "p", "--credits", "10")
    ids = asyncio.run(send_messages(commands))

    rows = commands.json("messages", "sender")
    assert [row["id"] for row in rows] == sorted(ids.values(), reverse=True)
    by_id = {row["id"]: row for row in rows}
    sent = by_id[ids["sent"]]
    assert (sent["state"], sent["price"], sent["segments"]) == ("charged", 2, 2)
    assert (sent["upstream"], sent["smsc_message_id"]) == ("c", "00ff")
    assert sent["receipt_state"] == "DELIVRD"
    refused = by_id[ids["refused"]]
    assert (refused["state"], refused["released"]) == ("released", 2)

    def found(*filters: str) -> list[int]:
        return [row["id"] for row in commands.json("messages", "sender", *filters)]

    assert found("--to", "333") == [ids["refused"]]
    assert found("--state", "released") == [ids["refused"]]
    assert found("--limit", "1") == [ids["late"]]
    assert found("--since", (datetime.now(UTC) + timedelta(hours=1)).isoformat()) == []

    def history(fate: str) -> list[str]:
        steps = commands.json("message", str(ids[fate]))["history"]
        assert all(set(step) == {"at", "what", "detail"} for step in steps)
        return [step["what"] for step in steps]

    assert history("sent") == [
        *("submitted", "credit taken", "charged", "receipt received", "receipt delivered")
    ]
    assert sorted(history("refused")) == [
        *("credit released", "credit taken", "released", "submitted")
    ]
    assert history("late")[:3] == ["submitted", "credit taken", "in doubt"]
    assert sorted(history("late")[3:]) == ["charged", "doubt resolved"]

    why = commands.json("message", str(ids["refused"]))["history"][-1]["detail"]
    assert why == "ESME_RTHROTTLED from upstream c"
    shown = commands.run("message", str(ids["sent"]))
    assert "ESME_ROK from upstream c, id 00ff" in shown
    assert "2 credits, balance 8" in shown
    table = commands.run("messages", "sender")
    assert str(ids["late"]) in table and "222,333" in table
    assert "\x1b" not in table, "an address must not reach the terminal as it is"


def test_events_are_followed(commands: Commands) -> None:
    commands.run("account", "add", "watched", "--password", "p", "--credits", "1")
    process = commands.start("events", "--follow", "--json", "--account", "watched")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["text"].startswith("Account created by")
    assert json.loads(process.stdout.readline())["text"].startswith("Credits added: 1 by")
    commands.run("credit", "add", "watched", "7")
    assert json.loads(process.stdout.readline())["text"].startswith("Credits added: 7 by")
    commands.run("credit", "add", "watched", "-8")
    assert json.loads(process.stdout.readline())["kind"] == "credit_removed"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=TIMEOUT_S) == ("", "")
    assert process.returncode == 0


def test_a_closed_pipe_is_quiet(commands: Commands) -> None:
    for arguments in (("account", "list"), ("account", "list", "--json"), ("events", "--follow")):
        process = commands.start(*arguments)
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        process.wait(TIMEOUT_S)
        process.stderr.close()


def test_broken_books_are_status_1(commands: Commands) -> None:
    commands.run("account", "add", "broken", "--password", "p")

    async def change(by_micro: int) -> None:
        async with commands.database() as conn:
            await conn.execute(
                "UPDATE account SET balance_micro = balance_micro + $1 WHERE name = 'broken'",
                by_micro,
            )

    asyncio.run(change(1))
    try:
        process = commands.start("audit", "--json")
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        asyncio.run(change(-1))
    [finding] = json.loads(out)
    assert (finding["check"], finding["account"]) == ("balance", "broken")
    assert process.returncode == 1 and len(err.splitlines()) == 1
    assert commands.json("audit") == []


def test_check_names_what_is_wrong(commands: Commands, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[status]\ninsufficient_credits = 8\n")
    bad.write_text("[smpp]\nprt = 1\n[http]\nport = 'x'\n")
    assert "is valid" in commands.run("check", "--config", str(good))
    assert "status.insufficient_credits" in str(
        commands.json("check", SMPP_PROXY_CONFIG=str(good))["warnings"]
    )
    process = commands.start("--config", str(bad), "check")
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "smpp.prt" in err and "http.port" in err
    # The file named after the command counts; other commands refuse in one line.
    assert "is valid" in commands.run("--config", str(bad), "check", "--config", str(good))
    assert "smpp.prt" in commands.run("account", "list", "--config", str(bad), status=1)


def test_a_database_that_is_away_is_one_line(commands: Commands, tmp_path: Path) -> None:
    file = tmp_path / "away.toml"
    file.write_text("[database]\nurl = 'postgresql://bob:secret@127.0.0.1:1/x'\n"
                    "connect_timeout_s = 0.5\n")  # fmt: skip
    for arguments in (("account", "list"), ("audit",), ("migrate",), ("events", "--follow")):
        reason = commands.run(*arguments, "--config", str(file), status=1)
        assert "127.0.0.1:1" in reason and "secret" not in reason


async def test_another_server_is_migrated_only_when_told(
    commands: Commands, tmp_path: Path, postgres: Cluster
) -> None:
    async with postgres.fresh(template="template0") as url:
        file = tmp_path / "server.toml"
        file.write_text(f"[database]\nurl = '{url}'\n")
        config = ("--config", str(file))

        def story() -> None:
            reason = commands.run("account", "list", *config, status=1)
            assert reason.endswith("run smpp-proxy migrate")
            assert commands.json("migrate", *config)["applied"][0].startswith("0001_")
            assert "up to date" in commands.run("migrate", *config)
            assert commands.json("account", "list", *config) == []

        await asyncio.to_thread(story)


def test_send_to_a_simulated_carrier(commands: Commands) -> None:
    carrier = commands.start("simulate", "smsc", "--port", "0", "--password", "demo")
    try:
        assert carrier.stdout is not None
        ready, where = carrier.stdout.readline().split()
        assert ready == "ready"
        host, port = where.removeprefix("smpp=").split(":")
        address = ("send", "--host", host, "--port", port, "--text", "hello")
        [result] = commands.json(*address, "--to", "447700900123", "--receipt")
        assert (result["status"], result["receipt"]) == (0, "DELIVRD")
        assert isinstance(result["message_id"], int)
        assert "accepted" in commands.run(*address, "--to", "447700900123")
        refused = commands.run(*address, "--to", "999", status=1)
        assert refused == "refused: ESME_RINVDSTADR (0x0000000B)"
        wrong = commands.run(*address, "--to", "1", "--password", "wrong", status=1)
        assert "ESME_RINVPASWD" in wrong
        busy = commands.run("simulate", "smsc", "--port", port, status=1)
        assert f"cannot listen on 127.0.0.1:{port}" in busy
    finally:
        carrier.send_signal(signal.SIGTERM)
        carrier.communicate(timeout=TIMEOUT_S)
    assert carrier.returncode == 0
    assert "127.0.0.1" in commands.run(*address, "--to", "1", status=1)
