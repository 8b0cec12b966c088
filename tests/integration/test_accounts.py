"""Accounts, logins and inbound patterns in the database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.credit.account_keys import AccountChanges, changes_from_text
from proxy.store import account_values, accounts, history
from proxy.store.accounts import Changed, Created
from proxy.store.credit import add_credit
from proxy.store.database import Database
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.outcomes import Refused, no_account
from proxy.store.passwords import hash_password, verify_password

MINT = IdMint(COMMAND_NODE)
BOB_TAKEN = Refused("the system_id 'bob' is taken")
BOB2_TAKEN = Refused("the system_id 'bob2' is taken")


async def create(conn: Any, name: str, **values: Any) -> Any:
    defaults: dict[str, Any] = {"password": "secret", "by": "alice", "mint": MINT}
    return await accounts.create(conn, name, **(defaults | values))


def test_a_password_is_verified_against_its_hash_only() -> None:
    hashed = hash_password("secret")
    assert "secret" not in hashed
    assert verify_password(hashed, "secret")
    assert not verify_password(hashed, "Secret")
    assert not verify_password("not a hash", "secret")
    assert hash_password("secret") != hashed, "every hash has its own salt"


async def test_an_account_comes_with_a_login_and_its_first_credits(conn: Any) -> None:
    created = await create(conn, "bob", credit_micro=2_500_000)
    assert isinstance(created, Created)

    login = await accounts.find_login(conn, "bob")
    assert login is not None
    assert (login.account_id, login.login_id) == (created.account_id, created.login_id)
    assert (login.account_name, login.enabled, login.rules.max_binds) == ("bob", True, 16)
    assert login.rules.insufficient_status is None
    assert verify_password(login.password_hash, "secret")

    [row] = await history.credit_log(conn, "bob")
    assert (row["operation"], row["by"]) == ("add", "alice")
    assert str(row["change"]) == str(row["balance"]) == "2.5"


async def test_names_and_system_ids_are_unique(conn: Any) -> None:
    assert isinstance(await create(conn, "bob"), Created)
    again = await create(conn, "bob", system_id="other")
    assert again == Refused("there is already an account 'bob'")
    assert await create(conn, "eve", system_id="bob", credit_micro=1) == BOB_TAKEN
    assert not await history.account_exists(conn, "eve"), "a refusal leaves nothing behind"
    assert await accounts.find_login(conn, "other") is None


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "ok", "system_id": "sixteen_octets_1"},
        {"name": "a_name_of_more_than_15"},
        {"name": "ok", "credit_micro": -1},
    ],
)
async def test_what_the_database_would_not_take_is_refused(
    conn: Any, values: dict[str, Any]
) -> None:
    assert isinstance(await create(conn, **values), Refused)
    assert await history.accounts(conn) == []


async def test_creating_the_same_account_at_once_creates_one(database: Database) -> None:
    async def attempt() -> Any:
        async with database.pool.acquire() as conn:
            return await create(conn, "bob", credit_micro=1_000_000)

    outcomes = await asyncio.gather(*(attempt() for _ in range(6)))
    assert sum(isinstance(outcome, Created) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Refused) for outcome in outcomes) == 5


async def test_an_account_may_have_several_logins(conn: Any) -> None:
    await create(conn, "bob")
    await create(conn, "eve")
    second = changes_from_text({"system_id": "bob2", "password": "other"})
    assert isinstance(await account_values.set_values(conn, "bob", second, by="test"), Changed)
    assert await account_values.set_values(conn, "eve", second, by="test") == BOB2_TAKEN
    nobody = await account_values.set_values(conn, "nobody", second, by="test")
    assert nobody == no_account("nobody")

    login = await accounts.find_login(conn, "bob2")
    assert login is not None and login.account_name == "bob"
    logins = await accounts.logins_of_accounts(conn, [login.account_id])
    assert sorted(row.system_id for row in logins) == ["bob", "bob2"]


async def test_values_are_set_together_or_not_at_all(conn: Any) -> None:
    await create(conn, "bob", credit_micro=1_000_000)
    values = {
        "max_binds": "3",
        "credit_limit": "5",
        "insufficient_status": "0x40B",
        "inbound": "4477*, 123,123",
        "password": "new",
    }
    changed = await account_values.set_values(conn, "bob", changes_from_text(values), by="test")
    assert isinstance(changed, Changed)
    login = await accounts.find_login(conn, "bob")
    assert login is not None
    assert (login.rules.max_binds, login.rules.insufficient_status) == (3, 0x40B)
    assert verify_password(login.password_hash, "new")
    expected = [("123", login.account_id), ("4477*", login.account_id)]
    assert await accounts.all_inbound(conn) == expected

    await create(conn, "eve")
    refused = await account_values.set_values(
        conn, "eve", AccountChanges({"max_binds": 1}, inbound=("9*", "123")), by="test"
    )
    assert isinstance(refused, Refused) and "'123' belongs to account 'bob'" in refused.reason
    eve = await history.account(conn, "eve")
    assert eve is not None and (eve["max_binds"], eve["inbound"]) == (16, [])

    await account_values.set_values(
        conn,
        "bob",
        changes_from_text({"inbound": "55*", "insufficient_status": "default"}),
        by="test",
    )
    bob = await history.account(conn, "bob")
    assert bob is not None and bob["inbound"] == ["55*"]
    assert bob["insufficient_status"] is None and bob["max_binds"] == 3


async def test_a_credit_limit_below_the_debt_is_refused_with_the_debt(conn: Any) -> None:
    await create(conn, "bob")
    await account_values.set_values(
        conn, "bob", AccountChanges({"credit_limit_micro": 5_000_000}), by="test"
    )
    await add_credit(conn, "bob", -3_500_000, by="alice", mint=MINT)
    refused = await account_values.set_values(
        conn, "bob", AccountChanges({"credit_limit_micro": 3_000_000}), by="test"
    )
    assert isinstance(refused, Refused) and "owes 3.5 credits" in refused.reason
    exact = await account_values.set_values(
        conn, "bob", AccountChanges({"credit_limit_micro": 3_500_000}), by="test"
    )
    assert isinstance(exact, Changed)


async def test_a_password_needs_to_know_its_login(conn: Any) -> None:
    await create(conn, "bob")
    new_login = AccountChanges(system_id="bob2", password="two")
    assert isinstance(await account_values.set_values(conn, "bob", new_login, by="test"), Changed)
    ambiguous = await account_values.set_values(
        conn, "bob", AccountChanges(password="x"), by="test"
    )
    assert isinstance(ambiguous, Refused) and "bob, bob2" in ambiguous.reason
    without = await account_values.set_values(
        conn, "bob", AccountChanges(system_id="bob3"), by="test"
    )
    assert isinstance(without, Refused)
    again = AccountChanges(system_id="bob2", password="changed")
    assert isinstance(await account_values.set_values(conn, "bob", again, by="test"), Changed)
    login = await accounts.find_login(conn, "bob2")
    assert login is not None and verify_password(login.password_hash, "changed")
    await create(conn, "eve")
    assert await account_values.set_values(conn, "eve", again, by="test") == BOB2_TAKEN


async def test_disable_and_enable(conn: Any) -> None:
    await create(conn, "bob")
    for enabled in (False, True):
        assert isinstance(await accounts.set_enabled(conn, "bob", enabled, by="test"), Changed)
        login = await accounts.find_login(conn, "bob")
        assert login is not None and login.enabled is enabled
    assert await accounts.set_enabled(conn, "nobody", True, by="test") == no_account("nobody")


async def test_every_change_is_told_to_the_proxies(conn: Any, database: Database) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await database.connect()
    try:
        await listener.add_listener(
            "smpp_proxy_account", lambda _conn, _pid, _channel, payload: heard.put_nowait(payload)
        )
        created = await create(conn, "bob")
        assert await asyncio.wait_for(heard.get(), 5) == str(created.account_id)
        await accounts.set_enabled(conn, "bob", False, by="test")
        assert await asyncio.wait_for(heard.get(), 5) == str(created.account_id)
        await account_values.set_values(conn, "bob", AccountChanges(inbound=("44*",)), by="test")
        assert await asyncio.wait_for(heard.get(), 5) == str(created.account_id)
    finally:
        await listener.close()


@pytest.mark.parametrize(
    "values",
    [
        {"colour": "red"},
        {"max_binds": "many"},
        {"max_binds": "-1"},
        {"credit_limit": "-1"},
        {"credit_limit": "0.0000001"},
        {"insufficient_status": "0x100000000"},
        {"password": ""},
        {"system_id": ""},
    ],
)
def test_unreadable_values(values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        changes_from_text(values)
