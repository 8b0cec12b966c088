"""Health, readiness and metrics over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.api import context_of

from proxy.admin.http import HttpServer
from proxy.config import HttpSettings, Settings
from proxy.telemetry.metrics import REFUSALS


def http_server(
    port: int, *, host: str = "127.0.0.1", readiness: Callable[[], dict[str, bool]] = dict
) -> HttpServer:
    database: Any = None  # nothing here needs one
    settings = Settings(http=HttpSettings(host=host, port=port))
    return HttpServer(context_of(database, settings=settings, readiness=readiness))


@pytest.fixture
def checks() -> dict[str, bool]:
    return {"database": True, "upstream": True, "not_draining": True}


@pytest_asyncio.fixture
async def client(checks: dict[str, bool]) -> AsyncIterator[httpx.AsyncClient]:
    server = http_server(0, readiness=lambda: checks)
    port = await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as opened:
        yield opened
    await server.stop()


async def test_healthz(client: httpx.AsyncClient) -> None:
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_readyz_names_what_is_missing(
    client: httpx.AsyncClient, checks: dict[str, bool]
) -> None:
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "checks": checks})
    checks["upstream"] = False
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "checks": {"database": True, "upstream": False, "not_draining": True},
    }


async def test_metrics_in_both_formats(client: httpx.AsyncClient) -> None:
    REFUSALS.labels("test").inc()
    plain = await client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(plain.text)
    names = {family.name for family in families}
    assert {"smpp_proxy_refusals", "process_cpu_seconds"} <= names
    accept = {"accept": "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"}
    new = await client.get("/metrics", headers=accept)
    assert new.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    openmetrics = parse_openmetrics(new.text)  # type: ignore[no-untyped-call]
    assert "smpp_proxy_refusals" in {family.name for family in openmetrics}


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/absent"])
async def test_nothing_else(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_a_port_in_use_is_a_clear_error(client: httpx.AsyncClient) -> None:
    port = client.base_url.port
    assert port is not None
    with pytest.raises(OSError, match=rf"HTTP cannot listen on 127\.0\.0\.1 port {port}: Address"):
        await http_server(port).start()


async def test_an_unknown_host_is_a_clear_error() -> None:
    with pytest.raises(OSError, match=r"HTTP cannot listen on no-such-host\.invalid port 0"):
        await http_server(0, host="no-such-host.invalid").start()


async def test_signal_handlers_stay_the_proxys() -> None:
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, signalled.set)
    server = http_server(0)
    port = await server.start()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(signalled.wait(), 5)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        await server.stop()
    with pytest.raises(httpx.ConnectError):
        async with httpx.AsyncClient() as client:
            await client.get(f"http://127.0.0.1:{port}/healthz")
    await server.stop()  # twice does no harm
