"""smpp-proxy statement, as people and spreadsheets get it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.past import MICRO, add_account, add_message, add_row, at, make_partitions

from proxy.commands.statement import TABLE_ROWS_MAX, parse_when
from proxy.credit.cells import csv_cell
from proxy.store.database import Database

DAY = date(2026, 11, 1)
PERIOD = ("--from", "2026-11-01", "--to", "2026-11-01")
FIGURES = ["messages", "segments", "price", "released", "cost", "margin"]
Run = Callable[..., Any]


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[Any]:
    async with database.pool.acquire() as connection:
        await make_partitions(connection, date(2026, 10, 31), date(2026, 11, 2))
        yield connection


@pytest.fixture
def run(tmp_path: Path, database_url: str) -> Run:
    """`await run(…, status=0)` is what the command wrote to stdout, or of a refusal to stderr."""
    file = tmp_path / "proxy.toml"
    file.write_text(f"[database]\nurl = '{database_url}'\n")

    async def run(*arguments: str, status: int = 0) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "proxy", "statement", *arguments, "--config", str(file)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TZ": "UTC"},
        )
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert status == 2 or len(done.stderr.splitlines()) == (status == 1), done.stderr
        return done.stderr.strip() if status else done.stdout

    return run


async def story(conn: Any) -> int:
    """An account with a top-up, two messages of one sender and one of a hostile one."""
    bob = await add_account(conn, "bob")
    await add_row(conn, bob, at(date(2026, 10, 31)), "add", 10 * MICRO)
    await add_row(
        conn, bob, at(DAY, 8), "add", 5 * MICRO, actor="-alice", note="@SUM(A1),\n\x1b[2J"
    )
    await add_message(conn, bob, at(DAY, 9), sender="me", price_id=1, cost_micro=MICRO // 4)
    await add_message(
        conn, bob, at(DAY, 10), sender="me", price_id=1, segments=2, price_micro=2 * MICRO
    )
    await add_message(conn, bob, at(DAY, 11), sender="=HYPERLINK(1)", state="released")
    await add_row(conn, bob, at(date(2026, 11, 2)), "add", 100 * MICRO)
    return bob


async def test_a_table(conn: Any, run: Run) -> None:
    await story(conn)
    lines = (await run("bob", *PERIOD)).splitlines()
    assert lines[0] == "bob, 2026-11-01 00:00 to 2026-11-02 00:00 (UTC)"
    assert [line.split() for line in lines[1:]] == [
        [],
        ["rows", "credits"],
        ["opening", "balance", "10"],
        ["add", "1", "5"],
        ["use", "3", "-4"],
        ["refund", "1", "1"],
        ["closing", "balance", "12"],
        [],
        ["prefix", *FIGURES],
        ["(any)", "2", "3", "3", "0", "0.25", "0.75"],
        ["1", "1", "1", "1"],
    ]


async def test_a_table_of_the_log(conn: Any, run: Run) -> None:
    await story(conn)
    out = await run("bob", *PERIOD, "--log")
    assert "opening balance" in out and "closing balance" in out and "prefix" not in out
    rows = [line for line in out.splitlines() if line.startswith("2026-11-01 ")]
    assert len(rows) == 5 and "-alice" in rows[0]
    assert "\x1b" not in out and "\\x1b[2J" in out, "a terminal must not obey a note"


async def test_one_object(conn: Any, run: Run) -> None:
    await story(conn)
    text = await run("bob", *PERIOD, "--by", "sender", "--format", "json")
    assert text.count("\n") == 1
    assert await run("bob", *PERIOD, "--by", "sender", "--json") == text
    found = json.loads(text, parse_float=Decimal)
    none = {"rows": 0, "change": 0}
    assert found == {
        "account": "bob",
        "timezone": "UTC",
        "from": "2026-11-01T00:00:00+00:00",
        "to": "2026-11-02T00:00:00+00:00",
        "opening": 10,
        "totals": {
            "add": {"rows": 1, "change": 5},
            "use": {"rows": 3, "change": -4},
            "refund": {"rows": 1, "change": 1},
            "expire": none,
            "grant": none,
            "adjust": none,
        },
        "closing": 12,
        "by": "sender",
        "usage": [
            dict(zip(["sender", *FIGURES], ("=HYPERLINK(1)", 1, 1, 1, 1, None, None), strict=True)),
            dict(
                zip(
                    ["sender", *FIGURES],
                    ("me", 2, 3, 3, 0, Decimal("0.25"), Decimal("0.75")),
                    strict=True,
                )
            ),
        ],
    }
    log = json.loads(await run("bob", *PERIOD, "--log", "--json"))
    assert "usage" not in log and "by" not in log
    assert [row["balance"] for row in log["log"]] == [15, 14, 12, 11, 12]
    assert log["log"][0]["note"] == "@SUM(A1),\n\x1b[2J"


async def test_csv_of_usage(conn: Any, run: Run) -> None:
    await story(conn)
    assert await run("bob", *PERIOD, "--by", "sender", "--format", "csv") == (
        "sender,messages,segments,price,released,cost,margin\n"
        "'=HYPERLINK(1),1,1,1,1,,\n"
        "me,2,3,3,0,0.25,0.75\n"
    )
    assert (await run("bob", *PERIOD, "--by", "day", "--format", "csv")).splitlines() == [
        "day,messages,segments,price,released,cost,margin",
        "2026-11-01,3,4,4,1,0.25,0.75",
    ]


async def test_csv_of_the_log(conn: Any, run: Run) -> None:
    await story(conn)
    out = await run("bob", *PERIOD, "--log", "--format", "csv")
    header, *rows = csv.reader(io.StringIO(out))
    assert header == ["at", "by", "operation", "change", "balance", "message_id", "note"]
    assert len(out.splitlines()) == 6, "a row is a line"
    assert rows[0] == [
        *("2026-11-01T08:00:00+00:00", "'-alice", "add", "5", "15", ""),
        "'@SUM(A1),\\n\\x1b[2J",
    ]
    assert [row[3] for row in rows] == ["5", "-1", "-2", "-1", "1"], "numbers stay numbers"
    assert all(row[5].isdecimal() for row in rows[1:])


async def test_an_account_without_anything(conn: Any, run: Run) -> None:
    await add_account(conn, "bob")
    assert "closing balance" in await run("bob")
    assert await run("bob", "--format", "csv") == f"prefix,{','.join(FIGURES)}\n"
    found = json.loads(await run("bob", "--json"))
    assert (found["opening"], found["closing"], found["usage"]) == (0, 0, [])
    assert json.loads(await run("bob", "--json", "--log"))["log"] == []


async def test_the_time_zone_is_the_accounts(conn: Any, run: Run) -> None:
    await add_account(conn, "bob", "Asia/Tokyo")
    found = json.loads(await run("bob", *PERIOD, "--json"))
    assert (found["from"], found["timezone"]) == ("2026-10-31T15:00:00+00:00", "Asia/Tokyo")
    at_noon = json.loads(await run("bob", "--from", "2026-11-01T12:00", "--json"))
    assert at_noon["from"] == "2026-11-01T03:00:00+00:00"
    utc = json.loads(await run("bob", "--from", "2026-11-01T12:00Z", "--json"))
    assert utc["from"] == "2026-11-01T12:00:00+00:00"
    assert "2026-11-01 00:00 to 2026-11-02 00:00 (Asia/Tokyo)" in await run("bob", *PERIOD)


async def test_what_is_refused(conn: Any, run: Run) -> None:
    bob = await add_account(conn, "bob")
    assert await run("nobody", status=1) == "there is no account 'nobody'"
    backwards = ("--from", "2026-11-02", "--to", "2026-10-31")
    assert await run("bob", *backwards, status=1) == "the period ends before it begins"
    for wrong in (
        ("--from", "yesterday"),
        ("--to", "2026-13-01"),
        ("--by", "colour"),
        ("--format", "xml"),
        ("--json", "--format", "csv"),
        ("--log", "--by", "day"),
    ):
        await run("bob", *wrong, status=2)
    await conn.execute(
        "INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro)"
        " SELECT id_from_time('2026-11-01Z') + (n << 10), $1, 'add', 'paid_in', 1, 0"
        " FROM generate_series(1, $2::bigint) n",
        bob,
        TABLE_ROWS_MAX + 1,
    )
    reason = await run("bob", *PERIOD, "--log", status=1)
    assert reason == f"more than {TABLE_ROWS_MAX} rows are no table: use --format csv"
    csv_lines = (await run("bob", *PERIOD, "--log", "--format", "csv")).splitlines()
    assert len(csv_lines) == TABLE_ROWS_MAX + 2


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (-5, "-5"),
        (Decimal("-0.000001"), "-0.000001"),
        (Decimal("1E+6"), "1000000"),
        ("447700900123", "447700900123"),
        ("=1+1", "'=1+1"),
        ("+44", "'+44"),
        ("-5", "'-5"),
        ("@SUM", "'@SUM"),
        ("＝1", "'＝1"),
        ("a=1", "a=1"),
        ("", ""),
        ("\t=1", "\\t=1"),
        ("\r=1", "\\r=1"),
        ("a\nb", "a\\nb"),
        ("Überfällig", "Überfällig"),
    ],
)
def test_cells_that_a_spreadsheet_does_not_obey(value: Any, cell: str) -> None:
    assert csv_cell(value) == cell


def test_when() -> None:
    assert parse_when("2026-11-30") == date(2026, 11, 30)
    assert not isinstance(parse_when("2026-11-30"), datetime)
    assert parse_when("2026-11-30T12:00") == datetime(2026, 11, 30, 12)
    for text in ("2026-11-30T12:00+02:00", "7d", "90s"):
        assert parse_when(text).tzinfo is not None  # type: ignore[union-attr]
