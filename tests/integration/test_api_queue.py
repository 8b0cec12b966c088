"""/queue, /routes and what /upstreams says of modems."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from support.api import ApiServer, api_server
from support.queued import claim, enqueue, put_off

from proxy.config import ModemSettings, RouteSettings, Settings, SmppUpstreamSettings
from proxy.flow import queue_changes
from proxy.store import history, nodes
from proxy.store.audit import audit
from proxy.store.database import Database

SETTINGS = Settings(
    upstream=[
        SmppUpstreamSettings(name="carrier", host="c.test", system_id="p", password=SecretStr("p")),
        ModemSettings(kind="modem", name="modem", device="/dev/ttyUSB0", per_day=100),
    ],
    route=[
        RouteSettings(prefix="33", upstreams=["carrier"], when_down="queue"),
        RouteSettings(name="rest", upstreams=["modem"]),
    ],
)


@pytest.fixture
async def server(database: Database) -> AsyncIterator[ApiServer]:
    async with api_server(database, settings=SETTINGS) as opened:
        await opened.add_account("shop")
        await opened.add_account("other")
        yield opened


@pytest.fixture
async def client(server: ApiServer) -> httpx.AsyncClient:
    return await server.client()


async def add(server: ApiServer, account: str, *numbers: str, **values: Any) -> list[int]:
    async with server.database.pool.acquire() as conn:
        account_id = await conn.fetchval("SELECT id FROM account WHERE name = $1", account)
        return await enqueue(conn, account_id, *numbers, **values)


async def postpone_all(server: ApiServer) -> None:
    async with server.database.pool.acquire() as conn:
        await put_off(conn, await claim(conn))


async def listed(client: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    while True:
        answer = await client.get("/queue", params=params)
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        if answer.json()["next"] is None:
            return items
        params["cursor"] = answer.json()["next"]


async def test_the_queue_is_listed_in_pages(server: ApiServer, client: httpx.AsyncClient) -> None:
    ids = [str(one) for one in await add(server, "shop", "1", "2", "3")]
    [foreign] = await add(server, "other", "1", route="b")
    await postpone_all(server)
    items = await listed(client, limit=1)
    assert [one["id"] for one in items[:1]] == [str(foreign)]
    assert {one["id"] for one in items} == {str(foreign), *ids}
    assert [one["id"] for one in await listed(client, account="shop", limit=2)] == ids
    assert [one["id"] for one in await listed(client, route="b")] == [str(foreign)]
    assert items[-1]["last_status"] == 0x58 and items[-1]["route"] == "modems"
    # A cursor is of the list that it came from.
    page = await client.get("/queue", params={"limit": 1})
    cursor = page.json()["next"]
    wrong = await client.get("/queue", params={"account": "shop", "cursor": cursor})
    assert wrong.status_code == 422
    [shown] = [one for one in items if one["id"] == ids[1]]
    one = (await client.get(f"/queue/{ids[1]}")).json()
    assert {key: one[key] for key in shown} == shown
    assert one["before_it"] == 0
    for absent in ("1", "9999999999999999999"):
        answer = await client.get(f"/queue/{absent}")
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            f"there is no message {absent} in the queue",
        )


async def test_the_summary(server: ApiServer, client: httpx.AsyncClient) -> None:
    await add(server, "shop", "1", "2")
    await add(server, "other", "1", route="b", due_in_s=100)
    found = (await client.get("/queue/summary")).json()
    assert (found["account"], found["messages"], found["scheduled"]) == (None, 3, 1)
    assert [(one["route"], one["messages"]) for one in found["routes"]] == [("b", 1), ("modems", 2)]
    customer = await server.client("read", "other")
    own = (await customer.get("/queue/summary")).json()
    assert (own["account"], own["messages"], own["routes"]) == ("other", 1, None)
    assert (await customer.get("/queue", params={"route": "b"})).status_code == 403
    assert (await customer.get("/queue/summary", params={"account": "shop"})).status_code == 404


async def test_messages_are_tried_again(server: ApiServer, client: httpx.AsyncClient) -> None:
    ids = await add(server, "shop", "1", "2")
    await postpone_all(server)
    answer = await client.post("/queue/retry", json={"ids": [str(ids[0]), "12"]})
    assert answer.json() == {"destinations": 1}
    assert (await client.post("/queue/retry", json={"account": "shop"})).json() == {
        "destinations": 1
    }
    async with server.database.pool.acquire() as conn:
        assert len(await claim(conn)) == 2
        [event] = await history.events(conn, kind="queue_retried")
    assert (event["count"], event["text"]) == (
        2,
        "Queued messages are tried again now, by token admin",
    )


async def test_cancelling_again_does_nothing_more(
    server: ApiServer, client: httpx.AsyncClient
) -> None:
    ids = await add(server, "shop", "1", "2", "3")
    body = {"ids": [str(ids[0])]}
    nothing = {"cancelled": 0, "left": 0, "more": False}
    assert (await client.post("/queue/cancel", json=body)).json() == nothing | {"cancelled": 1}
    assert (await client.post("/queue/cancel", json=body)).json() == nothing
    everything = {"ids": ["9" * 19]}
    assert (await client.post("/queue/cancel", json=everything)).json() == nothing
    assert (await client.delete(f"/queue/{ids[1]}")).status_code == 204
    assert (await client.delete(f"/queue/{ids[1]}")).status_code == 404
    async with server.database.pool.acquire() as conn:
        await claim(conn)
    refused = await client.delete(f"/queue/{ids[2]}")
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        f"message {ids[2]} is on its way",
    )
    left = await client.post("/queue/cancel", json={"account": "shop"})
    assert left.json() == nothing | {"left": 1}
    async with server.database.pool.acquire() as conn:
        assert await conn.fetchval("SELECT balance FROM v_account WHERE name = 'shop'") == 99
        assert await audit(conn) == []
        events = await history.events(conn, kind="queue_cancelled")
    assert {event["text"] for event in events} == {"Queued messages cancelled by token admin"}


async def test_a_long_cancellation_says_that_there_is_more(
    server: ApiServer, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(server, "shop", "1")
    monkeypatch.setattr(queue_changes, "AT_ONCE_MAX_S", -1)
    answer = await client.post("/queue/cancel", json={"route": "modems"})
    assert answer.json() == {"cancelled": 0, "left": 0, "more": True}


@pytest.mark.parametrize(
    "body",
    [{}, {"ids": []}, {"ids": ["1"], "account": "shop"}, {"ids": ["x"]}, {"route": ""},
     {"route": "a\0"}, {"ids": ["1"] * 1001}, {"colour": "red"}],
)  # fmt: skip
async def test_what_is_no_choice_is_refused(client: httpx.AsyncClient, body: Any) -> None:
    for path in ("/queue/retry", "/queue/cancel"):
        assert (await client.post(path, json=body)).status_code == 422
        absent = await client.post(path, json={"account": "nobody"})
        assert absent.status_code == 404


# ------------------------------------------------------------------------ routes, upstreams


async def test_routes_are_listed_and_tried(server: ApiServer, client: httpx.AsyncClient) -> None:
    first, rest = (await client.get("/routes")).json()["items"]
    assert (first["name"], first["conditions"], first["mode"]) == (
        "33",
        "destination 33*",
        "direct",
    )
    assert (first["when_down"], rest["name"], rest["mode"]) == ("queue", "rest", "queued")
    assert rest["upstreams"] == ["modem"]
    asked = {"account": "shop", "to": "447700900123", "from": "Shop", "data_coding": 4}
    found = (await client.get("/routes/test", params=asked)).json()
    assert (found["route"], found["queued"], found["why_queued"]) == ("rest", True, "its mode")
    assert [one["matched"] for one in found["tried"]] == [False, True]
    assert (found["proxies"], found["upstreams"][0]["state"]) == (0, "unknown")
    assert found["price"] == "1" and found["refusal"] is None
    for params in ({"account": "shop"}, asked | {"to": "1,2"}, asked | {"data_coding": 256}):
        assert (await client.get("/routes/test", params=params)).status_code == 422
    absent = await client.get("/routes/test", params=asked | {"account": "nobody"})
    assert absent.status_code == 404


async def test_a_modem_says_how_its_sim_does(server: ApiServer, client: httpx.AsyncClient) -> None:
    await server.execute("INSERT INTO upstream (name) VALUES ('modem'), ('gone')")
    report = {
        "name": "modem", "kind": "modem", "state": "limit", "links": 1, "window_used": 0,
        "window_max": 1, "backlog": 0, "paused": False, "pool": None, "why": "",
        "signal_dbm": -71, "operator": "Net", "used": {"hour": 1, "day": 100, "month": 100},
        "limits": {"hour": None, "day": 100, "month": None}, "balance": "12.34 EUR",
    }  # fmt: skip
    async with server.database.pool.acquire() as conn:
        await nodes.write_status(conn, 1, {"sessions": [], "upstreams": [report]})
    gone, modem = (await client.get("/upstreams")).json()["items"]
    assert (gone["state"], gone["kind"], gone["nodes"]) == ("unknown", None, [])
    assert (modem["state"], modem["signal_dbm"], modem["balance"]) == ("limit", -71, "12.34 EUR")
    assert (modem["used"]["day"], modem["limits"]["day"]) == (100, 100)
