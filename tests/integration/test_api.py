"""What the routes of the API do, when the caller may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import httpx
import pytest
from support.api import CARRIER, ApiServer, api_server, create_with_login

from proxy.store import history
from proxy.store.audit import audit
from proxy.store.credit import add_credit
from proxy.store.database import Database
from proxy.store.passwords import verify_password


@pytest.fixture
async def server(database: Database) -> AsyncIterator[ApiServer]:
    async with api_server(database) as opened:
        yield opened


@pytest.fixture
async def client(server: ApiServer) -> httpx.AsyncClient:
    return await server.client()


async def events_of(server: ApiServer, kind: str) -> list[str]:
    async with server.database.pool.acquire() as conn:
        return [event["text"] for event in await history.events(conn, kind=kind)]


async def listed(client: httpx.AsyncClient, path: str, **params: Any) -> list[dict[str, Any]]:
    """All items of a list, page by page."""
    items: list[dict[str, Any]] = []
    while True:
        answer = await client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        items += body["items"]
        if body["next"] is None:
            assert "link" not in answer.headers
            return items
        # The Link header leads to the same page as the cursor.
        assert f"cursor={body['next']}" in answer.headers["link"]
        assert answer.headers["link"].endswith('; rel="next"')
        params["cursor"] = body["next"]


# ------------------------------------------------------------------------------- accounts


async def test_an_account_from_its_creation_to_its_end(
    server: ApiServer, client: httpx.AsyncClient
) -> None:
    made = await client.post(
        "/accounts", json={"name": "shop", "password": "s3cret", "credits": "12.5"}
    )
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/api/v1/accounts/shop"
    assert (made.json()["balance"], made.json()["system_ids"]) == ("12.5", ["shop"])
    again = await client.post("/accounts", json={"name": "shop", "password": "x"})
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "there is already an account 'shop'",
    )
    taken = await client.post(
        "/accounts", json={"name": "other", "password": "x", "system_id": "shop"}
    )
    assert taken.status_code == 409
    assert (await client.get("/accounts/other")).status_code == 404

    disabled = await client.post("/accounts/shop/disable")
    assert disabled.json()["enabled"] is False
    assert (await client.post("/accounts/shop/enable")).json()["enabled"] is True
    assert await events_of(server, "account_created") == ["Account created by token admin"]
    assert "Account disabled by token admin" in await events_of(server, "account_changed")
    assert await events_of(server, "credit_added") == ["Credits added: 12.5 by token admin"]
    for path in ("", "/disable", "/enable"):
        method = "POST" if path else "GET"
        absent = await client.request(method, f"/accounts/nobody{path}")
        assert (absent.status_code, absent.json()["detail"]) == (
            404,
            "there is no account 'nobody'",
        )


async def test_every_rule_can_be_changed_and_taken_away(
    server: ApiServer, client: httpx.AsyncClient
) -> None:
    await server.add_account("shop")
    await server.execute("INSERT INTO tariff (name) VALUES ('gold')")
    wanted = {
        "tariff": "gold",
        "charge_on": "delivery",
        "delivery_release": ["EXPIRED", "REJECTD"],
        "delivery_max_age_s": 3600,
        "delivery_overdue": "release",
        "credit_limit": "50.25",
        "daily_cap": "10",
        "monthly_cap": "100.000001",
        "daily_messages": 500,
        "rate": 2.5,
        "allowed_senders": ["Shop", "4477*"],
        "allowed_prefixes": ["44*", "33*"],
        "valid_until": "2027-03-01T12:00:00Z",
        "low_balance": ["100", "24h"],
        "insufficient_status": 1035,
        "retry_safe_s": 60,
        "all_parts": True,
        "timezone": "Europe/Paris",
        "max_binds": 4,
        "inbound": ["447700900123", "4478*"],
    }
    changed = await client.patch("/accounts/shop", json=wanted)
    assert changed.status_code == 200, changed.text
    seen = changed.json()
    assert {key: seen[key] for key in wanted} == wanted
    [text] = await events_of(server, "account_changed")
    assert text.startswith("Account changed by token admin: ")
    assert "credit_limit=50.25" in text

    removable = (
        "daily_cap", "monthly_cap", "daily_messages", "rate", "allowed_senders",
        "allowed_prefixes", "valid_until", "insufficient_status",
    )  # fmt: skip
    cleared = await client.patch("/accounts/shop", json=dict.fromkeys(removable))
    assert cleared.status_code == 200, cleared.text
    assert {key: cleared.json()[key] for key in removable} == dict.fromkeys(removable)
    # What was left out stays.
    assert cleared.json()["rate"] is None and cleared.json()["max_binds"] == 4


@pytest.mark.parametrize(
    ("change", "status", "part"),
    [
        ({"colour": "red"}, 422, "Extra inputs"),
        ({"rate": 0}, 422, "greater than or equal to 0.001"),
        ({"daily_cap": "0"}, 422, "not above zero"),
        ({"credit_limit": "-1"}, 422, "0 or more"),
        ({"credit_limit": 5}, 422, "valid string"),
        ({"timezone": "Mars/Olympus"}, 422, "not a time zone"),
        ({"valid_until": "9999-12-31"}, 422, "a year from 1970 to 2199"),
        ({"valid_until": "2026-02-31"}, 422, "neither a date nor a time"),
        ({"allowed_senders": ["a,b"]}, 422, "match pattern"),
        ({"max_binds": None}, 422, "valid integer"),
        ({"tariff": "none-such"}, 409, "there is no tariff 'none-such'"),
        ({"inbound": ["4477*"]}, 409, "belongs to account 'other'"),
    ],
)
async def test_changes_that_are_refused(
    server: ApiServer, client: httpx.AsyncClient, change: dict[str, Any], status: int, part: str
) -> None:
    await server.add_account("shop")
    await server.add_account("other")
    assert (await client.patch("/accounts/other", json={"inbound": ["4477*"]})).status_code == 200
    before = (await client.get("/accounts/shop")).json()
    answer = await client.patch("/accounts/shop", json=change)
    assert answer.status_code == status, answer.text
    assert part in answer.json()["detail"]
    assert (await client.get("/accounts/shop")).json() == before


async def test_logins(server: ApiServer, client: httpx.AsyncClient) -> None:
    await create_with_login(server, "shop", "first")
    added = await client.post(
        "/accounts/shop/logins", json={"system_id": "shop/2", "password": "second"}
    )
    assert (added.status_code, added.json()) == (201, {"account": "shop", "system_id": "shop/2"})
    taken = await client.post(
        "/accounts/shop/logins", json={"system_id": "shop/2", "password": "x"}
    )
    assert taken.status_code == 409
    set_again = await client.put("/accounts/shop/logins/shop/2", json={"password": "third"})
    assert set_again.status_code == 200
    stored = await server.fetchval("SELECT password_hash FROM login WHERE system_id = 'shop/2'")
    assert verify_password(stored, "third") and not verify_password(stored, "second")

    names = (await client.get("/accounts/shop/logins")).json()["items"]
    assert [login["system_id"] for login in names] == ["shop", "shop/2"]
    assert (await client.delete("/accounts/shop/logins/shop/2")).status_code == 204
    for method, json in (("DELETE", None), ("PUT", {"password": "x"})):
        absent = await client.request(method, "/accounts/shop/logins/shop/2", json=json)
        assert absent.status_code == 404
        assert absent.json()["detail"] == "account 'shop' has no login 'shop/2'"
    # A login of another account can't be reached through one's name.
    await server.add_account("other")
    assert (await client.delete("/accounts/shop/logins/other")).status_code == 404
    for kind, text in (
        ("login_added", "Login shop/2 added by token admin"),
        ("password_set", "Password of shop/2 set by token admin"),
        ("login_removed", "Login shop/2 removed by token admin"),
    ):
        assert await events_of(server, kind) == [text]


# -------------------------------------------------------------------------------- credits


async def test_credits_in_and_out(server: ApiServer) -> None:
    await server.add_account("shop", 10)
    client = await server.client("credit")
    added = await client.post("/accounts/shop/credit", json={"amount": "50", "note": "Invoice 7"})
    assert added.status_code == 201, added.text
    assert (added.json()["change"], added.json()["balance"]) == ("50", "60")
    removed = await client.post("/accounts/shop/credit", json={"amount": "-0.5"})
    assert (removed.status_code, removed.json()["balance"]) == (201, "59.5")
    refused = await client.post("/accounts/shop/credit", json={"amount": "-60"})
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        "only 59.5 credits can be removed",
    )
    newest, second, first = (await client.get("/accounts/shop/credit")).json()["items"]
    assert (newest["change"], newest["by"], newest["operation"]) == ("-0.5", "token credit", "add")
    assert (second["id"], second["note"]) == (added.json()["id"], "Invoice 7")
    assert first["by"] == "anna"
    async with server.database.pool.acquire() as conn:
        assert await audit(conn) == []


async def test_credits_that_expire(server: ApiServer, client: httpx.AsyncClient) -> None:
    await server.add_account("shop", 10)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    body = {"amount": "5", "expires_at": until.isoformat()}
    assert (await client.post("/accounts/shop/credit", json=body)).status_code == 201
    [grant] = (await client.get("/accounts/shop/grants")).json()["items"]
    assert (grant["amount"], grant["left"], grant["by"]) == ("5", "5", "token admin")
    assert datetime.fromisoformat(grant["expires_at"]) == until
    assert (await client.get("/accounts/shop")).json()["granted"] == "5"
    body["expires_at"] = "2026-01-01T00:00:00Z"
    assert (await client.post("/accounts/shop/credit", json=body)).status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {"amount": "0"}, {"amount": "0.0"}, {"amount": 5}, {"amount": "1e3"}, {"amount": "NaN"},
        {"amount": "0.0000001"}, {"amount": "9999999999999"}, {"amount": ""}, {}, {"note": "x"},
        {"amount": "1", "note": "a\0b"}, {"amount": "1", "note": "x" * 501},
        {"amount": "1", "expires_at": "2030-01-01"}, {"amount": "1", "expires_at": 1900000000},
        {"amount": "1", "expires_at": "0001-01-01T00:00:00Z"},
        {"amount": "-1", "expires_at": "2030-01-01T00:00:00Z"}, {"amount": "1", "ammount": "2"},
    ],
)  # fmt: skip
async def test_amounts_that_are_none(
    server: ApiServer, client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    await server.add_account("shop", 10)
    answer = await client.post("/accounts/shop/credit", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["where"] == "body"
    assert (await client.get("/accounts/shop")).json()["balance"] == "10"


async def test_the_same_key_adds_once(server: ApiServer, client: httpx.AsyncClient) -> None:
    await server.add_account("shop", 0)
    await server.add_account("other", 0)

    async def add(amount: str, name: str = "shop", key: str = "invoice 7") -> httpx.Response:
        headers = {"Idempotency-Key": key}
        return await client.post(
            f"/accounts/{name}/credit", json={"amount": amount}, headers=headers
        )

    answers = await asyncio.gather(*(add("5") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.json()["change"] for answer in answers) == ["0"] * 7 + ["5"]
    assert (await client.get("/accounts/shop")).json()["balance"] == "5"

    different = await add("6")
    assert different.status_code == 409
    assert different.json()["detail"] == "this key was used before, with the amount 5"
    assert (await add("6", "other")).status_code == 201
    assert (await add("5", key="k" * 201)).status_code == 422
    assert (await client.get("/accounts/shop")).json()["balance"] == "5"


# ---------------------------------------------------------------- tariffs, plans, upstreams


async def test_a_tariff_as_csv_and_as_json(server: ApiServer, client: httpx.AsyncClient) -> None:
    text = "prefix,service,price,valid_from,valid_to\n,,not sold,,\n44,sms,0.05,,2027-01-01\n"
    csv = {"content-type": "text/csv"}
    dry = await client.put("/tariffs/gold?dry_run=true", content=text, headers=csv)
    assert (dry.status_code, dry.json()["created"], dry.json()["added_count"]) == (200, True, 2)
    assert (await client.get("/tariffs/gold")).status_code == 404

    done = await client.put("/tariffs/gold", content=text, headers=csv)
    assert (done.json()["dry_run"], done.json()["added_count"]) == (False, 2)
    exported = await client.get("/tariffs/gold", headers={"accept": "text/csv"})
    assert exported.headers["content-type"].startswith("text/csv")
    assert exported.text == text
    assert (await client.get("/tariffs/gold?format=csv")).text == text

    as_json = (await client.get("/tariffs/gold")).json()
    assert as_json["prices"][0] == {
        "prefix": "", "service": "", "price": None, "valid_from": None, "valid_to": None,
    }  # fmt: skip
    same = await client.put("/tariffs/gold", json={"prices": as_json["prices"]})
    assert (same.json()["unchanged_count"], same.json()["added_count"]) == (2, 0)
    as_json["prices"][1]["price"] = "0.06"
    other = await client.put("/tariffs/gold", json={"prices": as_json["prices"]})
    [change] = other.json()["changed"]
    assert (change["old"]["price"], change["new"]["price"]) == ("0.05", "0.06")
    assert await events_of(server, "tariff_changed") == [
        "Tariff gold imported: 2 added, 0 changed, 0 ended by token admin",
        "Tariff gold imported: 0 added, 1 changed, 0 ended by token admin",
    ]
    names = [tariff["name"] for tariff in (await client.get("/tariffs")).json()["items"]]
    assert names == ["gold", "standard"]
    assert (await client.delete("/tariffs/gold")).json() == {
        "name": "gold", "prices": 2, "kept": False,
    }  # fmt: skip
    assert (await client.delete("/tariffs/gold")).status_code == 404
    assert (await client.delete("/tariffs/standard")).status_code == 409


@pytest.mark.parametrize(
    ("content", "media", "status", "part"),
    [
        ("prefix,price\n44,0\n44,x\n", "text/csv", 422, "line 2: price: '0' is not above zero"),
        ("", "text/csv", 422, "no header"),
        ("prefix,price\n44,1\n", "text/plain", 415, "application/json or text/csv"),
        ("{", "application/json", 422, "JSON"),
        ('{"prices": []}', "application/json", 422, "at least 1 item"),
        ('{"prices": [{"prefix": "44", "price": "0"}]}', "application/json", 422, "above zero"),
        ('{"prices": [{"prefix": "4,4", "price": "1"}]}', "application/json", 422, "pattern"),
        (
            '{"prices": [{"prefix": "44", "price": "1"}, {"prefix": "44", "price": "2"}]}',
            "application/json", 422, "valid at the same time",
        ),
    ],
)  # fmt: skip
async def test_tariffs_that_are_refused(
    client: httpx.AsyncClient, content: str, media: str, status: int, part: str
) -> None:
    answer = await client.put("/tariffs/gold", content=content, headers={"content-type": media})
    assert answer.status_code == status, answer.text
    assert part in answer.json()["detail"]
    assert (await client.get("/tariffs/gold")).status_code == 404


async def test_a_price_is_explained(server: ApiServer, client: httpx.AsyncClient) -> None:
    await server.add_secrets("shop")
    await client.put("/tariffs/gold", json={"prices": [{"prefix": "44", "price": "0.05"}]})
    await client.put("/tariffs/cost", json={"prices": [{"prefix": "4477", "price": "0.03"}]})
    await client.patch("/accounts/shop", json={"tariff": "gold"})
    await client.put(f"/upstreams/{CARRIER}/cost", json={"tariff": "cost"})
    path = "/accounts/shop/price?destination=447700900123&segments=3"
    found = (await client.get(path)).json()
    assert (found["tariff"], found["prefix"], found["total"]) == ("gold", "44", "0.15")
    assert found["costs"] == [
        {"upstream": CARRIER, "tariff": "cost", "cost": "0.09", "margin": "0.06"}
    ]
    none = (await client.get("/accounts/shop/price?destination=33")).json()
    assert (none["refusal"], none["total"]) == ("no_price", None)


async def test_plans(server: ApiServer, client: httpx.AsyncClient) -> None:
    await server.add_account("shop", 0)
    new = {"name": "daily", "credits": "7", "every": "day"}
    assert (await client.post("/plans", json=new)).status_code == 201
    assert (await client.post("/plans", json=new)).status_code == 409
    assigned = await client.put("/accounts/shop/plans/daily")
    assert assigned.status_code == 200, assigned.text
    assert assigned.json()["granted"]["balance"] == "7"
    assert (await client.put("/accounts/shop/plans/daily")).status_code == 409
    [plan] = (await client.get("/accounts/shop/plans")).json()["items"]
    assert (plan["name"], "accounts" in plan) == ("daily", False)
    assert (await client.get("/plans")).json()["items"][0]["accounts"] == ["shop"]
    assert (await client.delete("/plans/daily")).status_code == 409
    assert (await client.delete("/accounts/shop/plans/daily")).status_code == 204
    assert (await client.delete("/accounts/shop/plans/daily")).status_code == 409
    assert (await client.delete("/plans/daily")).status_code == 204
    assert (await client.put("/accounts/shop/plans/daily")).status_code == 404
    assert await events_of(server, "plan_assigned") == ["Plan daily assigned by token admin"]


async def test_upstreams(server: ApiServer, client: httpx.AsyncClient) -> None:
    await server.add_secrets("shop")
    [carrier] = (await client.get("/upstreams")).json()["items"]
    counts = {"links": 1, "window_used": 4, "window_max": 100, "backlog": 0}
    assert (carrier["name"], carrier["paused"], carrier["state"]) == (CARRIER, False, "up")
    assert carrier["nodes"] == [{"node": 4, "state": "up", **counts}]
    assert {key: carrier[key] for key in counts} == counts
    assert (await client.post(f"/upstreams/{CARRIER}/pause")).json()["paused"] is True
    assert (await client.post(f"/upstreams/{CARRIER}/resume")).json()["paused"] is False
    assert await events_of(server, "upstream_paused") == [
        f"Upstream {CARRIER} paused by token admin"
    ]
    assert (await client.post("/upstreams/none/pause")).status_code == 404
    refused = await client.put(f"/upstreams/{CARRIER}/cost", json={"tariff": "none"})
    assert refused.status_code == 409
    assert (await client.put("/upstreams/none/cost", json={"tariff": None})).status_code == 404
    # A proxy that has said nothing for a while is not believed.
    await server.execute("UPDATE node_status SET at = now() - interval '16 seconds'")
    assert (await client.get("/upstreams")).json()["items"][0]["nodes"] == []
    assert (await client.get("/sessions")).json()["items"] == []


# -------------------------------------------------------------- messages, events, sessions


async def test_messages_by_filter(server: ApiServer, client: httpx.AsyncClient) -> None:
    await server.add_account("shop")
    await server.add_account("other")
    one = str(await server.add_message("shop", "447700900001"))
    two = str(await server.add_message("shop", "447700900002"))
    three = str(await server.add_message("other", "447700900001"))

    async def ids(**params: str) -> list[str]:
        return [message["id"] for message in await listed(client, "/messages", **params)]

    assert await ids() == [three, two, one]
    assert await ids(account="shop") == [two, one]
    assert await ids(destination="447700900001") == [three, one]
    assert await ids(state="held") == []
    assert await ids(state="released", account="other") == [three]
    now = datetime.now(UTC)
    assert await ids(until=(now - timedelta(hours=1)).isoformat()) == []
    assert await ids(since=(now - timedelta(hours=1)).isoformat()) == [three, two, one]
    submitted = (await client.get(f"/messages/{two}")).json()["submitted_at"]
    assert await ids(until=submitted) == [one]
    assert await ids(since=submitted) == [three, two]

    message = (await client.get(f"/messages/{one}")).json()
    assert (message["upstream"], message["smsc_message_id"]) == (CARRIER, "their-id")
    assert [step["what"] for step in message["history"]][:2] == ["submitted", "credit taken"]
    for absent in ("1", "9" * 19):
        assert (await client.get(f"/messages/{absent}")).status_code == 404


async def test_pages_stay_right_while_rows_are_added(
    server: ApiServer, client: httpx.AsyncClient
) -> None:
    await server.add_account("shop", 1)
    there = [str(await server.add_message("shop")) for _ in range(7)]
    async with server.database.pool.acquire() as conn:
        for n in range(5):
            await add_credit(conn, "shop", 1_000_000, note=str(n), by="anna", mint=server.mint)
    lists = {"/messages": "id", "/accounts/shop/credit": "id", "/events": "at", "/accounts": "name"}
    numbers = count()
    for path, key in lists.items():
        whole = [row[key] for row in await listed(client, path, limit=1000)]
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            body = (await client.get(path, params={"limit": "2", **cursor})).json()
            seen += [row[key] for row in body["items"]]
            # Between two pages something happens.
            await server.add_message("shop")
            await server.add_account(f"new{next(numbers)}", 1)
            if body["next"] is None or len(seen) > 100:
                break
            cursor = {"cursor": body["next"]}
            if path == "/accounts" and len(seen) >= len(whole) + 4:
                break  # they come at the end, so there is always one more
        assert len(seen) == len(set(seen)), path
        # Nothing that was there is missing or stands elsewhere; newer rows do not come between.
        assert seen[: len(whole)] == whole, path
    assert set(there) <= {row["id"] for row in await listed(client, "/messages", limit=3)}


async def test_a_statement(server: ApiServer, client: httpx.AsyncClient) -> None:
    await server.add_secrets("shop")
    path = "/accounts/shop/statement"
    found = (await client.get(path, params={"by": "sender"})).json()
    assert (found["opening"], found["closing"], found["timezone"]) == ("0", "100", "UTC")
    assert found["totals"]["add"] == {"rows": 1, "change": "100"}
    assert found["totals"]["use"] == {"rows": 1, "change": "-1"}
    assert found["totals"]["refund"] == {"rows": 1, "change": "1"}
    [group] = found["usage"]
    assert (group["key"], group["messages"], group["price"]) == ("Shop", 1, "1")
    assert group["cost"] == "0.03"
    assert (await client.get(path)).json()["usage"] == []
    for by in ("day", "prefix", "state", "service"):
        assert len((await client.get(path, params={"by": by})).json()["usage"]) == 1

    table = await client.get(path, params={"by": "sender", "format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    heading, line = table.text.splitlines()
    assert heading == "key,messages,segments,price,released,cost,margin"
    assert line.startswith("Shop,1,1,1,1,0.03,")
    customer = await server.client("read", "shop")
    theirs = (await customer.get(path, params={"by": "sender"})).json()["usage"]
    assert theirs == [{**group, "cost": None, "margin": None}]

    before = {"from": "2026-01-01", "to": "2026-01-31"}
    quiet = (await client.get(path, params=before)).json()
    assert (quiet["opening"], quiet["closing"]) == ("0", "0")
    assert (quiet["start"], quiet["end"]) == ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
    for wrong in (
        {"from": "2026-02-01", "to": "2026-01-01"},
        {"from": "2026-02-31"},
        {"from": "9999-01-01"},
        {"from": "yesterday"},
        {"by": "cost"},
        {"format": "csv"},
    ):
        assert (await client.get(path, params=wrong)).status_code == 422, wrong
    assert (await client.get("/accounts/nobody/statement")).status_code == 404


async def test_a_sender_is_no_formula(server: ApiServer, client: httpx.AsyncClient) -> None:
    await server.add_secrets("shop")
    await server.execute("UPDATE message SET source_addr = '=HYPERLINK(1)'")
    params = {"by": "sender", "format": "csv"}
    table = await client.get("/accounts/shop/statement", params=params)
    assert table.text.splitlines()[1].startswith("'=HYPERLINK(1),")


async def test_events_of_one_instant_are_all_listed(
    server: ApiServer, client: httpx.AsyncClient
) -> None:
    await server.execute(
        "INSERT INTO event (minute, account_id, kind, text, severity, at) SELECT"
        " date_trunc('minute', now()), 0, 'kind' || n % 3, 'text ' || n, 'info', now()"
        " FROM generate_series(1, 20) n"
    )
    found = await listed(client, "/events", limit=3)
    texts = [event["text"] for event in found if event["kind"].startswith("kind")]
    assert sorted(texts) == sorted(f"text {n}" for n in range(1, 21))
    times = [event["at"] for event in found]
    assert all(later >= earlier for later, earlier in pairwise(times))
    only = await listed(client, "/events", kind="kind1", limit=4)
    assert {event["kind"] for event in only} == {"kind1"} and len(only) == 7
    assert await listed(client, "/events", severity="error") == []


async def test_a_session_is_listed_and_disconnected(server: ApiServer) -> None:
    client = await server.client()
    await server.add_account("shop")
    first = await server.add_session("shop", node=2, number=5)
    second = await server.add_session("shop", node=10, number=1)
    third = await server.add_session("shop", node=10, number=2)
    sessions = await listed(client, "/sessions", limit=1)
    assert [session["id"] for session in sessions] == [first, second, third]
    assert sessions[0]["peer"] == "192.0.2.7" and sessions[0]["open_requests"] == 2
    assert await listed(client, "/sessions", account="nobody") == []

    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await server.database.connect()
    try:
        await listener.add_listener(
            "smpp_proxy_disconnect", lambda *found: heard.put_nowait(found[3])
        )
        answer = await client.delete(f"/sessions/{second}")
        assert (answer.status_code, answer.json()["system_id"]) == (202, "shop")
        assert await asyncio.wait_for(heard.get(), 5) == "10:1"
    finally:
        await listener.close()
    assert await events_of(server, "session_disconnected") == ["shop disconnected by token admin"]
    absent = await client.delete("/sessions/10-99")
    assert (absent.status_code, absent.json()["detail"]) == (404, "there is no session 10-99")
