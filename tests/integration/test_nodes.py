"""What proxies say of themselves, and asking one of them to end a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.running import running_proxy

from proxy.admin.api.sessions import Session
from proxy.admin.api.upstreams import UpstreamAtNode
from proxy.flow import report
from proxy.flow.report import EVERY_S, Report
from proxy.store import history, nodes
from proxy.store.database import Database, DatabaseUnreachable


def status(*sessions: int) -> dict[str, Any]:
    return {"sessions": [{"id": number} for number in sessions], "upstreams": []}


async def test_every_node_says_its_own(conn: Any) -> None:
    await nodes.write_status(conn, 2, status(1))
    await nodes.write_status(conn, 1, status())
    await nodes.write_status(conn, 2, status(1, 2))
    found = await nodes.statuses(conn)
    assert [(one.node, one.status) for one in found] == [(1, status()), (2, status(1, 2))]
    await nodes.remove_status(conn, 2)
    assert [one.node for one in await nodes.statuses(conn)] == [1]


async def test_an_old_status_is_not_believed(conn: Any) -> None:
    await nodes.write_status(conn, 1, status())
    await conn.execute("UPDATE node_status SET at = now() - interval '14 seconds'")
    assert len(await nodes.statuses(conn)) == 1
    await conn.execute("UPDATE node_status SET at = now() - interval '16 seconds'")
    assert await nodes.statuses(conn) == []


async def test_a_status_is_written_when_it_changed_or_is_old(database: Database, conn: Any) -> None:
    now: dict[str, Any] = {"node": 0, "status": status()}
    one = Report(lambda: database.pool, lambda: now["node"], lambda: now["status"])
    assert not await one.once(0.0)  # it has no number yet
    assert await nodes.statuses(conn) == []
    now["node"] = 3
    assert await one.once(1.0)
    assert not await one.once(2.0)
    now["status"] = status(7)
    assert await one.once(3.0)
    assert (await nodes.statuses(conn))[0].status == status(7)
    assert not await one.once(3.0 + EVERY_S - 0.1)
    assert await one.once(3.0 + EVERY_S)
    now["node"] = 4  # the connection was lost, and somebody else has taken the number
    assert await one.once(3.5 + EVERY_S)
    await one.close()
    assert [found.node for found in await nodes.statuses(conn)] == [3]


async def test_a_report_waits_for_the_database(
    database: Database,
    conn: Any,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Awaitable[None]],
) -> None:
    monkeypatch.setattr(report, "LOOK_EVERY_S", 0.01)
    tries = 0

    def pool() -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise DatabaseUnreachable("not yet")
        return database.pool

    running = asyncio.create_task(Report(pool, lambda: 5, lambda: status(1)).run())

    async def written() -> bool:
        return bool(await nodes.statuses(conn))

    try:
        await eventually(written)
    finally:
        running.cancel()
    assert tries >= 3


async def test_a_disconnect_reaches_every_proxy_and_the_log(database: Database, conn: Any) -> None:
    await conn.execute("INSERT INTO account (name) VALUES ('shop')")
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await database.connect()
    try:
        await listener.add_listener(
            nodes.DISCONNECT_CHANNEL, lambda *found: heard.put_nowait(found[3])
        )
        await nodes.disconnect(conn, 3, 17, account="shop", system_id="shop-1", by="anna")
        payload = await asyncio.wait_for(heard.get(), 5)
    finally:
        await listener.close()
    assert nodes.parse_disconnect(payload) == (3, 17)
    [event] = await history.events(conn, account="shop")
    assert (event["kind"], event["text"]) == ("session_disconnected", "shop-1 disconnected by anna")


@pytest.mark.parametrize("payload", ["", "3", "3:", ":3", "a:b", "-1:2", "1:2:3", "1 :2"])
def test_payloads_that_name_no_session(payload: str) -> None:
    assert nodes.parse_disconnect(payload) is None


async def test_a_running_proxy_reports_its_session_and_ends_it(
    database_url: str, eventually: Callable[..., Awaitable[None]]
) -> None:
    async with running_proxy(database_url) as running, running.esme() as esme:
        await esme.bind("demo", "demo")
        pool = running.proxy.database.pool
        seen: list[tuple[int, dict[str, Any]]] = []

        async def reported() -> bool:
            async with pool.acquire() as conn:
                seen[:] = [
                    (one.node, session)
                    for one in await nodes.statuses(conn)
                    for session in one.status["sessions"]
                ]
            return bool(seen)

        await eventually(reported)
        [(node, session)] = seen
        shown = Session.model_validate({**session, "id": f"{node}-{session['id']}", "node": node})
        assert (shown.account, shown.system_id, shown.peer) == ("demo", "demo", "127.0.0.1")
        async with pool.acquire() as conn:
            [status_now] = await nodes.statuses(conn)
            for upstream in status_now.status["upstreams"]:
                UpstreamAtNode.model_validate({**upstream, "node": node})
            assert len(status_now.status["upstreams"]) == 1
            await nodes.disconnect(
                conn, node, session["id"], account="demo", system_id="demo", by="anna"
            )
        await eventually(lambda: not any(c.system_id for c in running.proxy.server.connections))

        async def gone() -> bool:
            await reported()
            return not seen

        await eventually(gone)
