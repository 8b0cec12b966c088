"""Who may call what: every route of the API, with every kind of token."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

import httpx
import pytest
import pytest_asyncio
from support.api import BASE, CARRIER, QUEUED_ROUTE, ApiServer, api_server

from proxy.admin.api.access import OWN, ROOT, SCOPE, Route
from proxy.admin.api.app import create_api
from proxy.admin.context import Context
from proxy.config import DatabaseSettings, Settings
from proxy.store import tokens
from proxy.store.database import Database
from proxy.store.ids import IdMint

SCOPES = tokens.SCOPES


class Cluster(Protocol):
    """The fixture `postgres`."""

    def fresh(self) -> AbstractAsyncContextManager[str]: ...


class Operation(NamedTuple):
    method: str
    path: str
    scope: str
    own: bool
    query: dict[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def url(self, values: dict[str, str]) -> str:
        return BASE + re.sub(r"{(\w+)}", lambda found: values[found[1]], self.path)


def _operations() -> list[Operation]:
    context = Context(
        pool=dict,
        mint=IdMint(0),
        settings=Settings(),
        readiness=dict,
        record_event=print,
        node=lambda: 1,
    )
    document = create_api(context).openapi()
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            query = {
                parameter["name"]: parameter["schema"]["examples"][0]
                for parameter in operation.get("parameters", ())
                if parameter["in"] == "query" and parameter["required"]
            }
            found.append(Operation(method.upper(), path, operation[SCOPE], operation[OWN], query))
    return found


# From the document, so that a route that is added later is tested as well.
OPERATIONS = _operations()
OWN_OPERATIONS = [operation for operation in OPERATIONS if operation.own]
every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=map(str, OPERATIONS))


@pytest.fixture
async def server(database: Database) -> AsyncIterator[ApiServer]:
    async with api_server(database) as opened:
        yield opened


class Both(NamedTuple):
    """A server with the accounts alpha and beta, and the words that stand in theirs only."""

    server: ApiServer
    alpha: list[str]
    beta: list[str]


# Two for all operations, as a new database each time would take minutes.  In the first nothing
# may ever change; the second is for what is allowed.
@asynccontextmanager
async def both_accounts(postgres: Cluster) -> AsyncIterator[Both]:
    async with postgres.fresh() as url:
        database = Database(DatabaseSettings(url=url), application_name="smpp-proxy-test")
        await database.open(wait=False)
        try:
            async with api_server(database) as opened:
                words = [await opened.add_secrets(name) for name in ("alpha", "beta")]
                for own in words:
                    own.append(await opened.add_queued(own[0], own[1]))
                yield Both(opened, *words)
        finally:
            await database.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(postgres: Cluster) -> AsyncIterator[Both]:
    async with both_accounts(postgres) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def changing(postgres: Cluster) -> AsyncIterator[Both]:
    async with both_accounts(postgres) as opened:
        yield opened


in_one_loop = pytest.mark.asyncio(loop_scope="module")


def values_of(account: str, words: list[str]) -> dict[str, dict[str, str]]:
    """What stands for a path's {name}, {id} …, by the first word of the path."""
    return {
        "accounts": {"name": account, "system_id": account, "plan": f"plan-of-{account}"},
        "messages": {"id": words[2]},
        "sessions": {"id": words[3]},
        "tariffs": {"name": f"tariff-of-{account}"},
        "plans": {"plan": f"plan-of-{account}"},
        "upstreams": {"name": CARRIER},
        "events": {},
        "queue": {"id": words[4]},
        "routes": {},
    }


async def send(client: httpx.AsyncClient, operation: Operation, values: Any) -> httpx.Response:
    url = operation.url(values[operation.path.split("/")[1]])
    return await client.request(operation.method, url, params=operation.query)


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["status"]) == (status, status), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert document.keys() >= {"type", "title", "status", "detail"}
    return document


@in_one_loop
@every_operation
async def test_without_a_token_or_with_a_lesser_one_nothing_is_done(
    both: Both, operation: Operation
) -> None:
    server, values = both.server, values_of("beta", both.beta)
    before = await everything(server)
    anonymous = await server.client(None, address=str(operation))
    answer = await send(anonymous, operation, values)
    assert_problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    wrong = await anonymous.request(
        operation.method, answer.request.url, headers={"authorization": "Bearer sp_" + "x" * 43}
    )
    assert_problem(wrong, 401)
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]

    for scope in SCOPES[: SCOPES.index(operation.scope)]:
        answer = await send(await server.client(scope), operation, values)
        assert f"the scope {operation.scope};" in assert_problem(answer, 403)["detail"]
        assert f'scope="{operation.scope}"' in answer.headers["www-authenticate"]
    assert await everything(server) == before


@in_one_loop
@every_operation
async def test_with_enough_scope_it_goes_on(changing: Both, operation: Operation) -> None:
    server, values = changing.server, values_of("beta", changing.beta)
    await keep_sessions(server)
    for scope in SCOPES[SCOPES.index(operation.scope) :]:
        answer = await send(await server.client(scope), operation, values)
        # Without a body what needs one is refused for that; nothing is refused for the scope.
        assert answer.status_code in {200, 201, 202, 204, 404, 409, 415, 422}, answer.text


@in_one_loop
@every_operation
async def test_the_token_of_an_account_gets_nothing_of_another(
    both: Both, operation: Operation
) -> None:
    server, words = both.server, both.beta
    await keep_sessions(server)
    before = await everything(server)
    client = await server.client("read", "alpha")
    answer = await send(client, operation, values_of("beta", words))
    if not operation.own:
        assert_problem(answer, 403)
    elif "{" in operation.path:
        assert_problem(answer, 404)
        # Not even that it exists: what does not exist is answered in the same words.
        nothing = ["omega", "330000000", "1", "1-1", "1"]
        absent = await send(client, operation, values_of("omega", nothing))
        swapped = absent.text.replace("omega", "beta")
        for message_id in (words[2], words[4]):
            if message_id in answer.text:
                swapped = swapped.replace("message 1", f"message {message_id}")
        assert swapped == answer.text
    else:
        assert answer.status_code == 200
        assert "alpha" in answer.text
        assert [word for word in words if word in answer.text] == []
        filtered = await client.get(
            answer.request.url, params={**operation.query, "account": "beta"}
        )
        if "account" in filtered.text or operation.path != "/accounts":
            assert [word for word in words[1:] if word in filtered.text] == []
    assert await everything(server) == before


@in_one_loop
@pytest.mark.parametrize("operation", OWN_OPERATIONS, ids=map(str, OWN_OPERATIONS))
async def test_the_token_of_an_account_sees_its_own_and_not_whom_we_buy_from(
    both: Both, operation: Operation
) -> None:
    server, words = both.server, both.alpha
    answer = await send(await server.client("read", "alpha"), operation, values_of("alpha", words))
    assert answer.status_code == 200, answer.text
    for secret in (CARRIER, QUEUED_ROUTE, "their-id", "0.03", "beta"):
        assert secret not in answer.text
    full = await send(await server.client("read"), operation, values_of("alpha", words))
    assert full.status_code == 200
    if "messages" in operation.path:
        assert CARRIER in full.text and "their-id" in full.text
        assert "refused by the upstream: ESME_RSYSERR" in answer.text
    if "queue" in operation.path:
        assert QUEUED_ROUTE in full.text


async def keep_sessions(server: ApiServer) -> None:
    """What proxies say is not believed for long, and this module runs longer than that."""
    await server.execute("UPDATE node_status SET at = clock_timestamp()")


async def everything(server: ApiServer) -> list[Any]:
    """All that a call could have changed."""
    return [
        await server.database.pool.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")
        for table in (
            "account", "login", "ledger", "tariff", "price", "plan", "account_plan", "upstream",
            "queued", "queue_line",
        )
    ]  # fmt: skip


async def test_account_filters_of_others_find_nothing(server: ApiServer) -> None:
    for name in ("alpha", "beta"):
        await server.add_secrets(name)
        await server.add_queued(name)
    client = await server.client("read", "alpha")
    for path in ("/messages", "/events", "/queue"):
        assert_problem(await client.get(path, params={"account": "beta"}), 404)
        mine = (await client.get(path, params={"account": "alpha"})).json()["items"]
        assert mine and {item["account"] for item in mine} == {"alpha"}


async def test_a_route_without_a_scope_can_not_be_made() -> None:
    async def endpoint() -> None: ...

    with pytest.raises(KeyError, match=SCOPE):
        Route("/forgotten", endpoint)


async def test_revoked_and_expired_tokens_are_refused_at_once(server: ApiServer) -> None:
    client = await server.client("read")
    assert (await client.get("/accounts")).status_code == 200
    async with server.database.pool.acquire() as conn:
        await tokens.revoke_token(conn, "read", by="anna")
    assert_problem(await client.get("/accounts"), 401)

    other = await server.client("credit")
    assert (await other.get("/accounts")).status_code == 200
    await server.execute(
        "UPDATE api_token SET expires_at = $1 WHERE name = 'credit'",
        datetime.now(UTC) - timedelta(seconds=1),
    )
    assert_problem(await other.get("/accounts"), 401)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "sp_x", "Bearer a b", "Bearer \xe9\xe8"],
)
async def test_headers_that_are_no_token(server: ApiServer, header: str) -> None:
    client = await server.client(None)
    answer = await client.get("/accounts", headers={"authorization": header.encode("latin-1")})
    assert_problem(answer, 401)


async def test_who_guesses_has_to_wait_and_nobody_else(server: ApiServer) -> None:
    good = await server.client("read", address="192.0.2.1")
    assert (await good.get("/accounts")).status_code == 200
    guesser = await server.client(None, address="192.0.2.1")
    answers = [
        await guesser.get("/accounts", headers={"authorization": f"Bearer sp_{n:043}"})
        for n in range(12)
    ]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert_problem(answers[-1], 429)
    assert 0 < int(answers[-1].headers["retry-after"]) <= 7
    # Who was known before the guessing goes on, from the same address; as do other addresses.
    assert (await good.get("/accounts")).status_code == 200
    elsewhere = await server.client("credit", address="192.0.2.2")
    assert (await elsewhere.get("/accounts")).status_code == 200
    # A token that was not seen before has to wait as well: nobody learns that it is good.
    unseen = await server.client("admin", address="192.0.2.1")
    assert_problem(await unseen.get("/accounts"), 429)


async def test_no_part_of_the_api_is_outside_of_the_document(server: ApiServer) -> None:
    """What is not in the document answers 404, whatever the method and the token."""
    client = await server.client("admin")
    for path in ("/", "/tokens", "/operators", "/docs", "/redoc"):
        for method in ("GET", "POST", "PUT", "DELETE"):
            answer = await client.request(method, f"http://test{ROOT}{path}")
            assert_problem(answer, 404)
