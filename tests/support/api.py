"""The HTTP API in this process, on a fresh database, with clients of several tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from support.queued import enqueue

from proxy.admin.context import Context
from proxy.admin.http import create_app
from proxy.config import Settings
from proxy.store import accounts, nodes, tokens
from proxy.store.credit import add_credit
from proxy.store.database import Database
from proxy.store.ids import COMMAND_NODE, IdMint

BASE = "http://test/api/v1"
CARRIER = "secret-carrier"
QUEUED_ROUTE = "secret-modems"
MICRO = 1_000_000


def context_of(database: Database, **values: Any) -> Context:
    """A Context for tests."""
    defaults: dict[str, Any] = {
        "pool": lambda: database.pool,
        "mint": IdMint(COMMAND_NODE),
        "settings": Settings(),
        "readiness": dict,
        "record_event": lambda *_args, **_values: None,
        "node": lambda: 1,
    }
    return Context(**(defaults | values))


class ApiServer:
    """The application, and what tests put into its database."""

    def __init__(self, database: Database, context: Context, stack: AsyncExitStack) -> None:
        self.database = database
        self.context = context
        self.app = create_app(context)
        self.mint = IdMint(COMMAND_NODE)
        self._stack = stack
        self._tokens: dict[tuple[str, str | None], str] = {}

    async def token(self, scope: str = "admin", account: str | None = None) -> str:
        """A token; the same one for the same scope and account."""
        if (scope, account) not in self._tokens:
            name = f"{scope}-{account}" if account else scope
            async with self.database.pool.acquire() as conn:
                made = await tokens.create_token(conn, name, scope, account=account, by="test")
            assert isinstance(made, tokens.TokenCreated)
            self._tokens[scope, account] = made.token
        return self._tokens[scope, account]

    async def client(
        self, scope: str | None = "admin", account: str | None = None, address: str = "127.0.0.1"
    ) -> httpx.AsyncClient:
        """A client with such a token; None: with none."""
        headers = {}
        if scope is not None:
            headers["authorization"] = f"Bearer {await self.token(scope, account)}"
        transport = httpx.ASGITransport(
            self.app, raise_app_exceptions=False, client=(address, 40000)
        )
        client = httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers)
        return await self._stack.enter_async_context(client)

    async def execute(self, sql: str, *args: object) -> None:
        """Change something behind the API's back."""
        await self.database.pool.execute(sql, *args)

    async def fetchval(self, sql: str, *args: object) -> Any:
        """One value of the database."""
        return await self.database.pool.fetchval(sql, *args)

    async def add_account(self, name: str, credits: int = 100) -> None:
        """An account with a login of the same name."""
        async with self.database.pool.acquire() as conn, conn.transaction():
            made = await conn.fetchrow(
                "WITH a AS (INSERT INTO account (name) VALUES ($1) RETURNING id)"
                " INSERT INTO login (account_id, system_id, password_hash)"
                " SELECT id, $1, '' FROM a RETURNING account_id",
                name,
            )
            assert made is not None
            await add_credit(conn, name, credits * MICRO, by="anna", mint=self.mint)

    async def add_message(self, account: str, destination: str = "447700900123") -> int:
        """A message that the carrier refused: its name stands wherever it can stand."""
        message_id = self.mint.mint(1)[0]
        refund_id = self.mint.mint(1)[0]
        async with self.database.pool.acquire() as conn, conn.transaction():
            account_id = await conn.fetchval("SELECT id FROM account WHERE name = $1", account)
            upstream_id = await conn.fetchval(
                "INSERT INTO upstream (name) VALUES ($1) ON CONFLICT (name)"
                " DO UPDATE SET name = excluded.name RETURNING id",
                CARRIER,
            )
            await conn.execute(
                "INSERT INTO message (id, account_id, login_id, command_id, source_addr,"
                " destination_addr, segments, price_micro, esm_class, data_coding,"
                " registered_delivery) SELECT $1, $2, l.id, 4, 'Shop', $3, 1, 1000000, 0, 0, 1"
                " FROM login l WHERE l.account_id = $2 LIMIT 1",
                message_id,
                account_id,
                destination,
            )
            reason = f"refused by {CARRIER}: ESME_RSYSERR"
            await conn.execute(
                "INSERT INTO outcome (message_id, account_id, state, command_status, upstream_id,"
                " smsc_message_id, released_micro, reason, cost_micro)"
                " VALUES ($1, $2, 'released', 8, $3, 'their-id', 1000000, $4, 30000)",
                message_id,
                account_id,
                upstream_id,
                reason,
            )
            for row_id, operation, micro in (
                (message_id, "use", -MICRO),
                (refund_id, "refund", MICRO),
            ):
                await conn.execute(
                    "INSERT INTO ledger (id, account_id, operation, counter, amount_micro,"
                    " balance_micro, message_id, note)"
                    " VALUES ($1, $2, $3::text::operation, 'sold', $4, 0, $5, $6)",
                    row_id,
                    account_id,
                    operation,
                    micro,
                    message_id,
                    reason if operation == "refund" else None,
                )
            await conn.execute(
                "INSERT INTO event (minute, account_id, kind, text, severity) VALUES"
                " (date_trunc('minute', now()), $1, 'message_released', $2, 'warning')"
                " ON CONFLICT DO NOTHING",
                account_id,
                f"Message not sent, credit released: {reason}",
            )
        return message_id

    async def add_session(self, account: str, node: int = 3, number: int = 17) -> str:
        """A session at a proxy that reports; returns its id."""
        session = {
            "id": number,
            "account": account,
            "system_id": account,
            "bind_type": "transceiver",
            "peer": "192.0.2.7",
            "bound_at": "2026-11-22T12:00:00+00:00",
            "open_requests": 2,
        }
        upstream = {
            "name": CARRIER,
            "links": 1,
            "window_used": 4,
            "window_max": 100,
            "backlog": 0,
            "paused": False,
        }
        async with self.database.pool.acquire() as conn:
            known = {one.node: one.status for one in await nodes.statuses(conn)}
            sessions = [*known.get(node, {"sessions": []})["sessions"], session]
            await nodes.write_status(conn, node, {"sessions": sessions, "upstreams": [upstream]})
        return f"{node}-{number}"

    async def add_queued(self, account: str, destination: str = "447700900123") -> str:
        """A message in the queue that the carrier refused for now: its name stands there."""
        async with self.database.pool.acquire() as conn:
            account_id = await conn.fetchval("SELECT id FROM account WHERE name = $1", account)
            [message_id] = await enqueue(conn, account_id, destination, route=QUEUED_ROUTE)
            await conn.execute(
                "UPDATE queued SET attempts = 1, last_status = 88, last_reason = $2 WHERE id = $1",
                message_id,
                f"refused by {CARRIER}: ESME_RTHROTTLED",
            )
        return str(message_id)

    async def add_secrets(self, account: str) -> list[str]:
        """Everything that an account can have; returns words that stand only in that."""
        destination = "33" + str(abs(hash(account)))[:9]
        await self.add_account(account)
        message_id = await self.add_message(account, destination)
        session = await self.add_session(account, node=4, number=90 + len(account))
        await self.execute("INSERT INTO tariff (name) VALUES ($1)", f"tariff-of-{account}")
        await self.execute(
            "INSERT INTO plan (name, amount_micro, every) VALUES ($1, 5000000, 'day')",
            f"plan-of-{account}",
        )
        await self.execute(
            "UPDATE account SET tariff_id = (SELECT max(id) FROM tariff) WHERE name = $1", account
        )
        return [account, destination, str(message_id), session]


@asynccontextmanager
async def api_server(database: Database, **values: Any) -> AsyncIterator[ApiServer]:
    """An ApiServer whose clients are closed at the end."""
    async with AsyncExitStack() as stack:
        yield ApiServer(database, context_of(database, **values), stack)


async def create_with_login(server: ApiServer, name: str, password: str) -> None:
    """An account whose password is hashed, as the API makes them."""
    async with server.database.pool.acquire() as conn:
        await accounts.create(conn, name, password=password, by="test", mint=server.mint)
