"""The console of a database, without a proxy around it, and somebody who clicks in it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from fastapi import FastAPI

from proxy.admin.console.routes import add_console
from proxy.admin.context import Context
from proxy.config import HttpSettings, Settings
from proxy.store import accounts, operators
from proxy.store.database import Database, DatabaseUnreachable
from proxy.store.ids import COMMAND_NODE, IdMint

PASSWORD = "correct horse battery"
ORIGIN = "http://console.test"


class Site:
    """A console whose clock and database can be tampered with."""

    def __init__(self, database: Database, settings: Settings | None = None, **http: Any) -> None:
        self.database = database
        self.away = False
        self.ahead = timedelta()
        self.recorded: list[str] = []
        self.context = Context(
            pool=self._pool,
            mint=IdMint(COMMAND_NODE),
            settings=settings or Settings(http=HttpSettings(**http)),
            readiness=lambda: {"database": True, "upstream": True, "accepting": True},
            record_event=lambda kind, *_, **__: self.recorded.append(kind),
            node=lambda: 1,
        )
        self.app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        add_console(self.app, self.context, clock=self.now)

    def _pool(self) -> Any:
        if self.away:
            raise DatabaseUnreachable("somebody pulled the plug")
        return self.database.pool

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    async def fetchval(self, sql: str, *args: object) -> Any:
        return await self.database.pool.fetchval(sql, *args)

    async def add_operator(self, name: str, scope: operators.Scope) -> None:
        async with self.database.pool.acquire() as conn:
            outcome = await operators.add(conn, name, PASSWORD, scope, by="test")
        assert isinstance(outcome, operators.Done)

    async def add_account(self, name: str = "demo", credits: int = 0) -> int:
        async with self.database.pool.acquire() as conn:
            await conn.execute("SELECT ensure_partitions()")
            outcome = await accounts.create(
                conn,
                name,
                password="x",
                credit_micro=credits * 1_000_000,
                by="test",
                mint=self.context.mint,
            )
        assert isinstance(outcome, accounts.Created)
        return outcome.account_id

    def visitor(self, address: str = "192.0.2.1") -> Visitor:
        """Somebody with a browser of their own."""
        return Visitor(self, address)


class Visitor:
    """A browser without a screen."""

    def __init__(self, site: Site, address: str) -> None:
        self.site = site
        transport = httpx.ASGITransport(
            site.app, raise_app_exceptions=False, client=(address, 12345)
        )
        self.client = httpx.AsyncClient(transport=transport, base_url=ORIGIN)

    async def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return await self.client.get(path, **kwargs)

    async def csrf(self, page: str = "/me") -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', (await self.get(page)).text)
        assert found is not None
        return found[1]

    async def post(
        self, path: str, *, page: str = "/me", files: Any = None, **fields: str
    ) -> httpx.Response:
        """Send a form, as a page of ours would."""
        data = {"csrf": await self.csrf(page), **fields}
        return await self.client.post(path, data=data, files=files, headers={"Origin": ORIGIN})

    async def sign_in(self, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
        return await self.post("/sign-in", page="/sign-in", name=name, password=password, **more)

    async def follow(self, answer: httpx.Response) -> str:
        """The page that an answer leads to."""
        assert answer.status_code == 303, answer.text
        return (await self.get(answer.headers["location"])).text

    @property
    def cookie(self) -> str | None:
        return self.client.cookies.get("smpp_proxy_session")
