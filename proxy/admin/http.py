"""HTTP: is the proxy alive, is it ready, what does it measure; the API and the console."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import choose_encoder

from proxy.admin.api.app import add_api
from proxy.admin.console.routes import add_console
from proxy.admin.context import Context
from proxy.telemetry.metrics import REGISTRY

log = structlog.get_logger(__name__)

# Requests that are being answered may finish for so long when the server stops.
STOP_TIMEOUT_S = 3
BACKLOG = 128


def create_app(context: Context) -> FastAPI:
    """The application."""
    # The documentation pages load scripts from elsewhere.
    app = FastAPI(title="smpp-proxy", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = context

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        """The event loop turns; a process that does not answer here should be restarted."""
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Whether binds and messages should be sent here."""
        checks = context.readiness()
        ready = all(checks.values())
        return JSONResponse({"ready": ready, "checks": checks}, status_code=200 if ready else 503)

    # Not async: it is rendered in a thread, and messages do not wait for it.
    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        """In Prometheus' text format, or as OpenMetrics to who asks for that."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(REGISTRY), headers={"content-type": content_type})

    add_api(app, context)
    add_console(app, context)  # last: it takes every path that is left
    return app


class HttpServer:
    """uvicorn inside the running event loop, which keeps its signal handlers."""

    def __init__(self, context: Context) -> None:
        self.app = create_app(context)
        self._settings = context.settings.http
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listens, and returns the port; OSError when it cannot."""
        listener = await _listen(self._settings.host, self._settings.port)
        self._server = _Server(
            uvicorn.Config(
                self.app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
            )
        )
        self._task = asyncio.create_task(self._server.serve([listener]), name="http")
        started = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait((self._task, started), return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            self._task.result()
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Stops listening, and returns when the last answer is out."""
        server, task = self._server, self._task
        self._server = self._task = None
        if server is not None and task is not None:
            server.should_exit = True
            await task


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGTERM and SIGINT are the proxy's: it drains first."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


async def _listen(host: str, port: int) -> socket.socket:
    """uvicorn would end the process when the port is in use; so the socket is made here."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        text = f"HTTP cannot listen on {host} port {port}: {error.strerror or error}"
        raise OSError(error.errno, text) from error
    return listener
