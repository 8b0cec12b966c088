"""An HTTP server that gets webhooks and answers as it is told."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

SILENCE = 0
"""In `answers`: take the request and say nothing."""


class Request(NamedTuple):
    """One request; names of headers in small letters."""

    line: str
    headers: dict[str, str]
    body: bytes


class WebhookSink:
    """Use it with `async with`; answers 204, or what `answers` says for the next requests."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.answers: deque[int] = deque()
        """Statuses, or SILENCE."""
        self.headers = ""
        """More header lines for the answers, each with its line end."""
        self.requests: list[Request] = []
        self._connections: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> WebhookSink:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await self._read(reader)
                self.requests.append(request)
                status = self.answers.popleft() if self.answers else 204
                if status == SILENCE:
                    continue
                writer.write(
                    f"HTTP/1.1 {status} Said\r\n{self.headers}Content-Length: 0\r\n\r\n".encode()
                )
                await writer.drain()
        self._connections.discard(writer)
        writer.close()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Request(head[0], headers, body)
