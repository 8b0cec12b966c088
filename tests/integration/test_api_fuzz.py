"""The whole API, fuzzed from its own OpenAPI document with a token that may do everything.

Whatever is sent: never a 5xx, and always an answer that the document describes.
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeVar

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.api import CARRIER, ApiServer, context_of

from proxy.admin.api.access import ROOT
from proxy.admin.api.app import create_api
from proxy.admin.http import HttpServer
from proxy.config import DatabaseSettings, HttpSettings, Settings
from proxy.store.database import Database

Result = TypeVar("Result")

EXAMPLES = 10
"""Of each operation."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def _document() -> dict[str, Any]:
    database: Any = None  # the document needs none
    return create_api(context_of(database)).openapi()


schema = schemathesis.openapi.from_dict(
    _document(), config=SchemathesisConfig.from_dict({"generation": {"mode": "all"}})
)


class Loop:
    """An event loop in a thread, for tests that are not coroutines."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do it there and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        """End the loop and the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Cluster(Protocol):
    """The fixture `postgres`."""

    def fresh(self) -> Any: ...


class Target(NamedTuple):
    """A proxy's HTTP server, and what to put into paths so that something is found."""

    url: str
    token: str
    known: dict[str, str]


@pytest.fixture(scope="module")
def target(postgres: Cluster) -> Iterator[Target]:
    loop = Loop()
    fresh = postgres.fresh()
    database = Database(DatabaseSettings(url=loop.run(fresh.__aenter__())))
    try:
        loop.run(database.open(wait=False))
        context = replace(context_of(database), settings=Settings(http=HttpSettings(port=0)))
        helper = ApiServer(database, context, None)  # type: ignore[arg-type]  # has no clients
        words = loop.run(helper.add_secrets("alpha"))
        unused = "INSERT INTO plan (name, amount_micro, every) VALUES ('unused', 1, 'day')"
        loop.run(helper.execute(unused))
        token = loop.run(helper.token("admin"))
        http = loop.run(_server(context))
        port = loop.run(http.start())
        known = {
            "name": "alpha",
            "system_id": "alpha",
            "plan": "plan-of-alpha",
            "id": words[2],
            "sessions id": words[3],
            "tariffs name": "standard",
            "upstreams name": CARRIER,
            "plans plan": "unused",
            "queue id": loop.run(helper.add_queued("alpha")),
        }
        yield Target(f"http://127.0.0.1:{port}{ROOT}", token, known)
        loop.run(http.stop())
    finally:
        loop.run(database.close())
        loop.run(fresh.__aexit__(None, None, None))
        loop.close()


async def _server(context: Any) -> HttpServer:
    return HttpServer(context)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_sent(case: schemathesis.Case, target: Target) -> None:
    for name, value in dict(case.path_parameters or {}).items():
        # Most made-up names name nothing.  Two of three times something that is there.
        if zlib.crc32(str(value).encode("utf-8", "replace")) % 3:
            subject = case.path.split("/")[1]
            case.path_parameters[name] = target.known.get(f"{subject} {name}", target.known[name])
    case.call_and_validate(
        base_url=target.url, headers={"Authorization": f"Bearer {target.token}"}, checks=CHECKS
    )
