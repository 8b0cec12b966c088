"""What the console's pages show and do."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from typing import Any

import httpx
import pytest
from support.console import PASSWORD, Site, Visitor

from proxy.admin.console import plot
from proxy.admin.console.render import Renderer, change, credits, hours
from proxy.store import console, nodes
from proxy.store.database import Database
from proxy.store.events import write_event

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture
async def site(database: Database) -> Site:
    made = Site(database)
    await made.add_operator("alice", "admin")
    await made.add_account(credits=50)
    return made


@pytest.fixture
async def alice(site: Site) -> Visitor:
    visitor = site.visitor()
    await visitor.sign_in("alice")
    return visitor


async def add_message(site: Site, *, age_s: float = 0, **values: Any) -> int:
    """A message of demo that was charged and accepted; returns its id."""
    message_id = site.context.mint.mint(1)[0] - (int(age_s * 1e6) << 10)
    row = {"source_addr": "shop", "destination_addr": "447700900001", "state": "charged", **values}
    account_id, login_id = await site.database.pool.fetchrow(
        "SELECT account_id, id FROM login WHERE system_id = 'demo'"
    )
    await site.database.pool.execute(
        "INSERT INTO message (id, account_id, login_id, command_id, source_addr, destination_addr,"
        " segments, price_micro, esm_class, data_coding, registered_delivery)"
        " VALUES ($1, $2, $3, 4, $4, $5, 1, 1000000, 0, 0, 1)",
        message_id,
        account_id,
        login_id,
        row["source_addr"],
        row["destination_addr"],
    )
    if row["state"] in {"charged", "released"}:
        await site.database.pool.execute(
            "INSERT INTO outcome (message_id, account_id, state, command_status, smsc_message_id)"
            " VALUES ($1, $2, $3, 0, $4)",
            message_id,
            account_id,
            row["state"],
            row.get("smsc_message_id", ""),
        )
    return message_id


# -------------------------------------------------------------------------------- credits


async def test_credits_are_added_in_the_operators_name(site: Site, alice: Visitor) -> None:
    answer = await alice.post("/accounts/demo/credit", amount="25.5", note="invoice 7", key="k1")
    page = await alice.follow(answer)
    assert "25.5 credits added. The balance is 75.5." in page
    row = re.search(r"<tbody>.*?</tr>", page, re.DOTALL)
    assert row and all(text in row[0] for text in ("alice", "add", "+25.5", "75.5", "invoice 7"))
    # A notice is shown once.
    assert "credits added" not in (await alice.get("/accounts/demo")).text
    again = await alice.post("/accounts/demo/credit", amount="25.5", note="invoice 7", key="k1")
    assert "done already, and only once" in await alice.follow(again)
    [row] = await site.database.pool.fetch(
        "SELECT actor, note FROM v_credit_log WHERE account = 'demo' AND change = 25.5"
    )
    assert tuple(row) == ("alice", "invoice 7")


async def test_removing_credits_is_asked_back(site: Site, alice: Visitor) -> None:
    balance = "SELECT balance FROM v_account WHERE name = 'demo'"
    asked = await alice.post("/accounts/demo/credit", amount="-20", note="typo", key="k2")
    assert asked.status_code == 200 and "Remove 20 credits?" in asked.text
    assert re.search(r"Balance then</dt><dd[^>]*>30<", asked.text)
    assert await site.fetchval(balance) == 50
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', asked.text))
    assert hidden["confirmed"] == "yes"
    done = await alice.client.post("/accounts/demo/credit", data=hidden)
    assert "20 credits removed" in await alice.follow(done)
    assert await site.fetchval(balance) == 30
    too_much = await alice.post("/accounts/demo/credit", amount="-31", confirmed="yes", key="k3")
    assert too_much.status_code == 400 and "Only 30 credits can be removed." in too_much.text


@pytest.mark.parametrize("amount", ["", "0", "ten", "1e3", "0.0000001", "9" * 30])
async def test_what_is_no_amount_is_said_so(site: Site, alice: Visitor, amount: str) -> None:
    answer = await alice.post("/accounts/demo/credit", amount=amount, note="kept")
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text and 'value="kept"' in answer.text
    assert await site.fetchval("SELECT count(*) FROM ledger") == 1


async def test_the_credit_log_pages_while_rows_are_added(site: Site, alice: Visitor) -> None:
    for i in range(60):
        await alice.post("/accounts/demo/credit", amount=str(i + 1), key=f"p{i}")
    first = (await alice.get("/accounts/demo")).text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older
    await alice.post("/accounts/demo/credit", amount="999", key="new")
    second = (await alice.get(older[1])).text
    changes = re.findall(r'class="num plus">\+([\d.,]+)<', first + second)
    assert changes == [str(n) for n in range(60, 0, -1)] + ["50"]
    assert 'rel="next"' not in second


# ------------------------------------------------------------------------------- escaping


async def test_nothing_that_others_wrote_becomes_html(site: Site, alice: Visitor) -> None:
    await alice.post("/accounts/demo/credit", amount="1", note=EVIL, key="x")
    message_id = await add_message(
        site, source_addr=EVIL, destination_addr=EVIL, smsc_message_id=EVIL
    )
    async with site.database.pool.acquire() as conn:
        await write_event(conn, "bind_refused", f"Bind of {EVIL} refused", "warning")
        await nodes.write_status(
            conn,
            1,
            {
                "sessions": [
                    {
                        "id": 1,
                        "account": "demo",
                        "system_id": EVIL,
                        "bind_type": EVIL,
                        "peer": EVIL,
                        "bound_at": EVIL,
                        "open_requests": 0,
                    }
                ],
                "upstreams": [],
            },
        )
    for path in (
        "/",
        "/events",
        "/accounts/demo",
        "/accounts/demo/messages",
        "/accounts/demo/sessions",
        "/messages",
        f"/messages/{message_id}",
        "/accounts",
    ):
        for headers in ({}, {"X-Live": "1"}):
            text = (await alice.get(path, headers=headers)).text
            assert "<script>alert" not in text and "<img src=x" not in text, path
    for path in (
        f"/accounts?q={EVIL}",
        f"/events?text={EVIL}&account={EVIL}&severity={EVIL}&before={EVIL}",
        f"/messages?number={EVIL}&id={EVIL}&state={EVIL}&from={EVIL}&before={EVIL}&account={EVIL}",
        f"/accounts/{EVIL}",
        f"/messages/{EVIL}",
        f"/tariffs/import?name={EVIL}",
        f"/tariffs/standard?q={EVIL}&from={EVIL}",
        f"/sign-in?next={EVIL}",
        f"/setup?token={EVIL}",
    ):
        answer = await alice.get(path)
        assert answer.status_code in {200, 303, 404}, path
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text, path
    assert "&lt;script&gt;" in (await alice.get("/events")).text


@pytest.mark.parametrize("text", ["\0", "\ud800", "%00", "ß" * 300, "9" * 25, "-1", "²"])
async def test_odd_parameters_are_answered(alice: Visitor, text: str) -> None:
    value = text.encode("utf-8", "surrogatepass")
    quoted = "".join(f"%{octet:02X}" for octet in value)
    for path in (
        f"/accounts?q={quoted}&after={quoted}",
        f"/accounts/demo?before={quoted}",
        f"/messages?number={quoted}&id={quoted}&state={quoted}&to={quoted}&before={quoted}",
        f"/messages?number={quoted}",
        f"/events?account={quoted}&text={quoted}&before={quoted}",
        f"/tariffs/standard?q={quoted}&from={quoted}",
        f"/accounts/{quoted}",
        f"/messages/{quoted}",
        f"/tariffs/{quoted}",
        f"/users/{quoted}",
        f"/accounts/{quoted}/settings",
    ):
        answer = await alice.get(path)
        assert answer.status_code in {200, 404}, (path, answer.status_code)
    for path, fields in (
        ("/accounts/demo/credit", ("amount", "note", "key")),
        ("/accounts/new", ("name", "password", "system_id")),
        ("/accounts/demo/settings", ("tariff", "timezone", "allowed_senders", "low_balance")),
        ("/accounts/demo/logins", ("system_id", "password")),
        ("/tokens", ("name", "account", "expires")),
        ("/plans", ("name",)),
        ("/tariffs/import", ("name", "text")),
    ):
        for changed in fields:
            form = {"amount": "1", "name": "n", "password": PASSWORD, "scope": "read"}
            form |= {"every": "day", "text": "prefix,price\n1,1\n"}
            form[changed] = text.encode("utf-8", "replace").decode()
            answer = await alice.post(path, **form)
            assert answer.status_code < 500, (path, changed, answer.status_code)


# ------------------------------------------------------------------------------- accounts


async def test_an_account_is_created_searched_and_paged(site: Site, alice: Visitor) -> None:
    form = {"name": "new-shop", "password": "secret", "system_id": "shopbind", "credits": "12.5"}
    answer = await alice.post("/accounts/new", **form)
    assert "Account new-shop is there." in await alice.follow(answer)
    again = await alice.post("/accounts/new", **form)
    assert again.status_code == 400 and "already an account" in again.text
    assert 'value="shopbind"' in again.text and "secret" not in again.text
    assert "new-shop" in (await alice.get("/accounts?q=SHOPB")).text
    assert "new-shop" not in (await alice.get("/accounts?q=other")).text
    for i in range(60):
        await site.database.pool.execute("INSERT INTO account (name) VALUES ($1)", f"many-{i:02}")
    first = (await alice.get("/accounts?q=many")).text
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following
    second = (await alice.get(following[1].replace("&amp;", "&"))).text
    names = re.findall(r'<th scope="row"><a href="/accounts/(many-\d\d)"', first + second)
    assert names == [f"many-{i:02}" for i in range(60)]


async def test_settings_that_were_changed_are_set_and_no_others(site: Site, alice: Visitor) -> None:
    page = (await alice.get("/accounts/demo/settings")).text
    form = dict(re.findall(r'name="(\w+)" value="([^"]*)"[^>]*aria-describedby', page))
    assert {"credit_limit", "rate", "timezone", "low_balance", "allowed_senders"} <= set(form)
    nothing = await alice.post("/accounts/demo/settings", **form)
    assert "Nothing was changed." in await alice.follow(nothing)
    answer = await alice.post(
        "/accounts/demo/settings", **{**form, "credit_limit": "10", "rate": "5"}
    )
    assert "Saved: " in await alice.follow(answer)
    row = await site.database.pool.fetchrow(
        "SELECT credit_limit_micro, rate FROM account WHERE name = 'demo'"
    )
    assert tuple(row) == (10_000_000, 5.0)
    text = await site.fetchval("SELECT text FROM event WHERE kind = 'account_changed'")
    assert "by alice" in text and "credit_limit=10" in text and "timezone" not in text
    wrong = await alice.post("/accounts/demo/settings", rate="fast")
    assert wrong.status_code == 400 and 'value="fast"' in wrong.text
    owed = await alice.post("/accounts/demo/settings", timezone="Mars/Olympus")
    assert owed.status_code == 400


async def test_an_account_is_disabled_and_gets_another_login(site: Site, alice: Visitor) -> None:
    await alice.post("/accounts/demo/enabled", enabled="no")
    assert await site.fetchval("SELECT enabled FROM account WHERE name = 'demo'") is False
    await alice.post("/accounts/demo/enabled", enabled="yes")
    assert await site.fetchval("SELECT enabled FROM account WHERE name = 'demo'") is True
    answer = await alice.post("/accounts/demo/logins", system_id="demo2", password="pw")
    assert "demo2 binds with the new password" in await alice.follow(answer)
    empty = await alice.post("/accounts/demo/logins", system_id="demo2", password="")
    assert empty.status_code == 400
    assert await site.fetchval("SELECT count(*) FROM login") == 2


async def test_a_session_is_ended_on_its_proxy(site: Site, alice: Visitor) -> None:
    session = {
        "id": 7,
        "account": "demo",
        "system_id": "demo",
        "bind_type": "transceiver",
        "peer": "10.0.0.1:4000",
        "bound_at": "2026-11-22T10:00:00+00:00",
        "open_requests": 3,
    }
    async with site.database.pool.acquire() as conn:
        await nodes.write_status(conn, 3, {"sessions": [session], "upstreams": []})
    page = (await alice.get("/accounts/demo/sessions")).text
    assert "10.0.0.1:4000" in page and "2026-11-22 10:00:00" in page
    heard = []
    listener = await site.database.connect()
    try:
        await listener.add_listener(nodes.DISCONNECT_CHANNEL, lambda *args: heard.append(args[-1]))
        await alice.post("/accounts/demo/sessions/end", node="3", id="7")
        gone = await alice.post("/accounts/demo/sessions/end", node="3", id="8")
        assert "ended already" in await alice.follow(gone)
        await listener.fetchval("SELECT 1")
    finally:
        await listener.close()
    assert heard == ["3:7"]


# ------------------------------------------------------------------------------- messages


async def test_messages_are_found_by_number_id_state_and_time(site: Site, alice: Visitor) -> None:
    old = await add_message(site, age_s=7200, destination_addr="+33600000001")
    held = await add_message(site, age_s=60, state="held", source_addr="447711")
    new = await add_message(site, smsc_message_id="A0FF")

    async def found(query: str) -> set[int]:
        text = (await alice.get(f"/accounts/demo/messages?{query}")).text
        assert text.count("<tr>") == (await alice.get(f"/messages?{query}")).text.count("<tr>")
        return {int(one) for one in re.findall(r'href="/messages/(\d+)"', text)}

    assert await found("") == {old, held, new}
    assert await found("number=336") == await found("number=%2B33600000001") == {old}
    assert await found("number=44771") == {held}
    assert await found(f"id={held}") == {held}
    assert await found("id=A0FF") == {new}
    assert await found("id=12") == set()
    assert await found("state=held") == {held}
    assert await found("state=charged&number=4477") == {new}
    hour_ago = (site.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    assert await found(f"from={hour_ago}") == {held, new}
    assert await found(f"to={hour_ago}") == {old}
    wrong = (await alice.get("/messages?from=yesterday")).text
    assert "A time is written like" in wrong


async def test_the_message_history_pages_while_messages_come(site: Site, alice: Visitor) -> None:
    expected = [await add_message(site, age_s=i * 600) for i in range(120)]
    seen: list[int] = []
    path = "/accounts/demo/messages?number=4477"
    while path:
        text = (await alice.get(path)).text
        seen += [int(one) for one in re.findall(r'class="when"><a href="/messages/(\d+)"', text)]
        await add_message(site)
        older = re.search(r'rel="next" href="([^"]+)"', text)
        path = older[1].replace("&amp;", "&") if older else ""
    assert seen == sorted(expected, reverse=True)


async def test_one_message_tells_its_story(site: Site, alice: Visitor) -> None:
    message_id = await add_message(site, smsc_message_id="A0FF")
    text = (await alice.get(f"/messages/{message_id}")).text
    assert "submitted" in text and "charged" in text and "A0FF" in text
    live = (await alice.get(f"/messages/{message_id}", headers={"X-Live": "1"})).text
    assert "<html" not in live and "A0FF" in live
    assert (await alice.get("/messages/1")).status_code == 404


# ------------------------------------------------------------------- events, home, upstreams


async def test_home_counts_what_the_event_log_counts(site: Site, alice: Visitor) -> None:
    async with site.database.pool.acquire() as conn:
        await write_event(conn, "submit_accepted", "Submit accepted", count=120)
        text = "Could not send message. Insufficient credits"
        await write_event(conn, "insufficient_credits", text, "warning", count=7)
        traffic = await console.traffic(conn, site.now())
    assert sum(traffic.accepted) == 120 and sum(traffic.refused) == 7
    assert traffic.reasons == [(text, 7)]
    assert 1.9 < traffic.per_second <= 2
    page = (await alice.get("/")).text
    assert "120 messages in 60 minutes, at most 120 in one" in page
    assert "Insufficient credits" in page and page.count('<svg class="plot') == 2


async def test_home_lists_who_is_close_to_empty(site: Site, alice: Visitor) -> None:
    await site.add_account("rich", 1000)
    await site.add_account("never", 0)
    await site.database.pool.execute(
        "UPDATE account SET used_micro = 40000000 WHERE name IN ('demo', 'rich')"
    )
    page = (await alice.get("/", headers={"X-Live": "1"})).text
    section = page.split("Accounts close to empty")[1].split("</section>")[0]
    assert "demo" in section and "never" not in section
    site.away = True
    assert (await alice.get("/")).status_code == 503


async def test_events_have_their_warnings_on_top(site: Site, alice: Visitor) -> None:
    async with site.database.pool.acquire() as conn:
        for i in range(60):
            await write_event(conn, "bound", f"demo bound {i}")
        for _ in range(3):
            await write_event(conn, "upstream_down", "Upstream a is down", "error", count=2)
        # Of several that happened at one moment none is lost between two pages.
        await conn.execute("UPDATE event SET last_at = (SELECT max(last_at) FROM event)")
    page = (await alice.get("/events")).text
    top, below = page.split("<table", 1)
    assert "Upstream a is down" in top and "× 6" in top
    older = re.search(r'rel="next" href="([^"]+)"', below)
    assert older
    second = (await alice.get(older[1].replace("&amp;", "&"))).text
    texts = re.findall(r"demo bound (\d+)", below + second)
    assert sorted(map(int, texts)) == list(range(60))
    errors = (await alice.get("/events?severity=error&text=UPSTREAM")).text
    assert "Upstream a is down" in errors and "demo bound" not in errors


async def test_an_upstream_is_paused_resumed_and_given_its_costs(
    site: Site, alice: Visitor
) -> None:
    await site.database.pool.execute("INSERT INTO upstream (name) VALUES ('carrier')")
    said = {
        "name": "carrier",
        "links": 1,
        "window_used": 2,
        "window_max": 10,
        "backlog": 0,
        "paused": False,
    }
    async with site.database.pool.acquire() as conn:
        await nodes.write_status(conn, 1, {"sessions": [], "upstreams": [said]})
        await nodes.write_status(conn, 2, {"sessions": [], "upstreams": [{**said, "links": 0}]})
    assert "partly up" in (await alice.get("/upstreams")).text
    answer = await alice.post("/upstreams/carrier", do="pause")
    assert "carrier is paused." in await alice.follow(answer)
    assert await site.fetchval("SELECT paused FROM upstream") is True
    await alice.post("/upstreams/carrier", do="resume")
    assert await site.fetchval("SELECT paused FROM upstream") is False
    await alice.post("/upstreams/carrier", do="cost", tariff="standard")
    assert await site.fetchval("SELECT cost_tariff_id FROM upstream") == 1
    await alice.post("/upstreams/carrier", do="cost", tariff="")
    assert await site.fetchval("SELECT cost_tariff_id FROM upstream") is None
    for do in ("explode", ""):
        assert (await alice.post("/upstreams/carrier", do=do)).status_code == 400
    assert (await alice.post("/upstreams/absent", do="pause")).status_code == 400


# -------------------------------------------------------------------------- tariffs, plans


CSV = "prefix,service,price,valid_from,valid_to\n44,,0.5,,\n33,,not sold,,\n"


def hidden_fields(page: httpx.Response) -> dict[str, str]:
    """The second form: everything it sends."""
    form = page.text.split('action="/tariffs/import"')[1]
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    text = re.search(r"<textarea name=\"text\" hidden>\n(.*?)</textarea>", form, re.DOTALL)
    assert text
    return {**fields, "text": text[1]}


async def test_a_tariff_is_previewed_then_applied_then_exported(site: Site, alice: Visitor) -> None:
    count = "SELECT count(*) FROM price p JOIN tariff t ON t.id = tariff_id WHERE t.name = 'retail'"
    upload = {"file": ("retail.csv", b"\xef\xbb\xbf" + CSV.encode(), "text/csv")}
    preview = await alice.post("/tariffs/import", files=upload, name="retail")
    assert preview.status_code == 200 and "New tariff retail" in preview.text
    assert "Apply: 2 added, 0 changed, 0 ended" in preview.text
    assert await site.fetchval(count) == 0
    applied = await alice.client.post("/tariffs/import", data=hidden_fields(preview))
    assert "Imported: 2 added" in await alice.follow(applied)
    assert await site.fetchval(count) == 2
    export = await alice.get("/tariffs/retail/export.csv")
    assert export.headers["content-disposition"] == 'attachment; filename="retail.csv"'
    assert next(iter(csv.DictReader(io.StringIO(export.text))))["price"] == "not sold"
    changed = await alice.post("/tariffs/import", name="retail", text="prefix,price\n44,0.6\n,1\n")
    for text in ("1 added, 1 changed, 1 ended", "every destination", "0.5", "0.6"):
        assert text in changed.text
    # Somebody else imports in between: then it is shown again, and not applied.
    await alice.client.post(
        "/tariffs/import", data={**hidden_fields(changed), "text": "prefix,price\n44,0.7\n"}
    )
    stale = await alice.client.post("/tariffs/import", data=hidden_fields(changed))
    assert stale.status_code == 200 and "Somebody changed this tariff meanwhile" in stale.text
    assert "0.7" in (await alice.get("/tariffs/retail/export.csv")).text
    text = await site.fetchval("SELECT text FROM event WHERE kind = 'tariff_changed' LIMIT 1")
    assert text.endswith("by alice")


async def test_a_file_that_is_no_tariff_says_why(site: Site, alice: Visitor) -> None:
    wrong = await alice.post("/tariffs/import", name="x", text="prefix,price\n44,free\n55,0\n")
    assert wrong.status_code == 400
    assert "Line 2: price" in wrong.text and "Line 3: price" in wrong.text
    assert "44,free" in wrong.text
    nothing = await alice.post("/tariffs/import", name="x")
    assert nothing.status_code == 400 and "Choose a file" in nothing.text
    name = await alice.post("/tariffs/import", name="not a name", text=CSV)
    assert name.status_code == 400
    assert await site.fetchval("SELECT count(*) FROM tariff") == 1


async def test_a_plan_is_added_assigned_ended_and_removed(site: Site, alice: Visitor) -> None:
    form = {"name": "starter", "amount": "100", "every": "month", "roll_over": "no"}
    assert "Plan starter is there" in await alice.follow(await alice.post("/plans", **form))
    assert (await alice.post("/plans", **form)).status_code == 400
    answer = await alice.post("/accounts/demo/plans", plan="starter")
    page = await alice.follow(answer)
    assert "100 credits granted" in page and "Credits that expire" in page
    assert await site.fetchval("SELECT balance FROM v_account WHERE name = 'demo'") == 150
    in_use = await alice.post("/plans", do="remove", name="starter")
    assert in_use.status_code == 400
    await alice.post("/accounts/demo/plans/end", plan="starter")
    gone = await alice.post("/plans", do="remove", name="starter")
    assert "Plan starter is removed." in await alice.follow(gone)


# ---------------------------------------------------------------------------------- users


async def test_operators_and_tokens(site: Site, alice: Visitor) -> None:
    weak = await alice.post("/users", name="bob", password="short", scope="read")
    assert weak.status_code == 400 and "at least 10 characters" in weak.text
    await alice.post("/users", name="bob", password=PASSWORD, scope="credit")
    assert (await site.visitor().sign_in("bob")).status_code == 303
    created = await alice.post("/tokens", name="grafana", scope="read")
    secret = re.search(r'class="secret"[^>]*>([^<]+)<', created.text)
    assert secret and secret[1].startswith("sp_")
    assert secret[1] not in (await alice.get("/users")).text
    await alice.post("/tokens", name="short", scope="read", expires="2199-12-30")
    ends = await site.fetchval("SELECT expires_at::text FROM api_token WHERE name = 'short'")
    assert ends.startswith("2199-12-31 00:00:00"), "a day counts to its end"
    twice = await alice.post("/tokens", name="grafana", scope="read")
    assert twice.status_code == 400
    strange = await alice.post("/tokens", name="other", scope="god")
    assert strange.status_code == 400
    await alice.post("/tokens/revoke", name="grafana")
    assert "revoked" in (await alice.get("/users")).text
    texts = await site.fetchval("SELECT string_agg(text, '; ') FROM event")
    for text in ("Operator bob added (credit) by alice", "grafana revoked by alice"):
        assert text in texts


# --------------------------------------------------------------------------------- errors


async def test_the_database_away_is_a_page(site: Site, alice: Visitor) -> None:
    site.away = True
    for path in ("/", "/sign-in", "/accounts/demo"):
        answer = await alice.get(path)
        assert answer.status_code == 503 and "The database is away" in answer.text
    live = await alice.get("/", headers={"X-Live": "1"})
    assert live.status_code == 503 and "<html" not in live.text
    assert (await alice.get("/static/console.css")).status_code == 200


async def test_what_is_not_there_is_a_page(alice: Visitor) -> None:
    for path in ("/absent", "/accounts/absent", "/tariffs/absent", "/users/absent", "/static/"):
        answer = await alice.get(path)
        assert answer.status_code == 404 and "There is no such page" in answer.text
    api = await alice.get("/api/v1/absent")
    assert api.headers["content-type"] == "application/problem+json"
    assert (await alice.client.post("/accounts")).status_code == 405


async def test_a_failure_shows_nothing_of_itself(
    alice: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(console, "traffic", fails)
    answer = await alice.get("/")
    assert answer.status_code == 500 and "secret of the inside" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


# ---------------------------------------------------------------------------------- parts


def test_every_template_compiles() -> None:
    renderer = Renderer()
    assert len(renderer.templates()) > 20
    for name in renderer.templates():
        renderer._env.get_template(name)


def test_how_values_are_written() -> None:
    from decimal import Decimal

    assert credits(Decimal("1234567.500000")) == "1,234,567.5"
    assert credits(Decimal("-100")) == "\N{MINUS SIGN}100"
    assert credits(Decimal("1E+2")) == "100"
    assert credits(Decimal(0)) == "0" and credits(None) == "–"
    assert change(Decimal("0.000001")) == "+0.000001"
    assert [hours(h) for h in (0, 0.5, 5, 100, 10_000)] == [
        "0 min",
        "30 min",
        "5.0 h",
        "4 days",
        "over a year",
    ]


@pytest.mark.parametrize(("largest", "top"), [(0, 2), (2, 2), (3, 4), (11, 20), (999, 1000)])
def test_the_axis_ends_at_a_round_number(largest: int, top: int) -> None:
    assert plot.nice_top(largest) == top
