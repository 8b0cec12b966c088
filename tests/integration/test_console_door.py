"""The console's door: who gets in, how long, and what a form from elsewhere can do."""

from __future__ import annotations

import asyncio
import hmac
from datetime import timedelta

import pytest
from support.console import ORIGIN, PASSWORD, Site, Visitor

from proxy.admin.console.routes import PAGES
from proxy.admin.console.visit import SESSION_COOKIE, Page
from proxy.store import operators
from proxy.store.database import Database
from proxy.store.web_sessions import ATTEMPTS_FROM_ADDRESS, ATTEMPTS_OF_NAME, ATTEMPTS_WITHIN


@pytest.fixture
async def site(database: Database) -> Site:
    made = Site(database)
    await made.add_operator("alice", "admin")
    return made


@pytest.fixture
async def alice(site: Site) -> Visitor:
    visitor = site.visitor()
    assert (await visitor.sign_in("alice")).status_code == 303
    return visitor


def path_of(page: Page) -> str:
    return page.path.replace("{name}", "demo").replace("{id}", "1")


def ids(page: Page) -> str:
    return f"{page.method} {page.path}"


CLOSED = [page for page in PAGES if page.scope is not None]
FORMS = [page for page in CLOSED if page.method == "POST"]


# ------------------------------------------------------------------------ the set-up link


async def test_the_set_up_link_makes_one_administrator_once(database: Database) -> None:
    site = Site(database)
    async with database.pool.acquire() as conn:
        old = await operators.setup_link(conn)
        link = await operators.setup_link(conn)
    assert old and link and old != link
    stored = await site.fetchval("SELECT string_agg(hash::text, ' ') FROM setup_link")
    assert link not in stored
    visitor = site.visitor()
    assert (await visitor.get("/setup?token=wrong")).status_code == 404
    page = f"/setup?token={link}"
    form = {"token": link, "name": "alice", "password": PASSWORD, "again": PASSWORD}
    short = await visitor.post(
        "/setup", page=page, **{**form, "password": "short", "again": "short"}
    )
    assert short.status_code == 400 and "at least 10 characters" in short.text
    other = await visitor.post("/setup", page=page, **{**form, "again": "something else"})
    assert other.status_code == 400 and "The passwords differ" in other.text
    token = await visitor.csrf(page)
    done = await visitor.post("/setup", page=page, **form)
    assert "Welcome, alice" in await visitor.follow(done)
    assert "New account" in (await visitor.get("/accounts")).text
    # Neither this link, nor the one before it, nor a new one.
    for spent in (link, old):
        again = site.visitor()
        assert "This link is spent" in (await again.get(f"/setup?token={spent}")).text
        answer = await again.client.post("/setup", data={**form, "token": spent, "csrf": token})
        assert answer.status_code == 403
    async with database.pool.acquire() as conn:
        assert await operators.setup_link(conn) is None
    assert await site.fetchval("SELECT count(*) FROM operator") == 1


async def test_two_who_use_the_link_at_once_make_one_operator(database: Database) -> None:
    async with database.pool.acquire() as conn:
        link = await operators.setup_link(conn)
    site = Site(database)

    async def use(name: str) -> int:
        visitor = site.visitor()
        answer = await visitor.post(
            "/setup",
            page=f"/setup?token={link}",
            token=str(link),
            name=name,
            password=PASSWORD,
            again=PASSWORD,
        )
        return answer.status_code

    assert sorted(await asyncio.gather(use("alice"), use("mallory")))[0] == 303
    assert await site.fetchval("SELECT count(*) FROM operator") == 1


async def test_the_set_up_link_gets_too_old(database: Database) -> None:
    async with database.pool.acquire() as conn:
        link = await operators.setup_link(conn)
    site = Site(database)
    site.ahead = operators.SETUP_LINK_LIFE - timedelta(minutes=1)
    assert (await site.visitor().get(f"/setup?token={link}")).status_code == 200
    site.ahead += timedelta(minutes=2)
    assert (await site.visitor().get(f"/setup?token={link}")).status_code == 404


# ----------------------------------------------------------------------------- signing in


async def test_nobody_sees_anything_without_signing_in(site: Site) -> None:
    visitor = site.visitor()
    for page in CLOSED:
        answer = await visitor.client.request(page.method, path_of(page))
        assert answer.status_code == 303, ids(page)
        assert answer.headers["location"].startswith("/sign-in"), ids(page)
    live = await visitor.get("/", headers={"X-Live": "1"})
    assert live.status_code == 401


async def test_signing_in_and_out(site: Site) -> None:
    visitor = site.visitor()
    await visitor.get("/sign-in")
    before = visitor.cookie
    answer = await visitor.sign_in("alice", next="/events?severity=error")
    assert answer.headers["location"] == "/events?severity=error"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    token = visitor.cookie
    assert token and token != before  # nobody could have planted it
    stored = await site.fetchval("SELECT string_agg(hash::text, ' ') FROM web_session")
    assert token not in stored
    assert (await visitor.get("/")).status_code == 200
    await visitor.post("/sign-out")
    visitor.client.cookies.set(SESSION_COOKIE, token)
    assert (await visitor.get("/")).status_code == 303


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/\n/evil"]
)
async def test_signing_in_leads_nowhere_else(site: Site, wanted: str) -> None:
    answer = await site.visitor().sign_in("alice", next=wanted)
    assert answer.headers["location"] == "/"


async def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(site: Site) -> None:
    await site.add_operator("gone", "read")
    async with site.database.pool.acquire() as conn:
        await operators.set_enabled(conn, "gone", False, by="test")
    texts = set()
    for name, password in [("alice", "wrong"), ("nobody", PASSWORD), ("gone", PASSWORD)]:
        answer = await site.visitor().sign_in(name, password)
        assert answer.status_code == 403
        # But for what the visitor sent and the browser's own token.
        text = answer.text.replace(f'value="{name}"', "")
        texts.add("".join(line for line in text.splitlines() if "csrf" not in line))
    assert len(texts) == 1
    assert site.recorded == ["sign_in_failed"] * 3


async def test_guessing_is_limited_by_name(site: Site) -> None:
    for i in range(ATTEMPTS_OF_NAME):
        answer = await site.visitor(f"192.0.2.{i}").sign_in("alice", f"guess {i}")
        assert answer.status_code == 403
    answer = await site.visitor("198.51.100.1").sign_in("alice")
    assert answer.status_code == 429 and answer.headers["retry-after"]
    site.ahead = ATTEMPTS_WITHIN + timedelta(seconds=1)
    assert (await site.visitor().sign_in("alice")).status_code == 303


async def test_guessing_is_limited_by_address_also_at_once(site: Site) -> None:
    visitors = [site.visitor() for _ in range(ATTEMPTS_FROM_ADDRESS + 5)]
    # Twenty wait at most; so not all of them at once.
    answers = []
    for some in (visitors[:15], visitors[15:30], visitors[30:]):
        answers += await asyncio.gather(
            *(one.sign_in(f"name{visitors.index(one)}") for one in some)
        )
    codes = [answer.status_code for answer in answers]
    assert codes.count(429) == 5
    assert (await site.visitor().sign_in("alice")).status_code == 429
    assert (await site.visitor("198.51.100.1").sign_in("alice")).status_code == 303


async def test_forwarded_headers_count_only_when_they_are_trusted(database: Database) -> None:
    site = Site(database)
    await site.add_operator("alice", "admin")
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    plain = await site.visitor().get("/sign-in", headers=headers)
    assert "Secure" not in plain.headers["set-cookie"]
    trusting = Site(database, trust_forwarded=True)
    secure = await trusting.visitor().get("/sign-in", headers=headers)
    assert "Secure" in secure.headers["set-cookie"]
    visitor = trusting.visitor()
    visitor.client.headers["X-Forwarded-For"] = "10.0.0.1, 203.0.113.9"
    await visitor.sign_in("alice", "wrong")
    subjects = await site.fetchval(
        "SELECT array_agg(subject ORDER BY subject) FROM sign_in_attempt"
    )
    assert subjects == ["from 203.0.113.9", "name alice"]


# ------------------------------------------------------------------------------- sessions


async def test_a_session_that_is_not_used_ends_after_twelve_hours(
    site: Site, alice: Visitor
) -> None:
    site.ahead = timedelta(hours=11)
    assert (await alice.get("/")).status_code == 200
    site.ahead = timedelta(hours=22)
    assert (await alice.get("/")).status_code == 200
    for hours in (27, 32):  # a page that refreshes itself is not somebody who is there
        site.ahead = timedelta(hours=hours)
        assert (await alice.get("/", headers={"X-Live": "1"})).status_code == 200
    site.ahead = timedelta(hours=34, minutes=1)
    assert (await alice.get("/")).status_code == 303


async def test_a_session_ends_after_seven_days(site: Site, alice: Visitor) -> None:
    for hours in range(6, 7 * 24, 6):
        site.ahead = timedelta(hours=hours)
        assert (await alice.get("/me")).status_code == 200, hours
    site.ahead = timedelta(days=7, seconds=1)
    assert (await alice.get("/me")).status_code == 303
    await site.visitor().sign_in("alice")
    assert await site.fetchval("SELECT count(*) FROM web_session") == 1


async def test_another_password_ends_the_other_sessions(site: Site, alice: Visitor) -> None:
    elsewhere = site.visitor()
    await elsewhere.sign_in("alice")
    form = {"present": "wrong", "password": "another password", "again": "another password"}
    wrong = await alice.post("/me", **form)
    assert wrong.status_code == 400 and "present password" in wrong.text
    done = await alice.post("/me", **{**form, "present": PASSWORD})
    assert "other sessions have ended" in await alice.follow(done)
    assert (await alice.get("/")).status_code == 200
    assert (await elsewhere.get("/")).status_code == 303
    assert (await site.visitor().sign_in("alice")).status_code == 403
    assert (await site.visitor().sign_in("alice", "another password")).status_code == 303


async def test_a_disabled_operator_is_out_at_once_and_another_scope_counts_at_once(
    site: Site, alice: Visitor
) -> None:
    await site.add_operator("bob", "admin")
    bob = site.visitor()
    await bob.sign_in("bob")
    assert (await bob.get("/users")).status_code == 200
    await alice.post("/users/bob", do="scope", scope="read")
    assert (await bob.get("/users")).status_code == 403
    await alice.post("/users/bob", do="disable")
    assert (await bob.get("/")).status_code == 303
    await alice.post("/users/bob", do="enable")
    assert (await bob.get("/")).status_code == 303  # the session is gone for good
    last = await alice.post("/users/alice", do="disable")
    assert last.status_code == 400 and "only administrator" in last.text


# ---------------------------------------------------------------------------------- forms


@pytest.mark.parametrize("page", FORMS, ids=ids)
async def test_a_form_needs_its_token_and_its_origin(
    site: Site, alice: Visitor, page: Page
) -> None:
    other = site.visitor()
    await other.sign_in("alice")
    right = await alice.csrf()
    cases = [
        ({}, {}),
        ({"csrf": ""}, {}),
        ({"csrf": "0" * 64}, {}),
        ({"csrf": "ß"}, {}),
        ({"csrf": await other.csrf()}, {}),  # of another session of the same operator
        ({"csrf": right}, {"Origin": "https://evil.example"}),
        ({"csrf": right}, {"Origin": "null"}),
        ({"csrf": right}, {"Origin": ORIGIN + ".evil.example", "Sec-Fetch-Site": "cross-site"}),
    ]
    for data, headers in cases:
        answer = await alice.client.post(path_of(page), data=data, headers=headers)
        assert answer.status_code == 403, (data, headers)


async def test_signing_in_needs_a_token_too(site: Site) -> None:
    visitor = site.visitor()
    form = {"name": "alice", "password": PASSWORD}
    without_cookie = hmac.digest(b"", b"csrf", "sha256").hex()
    for token in ({}, {"csrf": ""}, {"csrf": without_cookie}):
        answer = await visitor.client.post("/sign-in", data={**form, **token})
        assert answer.status_code == 403
        assert visitor.cookie is None


@pytest.mark.parametrize("scope", ["read", "credit"])
async def test_what_a_scope_does_not_allow_is_refused(site: Site, scope: operators.Scope) -> None:
    await site.add_operator("bob", scope)
    await site.add_account(credits=5)
    bob = site.visitor()
    await bob.sign_in("bob")
    token = await bob.csrf()
    who = operators.Operator(0, "bob", scope)
    refused = 0
    for page in CLOSED:
        assert page.scope is not None
        if who.may(page.scope):
            continue
        refused += 1
        data = {"csrf": token} if page.method == "POST" else None
        answer = await bob.client.request(page.method, path_of(page), data=data)
        assert answer.status_code == 403, ids(page)
        assert f"needs the scope {page.scope}" in answer.text
    assert refused >= 15
    # And the pages offer nothing of it.
    tabs = [f"/accounts/demo{tab}" for tab in ("", "/settings", "/plans", "/sessions")]
    for path in ("/", "/accounts", "/upstreams", "/tariffs", "/plans", *tabs):
        text = (await bob.get(path)).text
        actions = [part.split('"')[0] for part in text.split('method="post" action="')[1:]]
        allowed = {"/sign-out"} | ({"/accounts/demo/credit"} if scope == "credit" else set())
        # The settings are shown to everybody, in a form that is switched off.
        shown = {"/accounts/demo/settings"} if path.endswith("settings") else set()
        assert set(actions) <= allowed | shown, path
        assert "/users" not in text and "/accounts/new" not in text


async def test_a_form_that_is_too_large_is_refused(alice: Visitor) -> None:
    answer = await alice.post("/me", present="x" * 70_000)
    assert answer.status_code == 413


# -------------------------------------------------------------------------------- headers


async def test_headers_of_pages_and_files(site: Site, alice: Visitor) -> None:
    for path in ("/", "/sign-in", "/absent", "/accounts/absent"):
        headers = (await alice.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
    page = (await alice.get("/")).text
    assert "<script>" not in page and " style=" not in page and " onclick=" not in page
    assert "http://" not in page and "https://" not in page
    files = [part.split('"')[0] for part in page.split('"/static/')[1:]]
    assert {file.split("?")[0] for file in files} == {"console.css", "icon.svg", "live.js"}
    for file in files:
        answer = await alice.get(f"/static/{file}")
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
    for wrong in ("absent.css", "..%2Fconsole%2Froutes.py", "%2e%2e/http.py"):
        assert (await alice.get(f"/static/{wrong}")).status_code == 404
