"""The console's pages about the queue, the routes and how upstreams do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import SecretStr
from support.console import Site, Visitor
from support.queued import claim, enqueue, put_off

from proxy.admin.console import queue
from proxy.admin.console.render import percent, seconds, sim_usage
from proxy.config import ModemSettings, PoolSettings, RouteSettings, Settings, SmppUpstreamSettings
from proxy.flow import queue_changes
from proxy.store import history, nodes
from proxy.store.database import Database

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
SETTINGS = Settings(
    upstream=[
        SmppUpstreamSettings(name="a", host="c.test", system_id="p", password=SecretStr("p")),
        ModemSettings(kind="modem", name="m", device="/dev/ttyUSB0"),
        PoolSettings(kind="pool", name="rack", modems=["m"]),
    ],
    route=[
        RouteSettings(
            prefix="33",
            upstreams=["a", "rack"],
            policy="weighted",
            weights=[3, 1],
            mode="direct",
            when_down="queue",
        ),
        RouteSettings(name="modems", prefix="44", upstreams=["rack"]),
    ],
)


@pytest.fixture
async def site(database: Database) -> Site:
    made = Site(database, settings=SETTINGS)
    await made.add_operator("alice", "admin")
    await made.add_operator("rea", "read")
    await made.add_account(credits=500)
    return made


@pytest.fixture
async def alice(site: Site) -> Visitor:
    visitor = site.visitor()
    await visitor.sign_in("alice")
    return visitor


async def add(site: Site, *numbers: str, put_them_off: bool = False, **values: Any) -> list[int]:
    async with site.database.pool.acquire() as conn:
        account_id = await conn.fetchval("SELECT id FROM account WHERE name = 'demo'")
        ids = await enqueue(conn, account_id, *numbers, **values)
        if put_them_off:
            await put_off(conn, await claim(conn))
        return ids


def ids_in(page: str) -> list[int]:
    return [int(one) for one in re.findall(r'class="id"><a href="/messages/(\d+)"', page)]


# --------------------------------------------------------------------------------- queue


async def test_an_empty_queue_says_so(alice: Visitor) -> None:
    page = (await alice.get("/queue")).text
    assert "Nothing waits" in page and "<table" not in page


async def test_the_queue_is_counted_and_listed(site: Site, alice: Visitor) -> None:
    ids = await add(site, "4471", "4472", put_them_off=True)
    lost = await add(site, "331", route="gone")
    page = (await alice.get("/queue")).text
    assert ids_in(page) == [*lost, *sorted(ids)]
    summary = page.split("</table>")[0]
    assert re.search(r'route=modems">modems</a></th>\s*<td class="num"[^>]*>2<', summary)
    assert "no such route any more" in summary
    assert page.count("ESME_RTHROTTLED") == 2
    assert ids_in((await alice.get("/queue?route=gone")).text) == lost
    assert ids_in((await alice.get("/queue?account=demo")).text) == sorted([*ids, *lost])
    assert "No message is like that" in (await alice.get("/queue?account=nobody")).text
    live = (await alice.get("/queue", headers={"X-Live": "1"})).text
    assert "<html" not in live and ids_in(live) == ids_in(page)


async def test_a_count_that_took_long_is_kept_until_something_is_changed_here(
    site: Site, alice: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_BELIEVED", 1e6)

    async def counted() -> str:
        found = re.search(r'data-label="Messages">(\d+)<', (await alice.get("/queue")).text)
        return found[1] if found else ""

    await add(site, "4471")
    assert await counted() == "1"
    await add(site, "4472")
    assert await counted() == "1"
    await alice.post("/queue", do="retry", route="modems")
    assert await counted() == "2"


@pytest.mark.parametrize("query", ["", "account=demo", "route=modems"])
async def test_the_queue_pages(site: Site, alice: Visitor, query: str) -> None:
    ids = await add(site, *[f"44{n}" for n in range(120)])
    seen: list[int] = []
    path = f"/queue?{query}"
    while path:
        page = (await alice.get(path)).text
        seen += ids_in(page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else ""
    assert sorted(seen) == sorted(ids) and len(seen) == 120


async def test_messages_are_tried_now(site: Site, alice: Visitor) -> None:
    [message_id] = await add(site, "4471", put_them_off=True)
    page = await alice.follow(await alice.post("/queue", do="retry", id=str(message_id)))
    assert "1 destination is tried now." in page and f"Message {message_id}" in page
    page = await alice.follow(await alice.post("/queue", do="retry", route="modems"))
    assert "Nothing waits for another attempt there." in page
    async with site.database.pool.acquire() as conn:
        assert len(await claim(conn)) == 1
        [event] = await history.events(conn, kind="queue_retried")
    assert event["text"].endswith("by alice")


async def test_cancelling_is_asked_back(site: Site, alice: Visitor) -> None:
    ids = await add(site, "4471", "4472", "4473")
    balance = "SELECT balance FROM v_account WHERE name = 'demo'"
    asked = await alice.post("/queue", do="cancel", route="modems")
    assert asked.status_code == 200 and "Cancel 3 messages?" in asked.text
    assert await site.fetchval(balance) == 497
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', asked.text))
    assert (hidden["route"], hidden["confirmed"]) == ("modems", "yes")
    await claim_one(site)
    done = await alice.client.post("/queue", data=hidden)
    page = await alice.follow(done)
    assert "2 messages cancelled. 1 on their way or gone." in page
    assert await site.fetchval(balance) == 499
    assert len(ids_in(page)) == 1, "the count and the list are of now"
    again = await alice.post("/queue", do="cancel", id=str(ids[2]))
    assert "no such message in the queue any more" in await alice.follow(again)
    reasons = await site.database.pool.fetch("SELECT DISTINCT reason FROM outcome")
    assert [row["reason"] for row in reasons] == ["cancelled by alice"]


async def claim_one(site: Site) -> None:
    async with site.database.pool.acquire() as conn:
        assert len(await claim(conn, limit=1)) == 1


async def test_what_takes_too_long_is_said(
    site: Site, alice: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(site, "4471")
    monkeypatch.setattr(queue_changes, "AT_ONCE_MAX_S", -1)
    done = await alice.post("/queue", do="cancel", route="modems", confirmed="yes")
    assert "There are more: cancel again" in await alice.follow(done)


async def test_who_may_only_look_changes_nothing(site: Site) -> None:
    [message_id] = await add(site, "4471", put_them_off=True)
    rea = site.visitor()
    await rea.sign_in("rea")
    for path in ("/queue", "/queue?route=modems", f"/messages/{message_id}", "/upstreams"):
        page = (await rea.get(path)).text
        assert 'name="do"' not in page, path
    for do in ("retry", "cancel"):
        answer = await rea.post("/queue", do=do, route="modems", confirmed="yes")
        assert answer.status_code == 403
    assert await site.fetchval("SELECT count(*) FROM queued") == 1
    assert await site.fetchval("SELECT tries FROM queue_line") == 1


async def test_forms_of_others_are_refused(site: Site, alice: Visitor) -> None:
    await add(site, "4471")
    form = {"do": "cancel", "route": "modems", "confirmed": "yes"}
    answer = await alice.client.post("/queue", data=form)
    assert answer.status_code == 403
    assert await site.fetchval("SELECT count(*) FROM queued") == 1


@pytest.mark.parametrize(
    "form", [{}, {"do": "retry"}, {"do": "explode", "route": "r"}, {"do": "retry", "id": "x"},
             {"do": "cancel", "account": "nobody"}],
)  # fmt: skip
async def test_what_is_no_choice_is_refused(alice: Visitor, form: dict[str, str]) -> None:
    assert (await alice.post("/queue", **form)).status_code == 400


async def test_a_message_shows_how_it_waits(site: Site, alice: Visitor) -> None:
    first, second = await add(site, "4471", "4471", put_them_off=True)
    page = (await alice.get(f"/messages/{first}")).text
    for text in ("In the queue", "queued", "ESME_RTHROTTLED", "it is busy", "modems", "none"):
        assert text in page, text
    assert "1 to the same destination" in (await alice.get(f"/messages/{second}")).text
    assert f'name="id" value="{first}"' in page
    assert ids_of_messages((await alice.get("/messages?state=queued")).text) == {first, second}
    await alice.post("/queue", do="cancel", id=str(first), confirmed="yes")
    page = (await alice.get(f"/messages/{first}")).text
    assert "In the queue" not in page and "cancelled by alice" in page
    await alice.post("/queue", do="retry", id=str(second))
    await claim_one(site)
    page = (await alice.get(f"/messages/{second}")).text
    assert "on its way now" in page and 'name="do"' not in page


def ids_of_messages(page: str) -> set[int]:
    return {int(one) for one in re.findall(r'href="/messages/(\d+)"', page)}


# -------------------------------------------------------------------------------- routes


async def test_routes_are_listed_and_tried(alice: Visitor) -> None:
    page = (await alice.get("/routes")).text
    for text in ("destination 33*", "a (3), rack (1)", "direct, queued when down", "modems"):
        assert text in page, text
    found = (await alice.get("/routes?account=demo&to=%2B447700900123&from=Shop")).text
    for text in ("Route modems", "does not begin with 33", "queued (its mode)", "none reports",
                 "1 a segment", "not known"):  # fmt: skip
        assert text in found, text
    assert 'value="+447700900123"' in found
    assert "No route takes it" in (await alice.get("/routes?account=demo&to=49")).text
    for query, why in (
        ("account=demo", "Whose message, and to whom?"),
        ("account=nobody&to=44", "There is no account &#39;nobody&#39;."),
        ("account=demo&to=44,45", "one address"),
        ("account=demo&to=44&data_coding=256", "from 0 to 255"),
        ("account=demo&to=44&at=tomorrow", "A time is written like"),
    ):
        answer = await alice.get(f"/routes?{query}")
        assert answer.status_code == 400 and why in answer.text, query


# ----------------------------------------------------------------------------- upstreams


async def test_upstreams_say_how_they_do(site: Site, alice: Visitor) -> None:
    common = {"window_used": 2, "window_max": 10, "backlog": 0, "paused": False, "links": 1}
    reports = [
        {"name": "a", "kind": "smpp", "state": "resting", "why": "9 of 10 answers failed",
         "error_rate": 0.9, "response_s": 0.25, "rate": 12.5, "slowed": True, **common},
        {"name": "rack", "kind": "pool", "state": "up", **common},
        {"name": "m", "kind": "modem", "state": "no network", "pool": "rack", "signal_dbm": -71,
         "operator": "Net", "used": {"hour": 9, "day": 10, "month": 1200}, "why": "",
         "limits": {"hour": None, "day": 500, "month": None}, "balance": "12 EUR",
         "manufacturer": "ACME", "model": "M1", "device": "/dev/ttyUSB0", **common},
    ]  # fmt: skip
    await site.database.pool.execute("INSERT INTO upstream (name) VALUES ('a'), ('m'), ('rack')")
    page = (await alice.get("/upstreams")).text
    assert page.count("No proxy says anything of it.") == 3
    async with site.database.pool.acquire() as conn:
        await nodes.write_status(conn, 1, {"sessions": [], "upstreams": reports})
    page = (await alice.get("/upstreams")).text
    for text in ("resting", "9 of 10 answers failed", "90%", "250 ms", "12.5 / s", "slowed",
                 "no network", "-71 dBm, Net", "9 this hour, 10 of 500 today, 1,200 this month",
                 "12 EUR", "ACME, M1, /dev/ttyUSB0", "modem of rack"):  # fmt: skip
        assert text in page, text
    assert page.index('id="u-rack"') < page.index('id="u-m"'), "a modem stands behind its pool"
    home = (await alice.get("/")).text
    assert "no network" in home


def test_how_values_are_written() -> None:
    assert (percent(None), percent(0.126)) == ("–", "13%")
    assert (seconds(None), seconds(0.0123), seconds(2.34)) == ("–", "12 ms", "2.3 s")
    assert sim_usage({"used": None, "limits": None}) == "–"


# ------------------------------------------------------------------------------- hostile


async def test_nothing_that_others_wrote_becomes_html(site: Site, alice: Visitor) -> None:
    [message_id] = await add(site, "4471", route=EVIL[:60], put_them_off=False)
    await site.database.pool.execute(
        "UPDATE queued SET last_reason = $1, last_status = 88, attempts = 1", EVIL
    )
    await site.database.pool.execute("UPDATE message SET destination_addr = $1", EVIL)
    await site.database.pool.execute("INSERT INTO upstream (name) VALUES ('m')")
    report = {"name": "m", "kind": EVIL, "state": EVIL, "why": EVIL, "operator": EVIL, "pool": EVIL,
              "balance": EVIL, "model": EVIL, "links": 0}  # fmt: skip
    modem = {**report, "kind": "modem"}
    for number, one in enumerate((report, modem), 1):
        async with site.database.pool.acquire() as conn:
            await nodes.write_status(conn, number, {"sessions": [], "upstreams": [one]})
    for path in (
        "/", "/queue", "/upstreams", f"/messages/{message_id}", f"/queue?route={EVIL}",
        f"/queue?account={EVIL}&before={EVIL}", f"/routes?account={EVIL}&to={EVIL[:15]}",
        f"/routes?account=demo&to=44&from={EVIL}&data_coding={EVIL}&at={EVIL}",
    ):  # fmt: skip
        for headers in ({}, {"X-Live": "1"}):
            answer = await alice.get(path, headers=headers)
            assert answer.status_code in {200, 400}, path
            assert "<script>alert" not in answer.text and "<img src=x" not in answer.text, path
    asked = await alice.post("/queue", do="cancel", route=EVIL[:60])
    assert "<script>alert" not in asked.text


@pytest.mark.parametrize("text", ["\0", "\ud800", "ß" * 300, "9" * 25, "-1", "²"])
async def test_odd_parameters_are_answered(alice: Visitor, text: str) -> None:
    value = text.encode("utf-8", "surrogatepass")
    quoted = "".join(f"%{octet:02X}" for octet in value)
    for path in (
        f"/queue?account={quoted}&route={quoted}&before={quoted}",
        f"/queue?route={quoted}",
        f"/routes?account={quoted}&to=44&from={quoted}&data_coding={quoted}&at={quoted}",
        f"/routes?account=demo&to={quoted}&from={quoted}",
        f"/routes?account={quoted}&to=44",
    ):
        assert (await alice.get(path)).status_code in {200, 400}, path
    form = text.encode("utf-8", "replace").decode()
    for key in ("id", "account", "route", "do"):
        answer = await alice.post("/queue", **{"do": "retry", "route": "r", key: form})
        assert answer.status_code < 500
