"""Problem documents, limits, and the page that describes the API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from support.api import BASE, ApiServer, api_server, context_of

from proxy.admin.api.app import BODY_MAX, TARIFF_BODY_MAX
from proxy.store import pages
from proxy.store.database import Database, DatabaseUnreachable


@pytest.fixture
async def server(database: Database) -> AsyncIterator[ApiServer]:
    async with api_server(database) as opened:
        yield opened


@pytest.fixture
async def client(server: ApiServer) -> httpx.AsyncClient:
    return await server.client()


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == "about:blank" and document["status"] == status
    assert document["title"] and document["detail"]
    assert "Traceback" not in answer.text and "File" not in answer.text
    return document


async def test_paths_and_methods_that_are_none(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nothing"), 404)
    problem(await client.get("/accounts/"), 404)
    wrong = await client.put("/accounts")
    problem(wrong, 405)
    assert "GET" in wrong.headers["allow"]


async def test_what_is_wrong_is_named_and_not_repeated(client: httpx.AsyncClient) -> None:
    body = {"name": "a b", "password": "hünter-2", "extra": 1}
    answer = await client.post("/accounts", json=body)
    document = problem(answer, 422)
    assert {error["pointer"] for error in document["errors"]} == {"/name", "/password", "/extra"}
    assert "nter-2" not in answer.text
    query = problem(await client.get("/messages", params={"limit": "0", "state": "lost"}), 422)
    assert {error["where"] for error in query["errors"]} == {"query"}
    assert {error["pointer"] for error in query["errors"]} == {"/limit", "/state"}
    json = {"content-type": "application/json"}
    problem(await client.post("/accounts", content="{", headers=json), 400)
    problem(await client.post("/accounts", content='{"name": "\\ud800"}', headers=json), 422)
    problem(await client.post("/accounts", content=b"\xff\xfe", headers=json), 400)


@pytest.mark.parametrize(
    "params",
    [
        {"since": "2026-01-01"}, {"since": "2026-01-01T00:00:00"}, {"since": "0"},
        {"until": "9999-12-31T23:59:59-14:00"}, {"since": "0001-01-01T00:00:00+14:00"},
        {"cursor": "x"}, {"cursor": "W10"}, {"cursor": "é"}, {"cursor": ""},
        {"limit": "1001"}, {"account": "a b"}, {"destination": "a\0b"},
    ],
)  # fmt: skip
async def test_parameters_that_can_not_be_read(
    client: httpx.AsyncClient, params: dict[str, str]
) -> None:
    problem(await client.get("/messages", params=params), 422)


async def test_a_cursor_of_another_list_is_refused(
    server: ApiServer, client: httpx.AsyncClient
) -> None:
    await server.add_account("shop")
    await server.add_account("other")
    cursor = (await client.get("/accounts?limit=1")).json()["next"]
    assert cursor
    problem(await client.get("/messages", params={"cursor": cursor}), 422)
    assert (await client.get("/accounts", params={"cursor": cursor})).status_code == 200


async def test_bodies_that_are_too_long(client: httpx.AsyncClient) -> None:
    problem(await client.post("/accounts", content=b" " * (BODY_MAX + 1)), 413)
    csv = {"content-type": "text/csv"}
    long_enough = "prefix,price\n44,1\n" + "\n" * BODY_MAX
    assert (await client.put("/tariffs/gold", content=long_enough, headers=csv)).status_code == 200
    problem(
        await client.put("/tariffs/gold", content=b"\n" * (TARIFF_BODY_MAX + 1), headers=csv), 413
    )


@pytest.mark.parametrize(("method", "path"), [("POST", "/accounts"), ("PUT", "/tariffs/gold")])
async def test_bodies_without_a_length_are_counted(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b" " * 50_000

    headers = {"content-type": "application/json"}
    answer = await client.request(method, path, content=endless(), headers=headers)
    problem(answer, 413)
    assert read <= TARIFF_BODY_MAX / 50_000 + 2


async def test_a_body_is_not_read_before_the_caller_is_known(server: ApiServer) -> None:
    read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b"{}"

    client = await server.client("read")
    problem(await client.post("/accounts", content=body()), 403)
    assert not read


async def test_without_the_database_503_says_when_to_come_back(server: ApiServer) -> None:
    def away() -> Any:
        raise DatabaseUnreachable("there is none")

    async with api_server(server.database, pool=away) as without:
        client = await without.client(None)
        answer = await client.get("/accounts", headers={"authorization": "Bearer sp_" + "x" * 43})
    assert "there is none" not in problem(answer, 503)["detail"]
    assert int(answer.headers["retry-after"]) > 0


async def test_callers_leave_connections_to_the_proxy(server: ApiServer) -> None:
    """However many call at once, they use half of the pool and take turns."""
    client = await server.client()
    used, most = 0, 0
    original = server.database.pool.acquire

    class Counting:
        def acquire(self, **values: Any) -> Any:
            return Counted(original(**values))

    class Counted:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __aenter__(self) -> Any:
            nonlocal used, most
            used += 1
            most = max(most, used)
            return await self.inner.__aenter__()

        async def __aexit__(self, *found: Any) -> None:
            nonlocal used
            used -= 1
            await self.inner.__aexit__(*found)

    token = client.headers["authorization"]
    async with api_server(server.database, pool=Counting) as counted:
        busy = await counted.client(None)
        answers = await asyncio.gather(
            *(busy.get("/accounts", headers={"authorization": token}) for _ in range(30))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert 1 < most <= 4


async def test_a_bug_of_ours_is_a_500_without_a_stack_trace(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_args: Any, **_values: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(pages, "accounts", broken)
    answer = await client.get("/accounts")
    assert "secret" not in problem(answer, 500)["detail"]
    assert "secret" not in answer.text and "ZeroDivision" not in answer.text


async def test_the_reference_needs_no_script_and_nothing_from_elsewhere(server: ApiServer) -> None:
    client = await server.client(None)
    answer = await client.get("http://test/api/docs")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    page = answer.text
    assert (
        "<script" not in page and "style=" not in page and " on" not in re.findall(r"<[^>]*", page)
    )
    links = re.findall(r'(?:href|src)="([^"#][^"]*)"', page)
    assert set(links) == {"/api/docs.css", "/api/v1/openapi.json"}
    for link in links:
        assert (await client.get(f"http://test{link}")).status_code == 200
    # Every link within the page leads somewhere, and every operation is there.
    anchors = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= anchors
    document = (await client.get(f"{BASE}/openapi.json")).json()
    for path, methods in document["paths"].items():
        assert f"<code>/api/v1{path}</code>" in page
        for operation in methods.values():
            assert operation["summary"].replace("'", "&#x27;") in page
            assert operation["tags"] and operation["description"]


def test_every_operation_has_a_name_of_its_own() -> None:
    database: Any = None
    from proxy.admin.api.app import create_api

    document = create_api(context_of(database)).openapi()
    names = [op["operationId"] for methods in document["paths"].values() for op in methods.values()]
    assert len(names) == len(set(names))
