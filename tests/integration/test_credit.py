"""Adding and removing credits."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.credit.account_keys import AccountChanges
from proxy.credit.money import MAX_MICRO
from proxy.store import account_values, history
from proxy.store.audit import audit
from proxy.store.credit import Added, Exists, add_credit
from proxy.store.database import Database
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.outcomes import Refused

MICRO = 1_000_000
_numbers = count()


async def account(conn: Any, credit_micro: int = 0, credit_limit_micro: int = 0) -> str:
    """A new account; returns its name."""
    name = f"credit{next(_numbers)}"
    await conn.execute(
        "WITH a AS (INSERT INTO account (name, credit_limit_micro) VALUES ($1, $2) RETURNING id)"
        " INSERT INTO login (account_id, system_id, password_hash) SELECT id, $1, '' FROM a",
        name,
        credit_limit_micro,
    )
    if credit_micro:
        await add(conn, name, credit_micro)
    return name


async def add(conn: Any, name: str, amount_micro: int, **values: Any) -> Any:
    # A mint for each, as in commands: every one is a process of its own.
    defaults: dict[str, Any] = {"by": "alice", "mint": IdMint(COMMAND_NODE)}
    return await add_credit(conn, name, amount_micro, **(defaults | values))


async def balance(conn: Any, name: str) -> int:
    micro: int = await conn.fetchval("SELECT balance_micro FROM account WHERE name = $1", name)
    return micro


async def test_added_credits_are_a_row_an_event_and_a_notification(
    conn: Any, database: Database
) -> None:
    name = await account(conn)
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await database.connect()
    try:
        await listener.add_listener(
            "smpp_proxy_credit", lambda _conn, _pid, _channel, payload: heard.put_nowait(payload)
        )
        outcome = await add(conn, name, 50 * MICRO, note="invoice 7")
        assert isinstance(outcome, Added) and outcome.balance_micro == 50 * MICRO
        account_id = await conn.fetchval("SELECT id FROM account WHERE name = $1", name)
        assert await asyncio.wait_for(heard.get(), 5) == str(account_id)
    finally:
        await listener.close()
    [row] = await history.credit_log(conn, name)
    assert (row["by"], row["operation"], row["note"]) == ("alice", "add", "invoice 7")
    assert row["change"] == row["balance"] == 50
    [event] = await history.events(conn, account=name)
    assert (event["kind"], event["text"]) == ("credit_added", "Credits added: 50 by alice")
    assert event["severity"] == "info"


async def test_credits_are_removed_down_to_the_floor(conn: Any) -> None:
    name = await account(conn, 3_500_000)
    refused = await add(conn, name, -4 * MICRO)
    assert refused == Refused("only 3.5 credits can be removed")
    assert isinstance(await add(conn, name, -3_500_000), Added)
    assert await balance(conn, name) == 0
    assert await add(conn, name, -1) == Refused("no credits are left")

    await account_values.set_values(
        conn, name, AccountChanges({"credit_limit_micro": 2 * MICRO}), by="test"
    )
    assert await add(conn, name, -2 * MICRO - 1) == Refused("only 2 credits can be removed")
    assert isinstance(await add(conn, name, -2 * MICRO), Added)
    assert await balance(conn, name) == -2 * MICRO
    events = await history.events(conn, account=name, kind="credit_removed")
    assert [event["text"] for event in events] == [
        "Credits removed: 3.5 by alice",
        "Credits removed: 2 by alice",
    ]


async def test_what_cannot_be_added_is_refused(conn: Any) -> None:
    name = await account(conn)
    assert isinstance(await add(conn, name, 0), Refused)
    assert isinstance(await add(conn, "nobody", MICRO), Refused)
    assert isinstance(await add(conn, name, MICRO, key=""), Refused)
    assert isinstance(await add(conn, name, MICRO, key="k" * 201), Refused)
    assert isinstance(await add(conn, name, MAX_MICRO), Added)
    assert isinstance(await add(conn, name, 1), Refused)
    assert await balance(conn, name) == MAX_MICRO


async def test_the_same_key_adds_once(conn: Any) -> None:
    name, other = await account(conn), await account(conn)
    first = await add(conn, name, 5 * MICRO, key="invoice 7")
    assert isinstance(first, Added)
    await add(conn, name, MICRO)
    again = await add(conn, name, 5 * MICRO, key="invoice 7")
    assert again == Exists(6 * MICRO, first.ledger_id)
    different = await add(conn, name, 6 * MICRO, key="invoice 7")
    assert different == Refused("this key was used before, with the amount 5")
    assert isinstance(await add(conn, other, 6 * MICRO, key="invoice 7"), Added)
    assert len(await history.credit_log(conn, name)) == 2


async def test_concurrent_adds_all_count(database: Database, conn: Any) -> None:
    name = await account(conn)

    async def attempt(amount_micro: int, **values: Any) -> Any:
        async with database.pool.acquire() as own:
            return await add(own, name, amount_micro, **values)

    outcomes = await asyncio.gather(*(attempt(n * MICRO) for n in range(1, 31)))
    assert all(isinstance(outcome, Added) for outcome in outcomes)
    assert len({outcome.ledger_id for outcome in outcomes}) == 30
    assert await balance(conn, name) == 465 * MICRO

    outcomes = await asyncio.gather(*(attempt(7 * MICRO, key="once") for _ in range(10)))
    assert sum(isinstance(outcome, Added) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Exists) for outcome in outcomes) == 9
    assert await balance(conn, name) == 472 * MICRO

    outcomes = await asyncio.gather(*(attempt(-100 * MICRO) for _ in range(10)))
    assert sum(isinstance(outcome, Added) for outcome in outcomes) == 4
    assert await balance(conn, name) == 72 * MICRO
    assert await audit(conn) == []


STEPS = st.lists(
    st.tuples(st.integers(-6, 6), st.sampled_from([None, None, "a", "b"])), min_size=1, max_size=12
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS, limit=st.integers(0, 4))
async def test_any_sequence_does_what_a_dictionary_would(
    conn: Any, steps: list[tuple[int, str | None]], limit: int
) -> None:
    name = await account(conn, credit_limit_micro=limit)
    expected, keys, rows = 0, dict[str, int](), 0
    for amount, key in steps:
        outcome = await add(conn, name, amount, key=key)
        if amount == 0:
            assert isinstance(outcome, Refused)
        elif key in keys:
            assert isinstance(outcome, Exists if keys[key] == amount else Refused)
        elif expected + amount < -limit:
            assert isinstance(outcome, Refused)
        else:
            expected += amount
            rows += 1
            if key:
                keys[key] = amount
            assert isinstance(outcome, Added) and outcome.balance_micro == expected
    assert await balance(conn, name) == expected
    log = await history.credit_log(conn, name, limit=100)
    assert len(log) == rows
    assert sum(row["change"] for row in log) * MICRO == expected
    assert not [finding for finding in await audit(conn) if finding.account == name]
