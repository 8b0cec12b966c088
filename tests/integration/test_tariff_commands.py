"""tariff, price and upstream as people and scripts run them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.config import DatabaseSettings
from proxy.store.database import Database
from proxy.store.embedded import EmbeddedPostgres

TIMEOUT_S = 60
GOLD = (
    "prefix,service,price,valid_from,valid_to\n"
    ",,0.05,,\n"
    "44,sms,0.04,,2100-01-01\n"
    "44,sms,0.03,2100-01-01,\n"
    "88,,not sold,,\n"
)
COMMANDS = [
    "tariff",
    "tariff import",
    "tariff export",
    "tariff list",
    "tariff remove",
    "price",
    "upstream",
    "upstream list",
    "upstream pause",
    "upstream resume",
    "upstream cost",
]
WRONG_USAGE = [
    "tariff nonsense",
    "tariff import",
    "tariff import file.csv",
    "tariff import --name gold",
    "tariff export",
    "tariff remove",
    "price bob",
    "price bob 44 --segments 0",
    "price bob 44 --segments many",
    "upstream pause",
    "upstream cost c",
    "upstream cost c gold --none",
]


class Commands:
    """Runs commands on one embedded database."""

    def __init__(self, home: Path) -> None:
        self.data_dir = home / "smpp-proxy"
        self.environment = {
            k: v for k, v in os.environ.items() if k not in {"SMPP_PROXY_CONFIG", "COLUMNS"}
        } | {"XDG_DATA_HOME": str(home), "PYTHONWARNINGS": "ignore"}

    def process(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "proxy", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def run(self, *arguments: str, status: int = 0, stdin: str = "") -> str:
        """Run to the end; returns stdout, or of a refusal the reason that was given."""
        done = self.process(*arguments, stdin=stdin)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        if status == 1:
            assert len(done.stderr.splitlines()) == 1, done.stderr
            return done.stderr.strip()
        return done.stdout

    def json(self, *arguments: str, stdin: str = "") -> Any:
        return json.loads(self.run(*arguments, "--json", stdin=stdin))

    def add_upstream(self, name: str) -> None:
        """As a proxy does when it starts with it."""

        async def work() -> None:
            database = Database(DatabaseSettings(data_dir=self.data_dir))
            await database.open(wait=False)
            try:
                await database.pool.execute("INSERT INTO upstream (name) VALUES ($1)", name)
            finally:
                await database.close()

        asyncio.run(work())


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    home = Path(tempfile.mkdtemp(prefix="smpp-c-"))  # short: it holds a unix socket
    runner = Commands(home)
    # One user of the server that stays, so that it is not started for every command.
    server = EmbeddedPostgres(runner.data_dir)
    try:
        asyncio.run(server.start())
        runner.run("migrate")
        yield runner
    finally:
        asyncio.run(server.stop())
        shutil.rmtree(home)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(commands: Commands, command: str) -> None:
    out = commands.run(*command.split(), "--help")
    assert out.startswith(f"Usage: smpp-proxy {command}"), out
    assert ("--config FILE" in out) == (command not in {"tariff", "upstream"})


@pytest.mark.parametrize("line", WRONG_USAGE)
def test_wrong_usage_is_status_2(commands: Commands, line: str) -> None:
    commands.run(*line.split(), status=2)


def test_the_story_of_a_tariff(commands: Commands, tmp_path: Path) -> None:
    file = tmp_path / "gold.csv"
    file.write_text(GOLD)
    importing = ("tariff", "import", str(file), "--name", "gold")

    out = commands.run(*importing, "--dry-run")
    assert "Dry run, nothing was changed.  In new tariff gold: 4 added, 0 changed, 0 ended" in out
    assert commands.run("tariff", "export", "gold", status=1) == "there is no tariff 'gold'"
    assert "Imported into new tariff gold: 4 added, 0 changed" in commands.run(*importing)
    assert commands.run("tariff", "export", "gold") == GOLD
    assert "Tariff gold: no difference, 4 prices unchanged" in commands.run(*importing)

    file.write_text("price;prefix\r\n0.06;\r\n0.07;7\r\n-;88\r\n")
    dry = commands.json(*importing, "--dry-run")
    done = commands.json(*importing)
    assert dry == done | {"dry_run": True}
    every = {"service": "", "valid_from": None, "valid_to": None}
    assert done["added"] == [{"prefix": "7", "price": 0.07} | every]
    assert done["changed"] == [
        {"old": {"prefix": "", "price": 0.05} | every, "new": {"prefix": "", "price": 0.06} | every}
    ]
    assert [row["valid_from"] for row in done["ended"]] == [None, "2100-01-01T00:00:00+00:00"]
    assert (done["tariff"], done["created"], done["unchanged"]) == ("gold", False, 1)

    out = commands.run("tariff", "import", "-", "--name", "gold", "--dry-run", stdin=GOLD)
    changed, *rest = out.splitlines()[1:]
    assert changed.split() == ["changed", "(any)", "(any)", "0.06", "→", "0.05"]
    assert [line.split()[:2] for line in rest[:3]] == [["added", "44"]] * 2 + [["ended", "7"]]

    [sold] = [row for row in commands.json("tariff", "export", "gold") if row["prefix"] == "88"]
    assert sold["price"] is None
    rows = {row["name"]: row for row in commands.json("tariff", "list")}
    assert (rows["gold"]["prices"], rows["gold"]["version"]) == (3, 3)
    table = commands.run("tariff", "list")
    assert "gold" in table and "standard" in table
    assert any(
        row["text"].startswith("Tariff gold imported: 1 added, 1 changed, 2 ended by ")
        for row in commands.json("events", "--kind", "tariff_changed")
    )


def test_a_long_list_of_differences_is_cut(commands: Commands) -> None:
    text = "prefix,price\n" + "".join(f"{i},1\n" for i in range(150))
    importing = ("tariff", "import", "-", "--name", "long", "--dry-run")
    out = commands.run(*importing, stdin=text)
    assert "… and 50 more" in out and out.count("added ") == 100
    assert len(commands.json(*importing, stdin=text)["added"]) == 150


def test_a_wrong_file_changes_nothing_and_every_error_is_told(commands: Commands) -> None:
    text = "prefix,price\n44,0\n4 4,1\n33,1\n"
    importing = ("tariff", "import", "-", "--name", "wrong")
    done = commands.process(*importing, stdin=text)
    assert (done.returncode, done.stdout) == (1, "")
    first, second, last = done.stderr.splitlines()
    assert first.startswith("line 2: price: '0' is not above zero: no message is free")
    assert second.startswith("line 3: prefix: '4 4'")
    assert last == "- is not imported: 2 errors"
    done = commands.process(*importing, "--json", stdin=text)
    assert done.returncode == 1 and done.stderr.splitlines() == [last]
    assert json.loads(done.stdout) == {"file": "-", "errors": [first, second]}
    assert commands.run("tariff", "export", "wrong", status=1) == "there is no tariff 'wrong'"


def test_what_can_not_be_done_is_one_line(commands: Commands, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere.csv")
    for arguments, reason in (
        (("tariff", "import", nowhere, "--name", "gold"), "No such file"),
        (("tariff", "import", str(tmp_path), "--name", "gold"), "cannot be read"),
        (("tariff", "remove", "nothing"), "there is no tariff 'nothing'"),
        (("tariff", "remove", "standard"), "new accounts begin with the tariff 'standard'"),
        (("price", "nobody", "44"), "there is no account 'nobody'"),
        (("upstream", "pause", "nowhere"), "there is no upstream 'nowhere'"),
        (("upstream", "resume", "nowhere"), "there is no upstream 'nowhere'"),
        (("upstream", "cost", "nowhere", "standard"), "there is no upstream 'nowhere'"),
    ):
        assert reason in commands.run(*arguments, status=1)
    bad_name = commands.run("tariff", "import", "-", "--name", "a b", status=1, stdin=GOLD)
    assert "1 to 64 of the characters" in bad_name


def test_the_story_of_a_price(commands: Commands) -> None:
    commands.run("account", "add", "bob", "--password", "p")
    commands.run("tariff", "import", "-", "--name", "standard", stdin=GOLD)
    cost = "prefix,price\n44,0.045\n"
    commands.run("tariff", "import", "-", "--name", "carrier", stdin=cost)
    commands.add_upstream("c")
    row = commands.json("upstream", "cost", "c", "carrier")
    assert row == {"name": "c", "cost_tariff": "carrier", "paused": False}
    assert commands.json("upstream", "pause", "c")["paused"] is True
    [listed] = commands.json("upstream", "list")
    assert {key: listed[key] for key in row} == row | {"paused": True}
    in_use = commands.run("tariff", "remove", "carrier", status=1)
    assert in_use == "the tariff 'carrier' is what these upstreams cost: c"

    found = commands.json("price", "bob", "+447700900123", "--segments", "3")
    [of_c] = found.pop("upstreams")
    assert found == {
        "account": "bob",
        "tariff": "standard",
        "destination": "+447700900123",
        "service": "sms",
        "segments": 3,
        "match": {
            "prefix": "44",
            "service": "sms",
            "price": 0.04,
            "valid_from": None,
            "valid_to": "2100-01-01T00:00:00+00:00",
        },
        "total": 0.12,
        "refusal": None,
        "command_status": None,
    }
    assert (of_c["upstream"], of_c["paused"], of_c["tariff"]) == ("c", True, "carrier")
    assert (of_c["match"]["prefix"], of_c["cost"], of_c["margin"]) == ("44", 0.135, -0.015)
    out = commands.run("price", "bob", "447700900123", "--service", "MMS")
    assert "sms (the tariff has no prices for MMS)" in out and "2100-01-01" in out
    assert "c (paused)" in out and "-0.005" in out

    not_sold = commands.json("price", "bob", "8816", "--service", "binary")
    assert (not_sold["refusal"], not_sold["command_status"]) == ("not_sold", 0x0B)
    assert (not_sold["total"], not_sold["match"]["price"]) == (None, None)
    assert "not sold: ESME_RINVDSTADR (0x0000000B)" in commands.run("price", "bob", "8816")
    assert "c (paused)  carrier" in commands.run("price", "bob", "33"), "of unknown cost"

    commands.run("tariff", "import", "-", "--name", "standard", stdin="prefix,price\n44,1\n")
    no_price = commands.json("price", "bob", "33")
    assert (no_price["refusal"], no_price["match"]) == ("no_price", None)
    assert "no price matches: ESME_RINVDSTADR" in commands.run("price", "bob", "33")

    assert "carrier" in commands.run("upstream", "resume", "c")
    assert commands.json("upstream", "cost", "c", "--none")["cost_tariff"] is None
    removed = commands.json("tariff", "remove", "carrier")
    assert removed == {"tariff": "carrier", "removed": True, "prices": 1}
    texts = {row["text"].rpartition(" by ")[0] for row in commands.json("events")}
    assert {"Upstream c paused", "Upstream c resumed", "Tariff carrier removed"} <= texts
