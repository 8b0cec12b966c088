"""Tokens of the API: in the database and on the command line."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy.cli import app
from proxy.store import history, tokens
from proxy.store.outcomes import Refused
from proxy.store.tokens import (
    TokenCreated,
    TokenRevoked,
    create_token,
    find_token,
    list_tokens,
    looks_like_token,
    revoke_token,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def test_a_token_is_kept_as_its_hash_only(conn: Any) -> None:
    made = await create_token(conn, "ci", "credit", by="anna")
    assert isinstance(made, TokenCreated)
    assert made.token.startswith("sp_") and len(made.token) == 46
    assert looks_like_token(made.token)
    row = await conn.fetchrow("SELECT * FROM api_token")
    assert row["hash"] == hashlib.sha256(made.token.encode()).digest()
    assert made.token not in str(dict(row))
    found = await find_token(conn, made.token)
    assert found is not None
    assert (found.name, found.scope, found.account) == ("ci", "credit", None)
    assert found.allows("read") and found.allows("credit") and not found.allows("admin")
    [event] = await history.events(conn, kind="token_created")
    assert event["text"] == "Token ci created with scope credit by anna"
    assert made.token not in str(event)


async def test_tokens_differ(conn: Any) -> None:
    made = [await create_token(conn, f"t{n}", "read", by="anna") for n in range(20)]
    assert len({one.token for one in made if isinstance(one, TokenCreated)}) == 20


async def test_what_is_no_token_is_not_found(conn: Any) -> None:
    made = await create_token(conn, "ci", "read", by="anna")
    assert isinstance(made, TokenCreated)
    for wrong in ("", "sp_", made.token[:-1], made.token + "x", made.token.swapcase(), "a\0b"):
        assert await find_token(conn, wrong) is None


async def test_use_is_noted_once_a_minute(conn: Any) -> None:
    made = await create_token(conn, "ci", "read", by="anna")
    assert isinstance(made, TokenCreated)

    async def used_at(after_s: float) -> datetime:
        assert await find_token(conn, made.token, now=NOW + timedelta(seconds=after_s))
        moment: datetime = await conn.fetchval("SELECT last_used_at FROM api_token")
        return moment

    assert await conn.fetchval("SELECT last_used_at FROM api_token") is None
    assert await used_at(0) == NOW
    assert await used_at(59) == NOW
    assert await used_at(60) == NOW + timedelta(seconds=60)


async def test_a_token_expires(conn: Any) -> None:
    until = NOW + timedelta(hours=1)
    made = await create_token(conn, "ci", "read", expires_at=until, by="anna", now=NOW)
    assert isinstance(made, TokenCreated)
    assert await find_token(conn, made.token, now=until - timedelta(seconds=1))
    assert await find_token(conn, made.token, now=until) is None
    late = await create_token(conn, "late", "read", expires_at=NOW, by="anna", now=NOW)
    assert late == Refused("the token would have expired already")


async def test_a_revoked_token_is_gone_and_its_name_is_not_free(conn: Any) -> None:
    made = await create_token(conn, "ci", "read", by="anna")
    assert isinstance(made, TokenCreated)
    assert await revoke_token(conn, "ci", by="ben") == TokenRevoked("ci")
    assert await find_token(conn, made.token) is None
    assert await revoke_token(conn, "ci", by="ben") == Refused("the token 'ci' is revoked already")
    assert await revoke_token(conn, "no", by="ben") == Refused("the token 'no' does not exist")
    assert isinstance(await create_token(conn, "ci", "read", by="anna"), Refused)
    [row] = await list_tokens(conn)
    assert (row["name"], row["created_by"], row["revoked_by"]) == ("ci", "anna", "ben")
    assert "hash" not in row
    [event] = await history.events(conn, kind="token_revoked")
    assert event["text"] == "Token ci revoked by ben"


async def test_the_token_of_an_account_only_reads(conn: Any) -> None:
    await conn.execute("INSERT INTO account (name) VALUES ('shop')")
    for scope in ("credit", "admin"):
        refused = await create_token(conn, "t", scope, account="shop", by="anna")
        assert refused == Refused("the token of an account can only read")
    assert isinstance(await create_token(conn, "t", "read", account="none", by="anna"), Refused)
    made = await create_token(conn, "t", "read", account="shop", by="anna")
    assert isinstance(made, TokenCreated)
    found = await find_token(conn, made.token)
    assert found is not None and found.account == "shop"
    assert len(await history.events(conn, account="shop", kind="token_created")) == 1


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a\nb"])
async def test_names_that_are_none(conn: Any, name: str) -> None:
    refused = await create_token(conn, name, "read", by="anna")
    assert refused == Refused("a name is 1 to 64 of the characters A-Z a-z 0-9 _ . @ -")
    assert isinstance(await create_token(conn, "ok", "root", by="anna"), Refused)
    assert await list_tokens(conn) == []


def run(config: Path, *args: str) -> Any:
    return CliRunner().invoke(app, ["--config", str(config), "token", *args])


def test_the_commands(database_url: str, tmp_path: Path) -> None:
    config = tmp_path / "proxy.toml"
    config.write_text(f'[database]\nurl = "{database_url}"\n')
    made = run(config, "create", "ci", "--scope", "credit", "--expires", "2199-01-01")
    assert made.exit_code == 0, made.output
    assert tokens.looks_like_token(made.stdout.strip())
    assert "can't be shown again" in made.stderr

    as_json = json.loads(run(config, "create", "two", "--scope", "read", "--json").stdout)
    assert as_json["name"] == "two" and looks_like_token(as_json["token"])
    rows = json.loads(run(config, "list", "--json").stdout)
    assert [row["name"] for row in rows] == ["ci", "two"]
    assert rows[0]["expires_at"] == "2199-01-02T00:00:00+00:00"
    assert "ci" in run(config, "list").stdout

    assert run(config, "revoke", "ci").stdout == "Token ci is revoked\n"
    again = run(config, "revoke", "ci")
    assert (again.exit_code, again.stderr) == (1, "the token 'ci' is revoked already\n")
    refused = run(config, "create", "x", "--scope", "read", "--account", "none")
    assert (refused.exit_code, refused.stderr) == (1, "there is no account 'none'\n")
    for wrong in (("--scope", "root"), (), ("--scope", "read", "--expires", "soon")):
        assert run(config, "create", "x", *wrong).exit_code == 2
