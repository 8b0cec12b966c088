"""Operators on the command line."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from proxy.cli import app
from proxy.store import operators, web_sessions
from proxy.store.database import Database

PASSWORD = "correct horse battery"


class Commands:
    """Runs commands in this process, in a thread without an event loop."""

    def __init__(self, config: Path) -> None:
        self._runner = CliRunner(env={"SMPP_PROXY_CONFIG": str(config)})

    async def run(self, *arguments: str, status: int = 0, stdin: str = "") -> Result:
        result = await asyncio.to_thread(
            self._runner.invoke, app, ["operator", *arguments], input=stdin
        )
        assert result.exit_code == status, result.output
        return result


@pytest.fixture
def commands(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr("proxy.commands.common.setup_logging", lambda _settings: None)
    config = tmp_path / "proxy.toml"
    config.write_text(f'[database]\nurl = "{database_url}"\n')
    return Commands(config)


async def verify(database: Database, name: str, password: str) -> operators.Operator | None:
    return await operators.verify(database.pool, name, password)


async def test_an_operator_is_added_changed_and_kept_out(
    database: Database, commands: Commands
) -> None:
    added = await commands.run(
        "add", "alice", "--scope", "admin", "--password-stdin", "--json", stdin=f"{PASSWORD}\n"
    )
    row: dict[str, Any] = json.loads(added.stdout)
    assert (row["name"], row["scope"], row["enabled"]) == ("alice", "admin", True)
    assert "password" not in added.stdout
    assert await verify(database, "alice", PASSWORD)
    async with database.pool.acquire() as conn:
        alice = await operators.verify(database.pool, "alice", PASSWORD)
        assert alice is not None
        await web_sessions.start(conn, alice, datetime.now(UTC))
    await commands.run("add", "bob", "--scope", "read", "--password", PASSWORD)
    again = await commands.run("add", "bob", "--scope", "read", "--password", PASSWORD, status=1)
    assert "already an operator" in again.stderr
    await commands.run("password", "alice", "--password-stdin", stdin="another password")
    assert await verify(database, "alice", PASSWORD) is None
    assert await verify(database, "alice", "another password")
    assert await database.pool.fetchval("SELECT count(*) FROM web_session") == 0
    last = await commands.run("disable", "alice", status=1)
    assert "only administrator" in last.stderr
    await commands.run("scope", "bob", "admin")
    await commands.run("disable", "alice")
    assert await verify(database, "alice", "another password") is None
    await commands.run("enable", "alice")
    listed = json.loads((await commands.run("list", "--json")).stdout)
    assert [(one["name"], one["scope"]) for one in listed] == [("alice", "admin"), ("bob", "admin")]
    assert "alice" in (await commands.run("list")).stdout


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("add", "x", "--scope", "read", "--password", "short"), 1),
        (("add", "x", "--scope", "read", "--password", "x" * 201), 1),
        (("add", "not a name", "--scope", "read", "--password", PASSWORD), 1),
        (("password", "nobody", "--password", PASSWORD), 1),
        (("disable", "nobody"), 1),
        (("scope", "nobody", "read"), 1),
        (("add", "x", "--password", PASSWORD), 2),
        (("add", "x", "--scope", "god", "--password", PASSWORD), 2),
        (("add", "x", "--scope", "read"), 2),  # no terminal to ask on
        (("add", "x", "--scope", "read", "--password", PASSWORD, "--password-stdin"), 2),
    ],
)
async def test_what_is_refused(commands: Commands, arguments: tuple[str, ...], status: int) -> None:
    result = await commands.run(*arguments, status=status)
    assert result.stdout == "" and result.stderr != ""


async def test_two_administrators_cannot_disable_each_other(database: Database) -> None:
    async with database.pool.acquire() as one, database.pool.acquire() as other:
        for name in ("alice", "bob"):
            await operators.add(one, name, PASSWORD, "admin", by="test")
        outcomes = await asyncio.gather(
            operators.set_enabled(one, "alice", False, by="bob"),
            operators.set_enabled(other, "bob", False, by="alice"),
        )
    assert sum(isinstance(outcome, operators.Done) for outcome in outcomes) == 1
