"""What people see of the durable queue, and what they do about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.queued import account, claim, enqueue, put_off

from proxy.flow import queue_changes
from proxy.store import history, queue_pages
from proxy.store.audit import audit
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.outcomes import Refused
from proxy.store.queue_pages import Selection


@pytest.fixture
def mint() -> IdMint:
    return IdMint(COMMAND_NODE)


async def chosen(conn: Any, **values: Any) -> Selection:
    found = await queue_pages.selection(conn, **values)
    assert isinstance(found, Selection), found
    return found


async def paged(conn: Any, limit: int, **filters: Any) -> list[int]:
    """The ids of all pages."""
    ids: list[int] = []
    after = None
    while True:
        rows = await queue_pages.next_to_go(conn, after=after, limit=limit, **filters)
        ids += [row["id"] for row in rows]
        if len(rows) < limit:
            return ids
        after = rows[-1]["key"]


async def test_the_next_to_go_comes_first_over_all_routes(conn: Any) -> None:
    shop, other = await account(conn), await account(conn, "other")
    first, second = await enqueue(conn, shop, "4471", "4471")
    (foreign,) = await enqueue(conn, other, "331", route="carriers")
    (later,) = await enqueue(conn, shop, "4472", due_in_s=300)
    (tried,) = await enqueue(conn, shop, "4473")
    claimed = await claim(conn)
    await put_off(conn, [one for one in claimed if one.id == tried])
    # `first` is on its way, and takes its line with it; the rest by when its line goes.
    rows = await queue_pages.next_to_go(conn, limit=10)
    assert [row["id"] for row in rows] == [first, second, foreign, tried, later]
    assert [row["state"] for row in rows] == ["sending", *["queued"] * 4]
    by_id = {row["id"]: row for row in rows}
    assert by_id[first]["next_at"] is None
    assert (by_id[tried]["last_status"], by_id[tried]["last_reason"]) == (0x58, "it is busy")
    wait = by_id[tried]["next_at"] - datetime.now(UTC)
    assert timedelta(seconds=50) < wait <= timedelta(seconds=60)
    assert by_id[later]["next_at"] == by_id[later]["due_at"]
    assert (by_id[foreign]["account"], by_id[foreign]["destination_addr"]) == ("other", "331")
    for limit in (1, 2, 3, 4, 5, 6):
        assert await paged(conn, limit) == [first, second, foreign, tried, later], limit
        assert await paged(conn, limit, route="carriers") == [foreign]
    assert await paged(conn, 3, route="nowhere") == []


@pytest.mark.parametrize("sending", [False, True])
async def test_pages_of_many_that_are_due_at_one_moment_lose_none(conn: Any, sending: bool) -> None:
    shop = await account(conn)
    # One batch has one now(): all of its lines and messages are due at the same time.
    ids = await enqueue(conn, shop, *["4471"] * 7, *[f"33{n}" for n in range(5)], *["4472"] * 6)
    if sending:
        await claim(conn, limit=3)
    for limit in (1, 2, 5, 17):
        seen = await paged(conn, limit)
        assert sorted(seen) == sorted(ids), limit
        assert [one for one in seen if one in ids[:7]] == ids[:7], "a line keeps its order"


async def test_the_messages_of_an_account_come_oldest_first(conn: Any) -> None:
    shop, other = await account(conn), await account(conn, "other")
    ids = await enqueue(conn, shop, "4479", "4471", "4475")
    (route_b,) = await enqueue(conn, shop, "1", route="b")
    await enqueue(conn, other, "2")
    rows = await queue_pages.of_account(conn, "shop", limit=10)
    assert [row["id"] for row in rows] == [*ids, route_b]
    behind = await queue_pages.of_account(conn, "shop", after=ids[0], limit=2)
    assert [row["id"] for row in behind] == ids[1:]
    only = await queue_pages.of_account(conn, "shop", route="b", limit=2)
    assert [row["id"] for row in only] == [route_b]
    assert await queue_pages.of_account(conn, "nobody", limit=2) == []


async def test_the_summary_counts_by_route(conn: Any) -> None:
    shop, other = await account(conn), await account(conn, "other")
    await enqueue(conn, shop, "1", "1", "2")
    await enqueue(conn, shop, "3", due_in_s=300)
    await enqueue(conn, other, "1", route="b", due_in_s=300)
    await claim(conn, limit=1)
    b, modems = await queue_pages.summary(conn)
    assert (modems["route"], modems["messages"]) == ("modems", 4)
    assert (modems["sending"], modems["scheduled"]) == (1, 1)
    assert datetime.now(UTC) - modems["oldest_at"] < timedelta(seconds=30)
    assert (b["route"], b["messages"], b["oldest_at"]) == ("b", 1, None)
    [of_other] = await queue_pages.summary(conn, "other")
    assert (of_other["route"], of_other["sending"]) == ("b", 0)
    assert await queue_pages.summary(conn, "nobody") == []


async def test_one_message_knows_who_is_before_it(conn: Any) -> None:
    shop = await account(conn)
    first, second, third = await enqueue(conn, shop, "1", "+1", "1")
    await enqueue(conn, shop, "2")
    row = await queue_pages.message(conn, third)
    assert row is not None
    assert (row["id"], row["before_it"], row["state"]) == (third, 2, "queued")
    assert (row["account"], row["source_addr"]) == ("shop", "447700900999")
    assert row["body_octets"] > 20 and "body" not in row
    await put_off(conn, [one for one in await claim(conn) if one.id == first])
    row = await queue_pages.message(conn, first)
    assert row is not None
    assert (row["attempts"], row["line_tries"], row["last_status"]) == (1, 1, 0x58)
    row = await queue_pages.message(conn, second)
    assert row is not None and row["before_it"] == 1
    assert await queue_pages.message(conn, 12345) is None


async def test_a_selection_needs_something_to_select(conn: Any) -> None:
    for values in ({}, {"account": "nobody"}):
        assert isinstance(await queue_pages.selection(conn, **values), Refused)


# --------------------------------------------------------------------------------- retry


async def test_what_was_put_off_goes_now_with_its_line(conn: Any) -> None:
    shop = await account(conn)
    first, second = await enqueue(conn, shop, "1", "1")
    await put_off(conn, await claim(conn))
    assert await claim(conn) == []
    assert await queue_changes.retry(conn, await chosen(conn, ids=[second]), by="anna") == 1
    assert [one.id for one in await claim(conn)] == [first]
    line = await conn.fetchrow("SELECT tries, claimed_by IS NOT NULL AS claimed FROM queue_line")
    assert tuple(line) == (0, True)
    [event] = await history.events(conn, kind="queue_retried")
    assert (event["account"], event["text"]) == (
        "shop",
        "Queued messages are tried again now, by anna",
    )


async def test_nothing_to_retry_is_left_as_it_is(conn: Any) -> None:
    shop = await account(conn)
    (sending,) = await enqueue(conn, shop, "1")
    await claim(conn)
    (scheduled,) = await enqueue(conn, shop, "2", due_in_s=300)
    (due,) = await enqueue(conn, shop, "3")
    before = await conn.fetch("SELECT * FROM queue_line ORDER BY line")
    for values in ({"ids": [sending, scheduled, due, 999]}, {"account": "shop"}, {"route": "x"}):
        assert await queue_changes.retry(conn, await chosen(conn, **values), by="anna") == 0
    # A scheduled line that is let go would be looked at again and again until it is due.
    assert await conn.fetch("SELECT * FROM queue_line ORDER BY line") == before
    assert await history.events(conn, kind="queue_retried") == []


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({"account": "shop"}, 4),
        ({"route": "b"}, 3),
        ({"account": "shop", "route": "b"}, 1),
        ({"account": "other"}, 2),
    ],
)
async def test_lines_are_chosen_by_account_and_route(
    conn: Any, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], lines: int
) -> None:
    monkeypatch.setattr(queue_pages, "_BATCH", 2)
    shop, other = await account(conn), await account(conn, "other")
    await enqueue(conn, shop, "1", "2", "3")
    await enqueue(conn, shop, "1", route="b")
    await enqueue(conn, other, "1", "2", route="b")
    for route in ("modems", "b"):
        await put_off(conn, await claim(conn, route))
    assert await queue_changes.retry(conn, await chosen(conn, **values), by="anna") == lines
    now = await conn.fetchval("SELECT count(*) FROM queue_line WHERE next_at <= now()")
    assert now == lines


# -------------------------------------------------------------------------------- cancel


async def test_cancelled_messages_give_credit_back_and_a_receipt(conn: Any, mint: IdMint) -> None:
    shop = await account(conn, credits=10)
    (asked,) = await enqueue(conn, shop, "1", registered_delivery=1)
    (other, kept) = await enqueue(conn, shop, "2", "3")
    done = await queue_changes.cancel(conn, mint, await chosen(conn, ids=[asked, other]), by="anna")
    assert (done.cancelled, done.left, done.more) == (2, 0, False)
    assert await conn.fetchval("SELECT balance FROM v_account") == 9
    rows = await conn.fetch("SELECT id, state, reason, receipt_state FROM v_message ORDER BY id")
    assert [tuple(row) for row in rows] == [
        (asked, "released", "cancelled by anna", "DELETED"),
        (other, "released", "cancelled by anna", None),
        (kept, "queued", None, None),
    ]
    [event] = await history.events(conn, kind="queue_cancelled")
    assert (event["account"], event["count"]) == ("shop", 2)
    assert event["text"] == "Queued messages cancelled by anna"
    again = await queue_changes.cancel(conn, mint, await chosen(conn, ids=[asked]), by="anna")
    assert (again.cancelled, again.left) == (0, 0)
    assert await audit(conn) == []


async def test_what_is_on_its_way_is_left_and_counted(conn: Any, mint: IdMint) -> None:
    shop = await account(conn)
    first, second = await enqueue(conn, shop, "1", "1")
    await claim(conn)
    selection = await chosen(conn, account="shop")
    assert await queue_pages.count(conn, selection) == 2
    done = await queue_changes.cancel(conn, mint, selection, by="anna")
    assert (done.cancelled, done.left) == (1, 1)
    states = dict(await conn.fetch("SELECT id, state FROM v_message"))
    assert states == {first: "sending", second: "released"}
    assert await audit(conn) == []


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ({"account": "shop"}, {"other"}),
        ({"route": "b"}, {"shop"}),
        ({"account": "shop", "route": "b"}, {"shop", "other"}),
    ],
)
async def test_messages_are_chosen_by_account_and_route(
    conn: Any, mint: IdMint, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], left: set[str]
) -> None:
    monkeypatch.setattr(queue_pages, "_BATCH", 2)
    shop, other = await account(conn), await account(conn, "other")
    await enqueue(conn, shop, "1", "1", "1", "2", "3")
    await enqueue(conn, shop, "1", "1", route="b")
    await enqueue(conn, other, "1", "1", "2", route="b")
    selection = await chosen(conn, **values)
    number = await queue_pages.count(conn, selection)
    done = await queue_changes.cancel(conn, mint, selection, by="anna")
    assert (done.cancelled, done.left) == (number, 0)
    assert await queue_pages.count(conn, selection) == 0
    assert await conn.fetchval("SELECT count(*) FROM queued") == 10 - number
    rows = await conn.fetch("SELECT DISTINCT account FROM v_message WHERE state = 'queued'")
    assert {row["account"] for row in rows} == left
    assert await audit(conn) == []


async def test_a_charge_for_the_submit_stays_once_it_was_tried(conn: Any, mint: IdMint) -> None:
    shop = await account(conn, credits=10)
    await conn.execute("UPDATE account SET charge_on = 'submit'")
    await enqueue(conn, shop, "1")
    await put_off(conn, await claim(conn))
    await enqueue(conn, shop, "2")
    done = await queue_changes.cancel(conn, mint, await chosen(conn, account="shop"), by="anna")
    assert done.cancelled == 2
    assert await conn.fetchval("SELECT balance FROM v_account") == 9
    assert await audit(conn) == []


async def test_one_that_can_not_be_read_keeps_no_other(conn: Any, mint: IdMint) -> None:
    shop = await account(conn)
    first, broken, last = await enqueue(conn, shop, "1", "2", "3")
    await conn.execute("UPDATE queued SET body = '' WHERE id = $1", broken)
    done = await queue_changes.cancel(conn, mint, await chosen(conn, account="shop"), by="anna")
    assert (done.cancelled, done.left) == (2, 1)
    states = dict(await conn.fetch("SELECT id, state FROM v_message"))
    assert states == {first: "released", broken: "queued", last: "released"}


async def test_when_the_time_is_over_there_is_more(
    conn: Any, mint: IdMint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_pages, "_BATCH", 1)
    shop = await account(conn)
    await enqueue(conn, shop, "1", "2")
    selection = await chosen(conn, account="shop")
    done = await queue_changes.cancel(conn, mint, selection, by="anna", within_s=-1)
    assert (done.cancelled, done.more) == (0, True)
    done = await queue_changes.cancel(conn, mint, selection, by="anna", within_s=60)
    assert (done.cancelled, done.more) == (2, False)
