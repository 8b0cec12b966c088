"""Webhooks: signed, each taken once, and tried until somebody takes them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from support.clock import Clock
from support.ports import free_ports
from support.running import running_proxy
from support.webhook_sink import SILENCE, WebhookSink

from proxy.config import WebhookSettings
from proxy.flow.webhooks import AT_ONCE, Send, Webhooks
from proxy.links.webhook import WebhookClient
from proxy.store import history, warnings
from proxy.store.database import Database
from proxy.telemetry import metrics

SECRET = "a secret, with ü"
TIMEOUT_S = 20.0
SHORT_S = 0.2
"""For receivers that do not answer."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def no_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
async def sink() -> AsyncIterator[WebhookSink]:
    async with WebhookSink() as opened:
        yield opened


@asynccontextmanager
async def client(
    url: str, clock: Clock | None = None, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[WebhookClient]:
    settings = WebhookSettings(url=url, secret=SecretStr(SECRET), timeout_s=timeout_s)
    opened = WebhookClient(settings, clock_s=(clock or Clock())().timestamp)
    yield opened
    await opened.close()


def webhooks(database: Database, send: Send, clock: Clock) -> Webhooks:
    return Webhooks(lambda: database.pool, send, timeout_s=TIMEOUT_S, clock=clock)


async def queue(database: Database, clock: Clock, count: int = 1) -> int:
    """Rows such as the thresholds write; returns the account's id."""
    account_id: int = await database.pool.fetchval(
        "INSERT INTO account (name) VALUES ('someone') RETURNING id"
    )
    await database.pool.execute(
        "INSERT INTO webhook (account_id, kind, body, created_at, next_attempt_at)"
        " SELECT $1, 'low_balance', jsonb_build_object('event', 'low_balance', 'number', n), $2, $2"
        " FROM generate_series(1, $3) AS n",
        account_id,
        clock.now,
        count,
    )
    return account_id


async def rows(database: Database) -> list[Any]:
    return list(await database.pool.fetch("SELECT * FROM webhook ORDER BY body ->> 'number'"))


def counted(result: str) -> float:
    labels = {"result": result}
    return metrics.REGISTRY.get_sample_value("smpp_proxy_webhooks_total", labels) or 0.0


async def test_what_is_sent(database: Database, clock: Clock, sink: WebhookSink) -> None:
    await queue(database, clock)
    async with client(sink.url, clock) as http:
        assert await webhooks(database, http.send, clock).once() == 1
    [request] = sink.requests
    [row] = await rows(database)
    assert request.line == "POST /hook HTTP/1.1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == f"smpp-proxy/{metrics.VERSION}"
    assert json.loads(request.body) == {"id": str(row["id"]), "event": "low_balance", "number": 1}
    # As a receiver would verify it, from the description in the example configuration.
    parts = dict(part.split("=", 1) for part in request.headers["x-signature"].split(","))
    assert parts["t"] == str(int(clock.now.timestamp()))
    expected = hmac.new(
        SECRET.encode(), (parts["t"] + ".").encode() + request.body, hashlib.sha256
    ).hexdigest()
    assert hmac.compare_digest(parts["v1"], expected)
    assert row["delivered_at"] == clock.now
    assert await webhooks(database, http.send, clock).once() == 0


@pytest.mark.parametrize(
    ("answer", "reason"), [(500, "answered 500"), (404, "answered 404"), (301, "answered 301")]
)
async def test_anything_but_2xx_is_tried_again(
    database: Database, clock: Clock, sink: WebhookSink, answer: int, reason: str
) -> None:
    sink.answers.append(answer)
    sink.headers = f"Location: {sink.url}/elsewhere\r\n"
    before = counted("failed"), counted("delivered")
    await queue(database, clock)
    async with client(sink.url) as http:
        sender = webhooks(database, http.send, clock)
        await sender.once()
        [row] = await rows(database)
        assert (row["delivered_at"], row["given_up_at"]) == (None, None)
        assert (row["attempts"], row["last_error"]) == (1, reason)
        clock.forward(seconds=3)
        assert await sender.once() == 0  # not before its time
        clock.forward(seconds=4)
        assert await sender.once() == 1
    first, second = sink.requests  # no redirect was followed
    assert first.body == second.body  # the id included
    [row] = await rows(database)
    assert (row["attempts"], row["last_error"]) == (2, None)
    assert row["delivered_at"] is not None
    assert (counted("failed"), counted("delivered")) == (before[0] + 1, before[1] + 1)


async def test_a_silent_receiver_is_tried_again(
    database: Database, clock: Clock, sink: WebhookSink
) -> None:
    sink.answers.append(SILENCE)
    await queue(database, clock)
    async with client(sink.url, timeout_s=SHORT_S) as http:
        await webhooks(database, http.send, clock).once()
    assert (await rows(database))[0]["last_error"] == "no answer in time"
    clock.forward(seconds=7)
    async with client(sink.url) as http:
        await webhooks(database, http.send, clock).once()
    assert len(sink.requests) == 2
    assert (await rows(database))[0]["delivered_at"] == clock.now


async def test_a_refused_connection_is_tried_again(database: Database, clock: Clock) -> None:
    [port] = free_ports(1)
    await queue(database, clock)
    async with client(f"http://127.0.0.1:{port}/hook") as http:
        sender = webhooks(database, http.send, clock)
        await sender.once()
        assert (await rows(database))[0]["last_error"] == "no connection"
        clock.forward(seconds=7)
        async with WebhookSink(port) as sink:
            await sender.once()
            assert len(sink.requests) == 1
    assert (await rows(database))[0]["delivered_at"] == clock.now


async def test_what_is_no_http_and_what_is_no_tls() -> None:
    async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(garble, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with client(f"http://{address}/") as http, client(f"https://{address}/") as https:
        assert await http.send("{}") == "no proper HTTP answer"
        assert await https.send("{}") == "no TLS connection"
    server.close()


async def test_a_body_without_end_is_not_read() -> None:
    ended = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            pass
        ended.set()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    async with client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as http:
        assert await http.send("{}") is None
        await asyncio.wait_for(ended.wait(), 10)  # it hung up
    server.close()


async def test_an_answer_that_trickles_is_no_answer() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while not writer.is_closing():
                writer.write(b"X-Long: a\r\n")
                await asyncio.sleep(SHORT_S / 10)
        except ConnectionError:
            pass

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    async with client(
        f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", timeout_s=SHORT_S
    ) as http:
        assert await http.send("{}") == "no answer in time"
    server.close()


async def test_it_is_given_up_after_three_days(
    database: Database, clock: Clock, sink: WebhookSink
) -> None:
    start = clock.now
    await queue(database, clock)
    given_up = counted("given_up")
    async with client(sink.url) as http:
        sender = webhooks(database, http.send, clock)
        while not (await rows(database))[0]["given_up_at"]:
            sink.answers.append(503)
            clock.now = (await rows(database))[0]["next_attempt_at"]
            assert await sender.once() == 1
        assert timedelta(hours=70) < clock.now - start <= timedelta(days=3)
        clock.forward(days=1)
        assert await sender.once() == 0
    [row] = await rows(database)
    assert 70 < row["attempts"] == len(sink.requests) < 120
    assert counted("given_up") == given_up + 1
    async with database.pool.acquire() as conn:
        [event] = await history.events(conn, account="someone")
    assert (event["kind"], event["severity"]) == ("webhook_failed", "error")
    assert event["text"] == "Webhook given up after 3 days: answered 503"


async def test_several_proxies_send_each_once(
    database: Database, clock: Clock, sink: WebhookSink
) -> None:
    await queue(database, clock, 3 * AT_ONCE)
    async with client(sink.url) as http:
        senders = [webhooks(database, http.send, clock) for _ in range(3)]
        sent = await asyncio.gather(*(one.once() for one in senders))
        assert sum(sent) + await senders[0].once() + await senders[0].once() == 3 * AT_ONCE
    bodies = [json.loads(request.body) for request in sink.requests]
    assert sorted(body["number"] for body in bodies) == list(range(1, 3 * AT_ONCE + 1))
    assert len({body["id"] for body in bodies}) == 3 * AT_ONCE


async def test_what_one_proxy_is_claiming_the_next_one_skips(
    database: Database, clock: Clock
) -> None:
    await queue(database, clock, 3)
    async with database.pool.acquire() as conn, database.pool.acquire() as other:
        async with conn.transaction():
            mine = await warnings.claim_webhooks(conn, 2, lease_s=10, now=clock.now)
            theirs = await asyncio.wait_for(
                warnings.claim_webhooks(other, 2, lease_s=10, now=clock.now), 5
            )
        assert (len(mine), len(theirs)) == (2, 1)
        assert len({one.id for one in [*mine, *theirs]}) == 3


async def test_a_proxy_that_stops_in_the_middle_gives_it_back(
    database: Database, clock: Clock, sink: WebhookSink, eventually: Callable[..., Awaitable[None]]
) -> None:
    await queue(database, clock)
    sink.answers.append(SILENCE)

    async with client(sink.url) as http:
        dying = asyncio.create_task(webhooks(database, http.send, clock).once())
        await eventually(lambda: len(sink.requests) == 1)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    async with client(sink.url) as http:
        other = webhooks(database, http.send, clock)
        assert await other.once() == 0  # for all it knows, the first is still at it
        clock.forward(seconds=TIMEOUT_S + 31)
        assert await other.once() == 1
    first, second = sink.requests
    assert first.body == second.body
    assert (await rows(database))[0]["delivered_at"] == clock.now


async def test_a_late_failure_does_not_undo_what_came_after(
    database: Database, clock: Clock
) -> None:
    """A proxy that slept longer than its lease wakes up with an error."""
    await queue(database, clock)
    async with database.pool.acquire() as conn:
        [slow] = await warnings.claim_webhooks(conn, 1, lease_s=10, now=clock.now)
        clock.forward(seconds=11)
        [other] = await warnings.claim_webhooks(conn, 1, lease_s=10, now=clock.now)
        assert (slow.attempts, other.attempts) == (1, 2)
        await warnings.postpone_webhook(
            conn, slow, "too late", retry_in_s=9999, give_up_after_s=0, now=clock.now
        )
        [row] = await rows(database)
        assert (row["last_error"], row["given_up_at"]) == (None, None)
        assert row["next_attempt_at"] == clock.now + timedelta(seconds=10)
        await warnings.webhook_delivered(conn, other.id, clock.now)
        await warnings.postpone_webhook(
            conn, other, "too late", retry_in_s=1, give_up_after_s=0, now=clock.now
        )
    [row] = await rows(database)
    assert row["given_up_at"] is None
    assert row["delivered_at"] == clock.now


async def test_one_that_cannot_be_written_down_does_not_stop_the_others(
    database: Database, clock: Clock
) -> None:
    await queue(database, clock, 3)

    async def send(body: str) -> str | None:
        if json.loads(body)["number"] == 1:
            raise RuntimeError("unforeseen")
        return None

    with pytest.raises(RuntimeError, match="unforeseen"):
        await webhooks(database, send, clock).once()
    assert [row["delivered_at"] is not None for row in await rows(database)] == [False, True, True]


async def test_old_ones_are_forgotten(database: Database, clock: Clock) -> None:
    await queue(database, clock)
    async with database.pool.acquire() as conn:
        clock.forward(days=7)
        await warnings.forget_webhooks(conn, clock.now)
        assert len(await rows(database)) == 1
        clock.forward(seconds=1)
        await warnings.forget_webhooks(conn, clock.now)
    assert await rows(database) == []


async def test_it_runs_until_cancelled(
    database: Database, clock: Clock, sink: WebhookSink, eventually: Callable[..., Awaitable[None]]
) -> None:
    await queue(database, clock, 2 * AT_ONCE + 1)
    async with client(sink.url) as http:
        running = asyncio.create_task(webhooks(database, http.send, clock).run())
        await eventually(lambda: len(sink.requests) == 2 * AT_ONCE + 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_client_that_spends_everything_is_told_of_over_http(
    database_url: str, sink: WebhookSink, eventually: Callable[..., Awaitable[None]]
) -> None:
    """The whole way: charged messages, thresholds, webhooks; and again after a top-up."""

    def told() -> list[tuple[str, str]]:
        bodies = [json.loads(request.body) for request in sink.requests]
        return sorted((body["account"], body["threshold"]) for body in bodies)

    settings = WebhookSettings(url=sink.url, secret=SecretStr(SECRET))
    async with running_proxy(database_url, webhook=settings, credits=4) as run, run.esme() as esme:
        await run.set_account("demo", low_balance="2")
        await esme.bind()
        for _ in range(4):
            assert (await esme.submit()).status == 0
        once = [("demo", "0"), ("demo", "2")]
        await eventually(lambda: told() == once)
        await run.add_credit("demo", 3)
        for _ in range(3):
            assert (await esme.submit()).status == 0
        assert (await esme.submit()).status == 0x45
        await eventually(lambda: told().count(("demo", "0")) == 2)
        events = await run.fetch(
            "SELECT kind, sum(count) AS count FROM v_event"
            " WHERE kind IN ('low_balance', 'no_credits') GROUP BY 1"
        )
        counts = {row["kind"]: row["count"] for row in events}
        assert counts["no_credits"] == 2
        assert counts["low_balance"] in {1, 2}  # 3 credits were perhaps there between two looks
        await run.assert_books_balance()
