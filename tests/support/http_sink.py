"""A tiny HTTP server that notes each request: where a gateway's callbacks arrive."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from urllib.parse import parse_qsl, urlsplit

_HEAD_TIMEOUT_S = 10


class HttpSink:
    """Use it with `async with`; every GET is answered with `reply` as plain text."""

    def __init__(self, reply: str = "") -> None:
        self.reply = reply
        self.requests: list[tuple[str, dict[str, str]]] = []
        """Path and query of each request, in order of arrival."""
        self.port = 0

    async def __aenter__(self) -> HttpSink:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()

    def url(self, path: str) -> str:
        """The address of a path, to which a query may be added."""
        return f"http://127.0.0.1:{self.port}{path}"

    def of(self, path: str) -> list[dict[str, str]]:
        """The queries of the requests for a path."""
        return [query for at, query in self.requests if at == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            async with asyncio.timeout(_HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            target = urlsplit(head.split(b" ", 2)[1].decode("latin-1"))
            self.requests.append(
                (target.path, dict(parse_qsl(target.query, keep_blank_values=True)))
            )
            body = self.reply.encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            await writer.drain()
        writer.close()
