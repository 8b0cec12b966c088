"""The walk of an operator through the console, in a real browser, with a real proxy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.async_api import Page, expect
from support.browser import Watched, chromium, require_chromium
from support.esme import Esme
from support.queued import claim, enqueue, put_off
from support.running import Running, running_proxy

from proxy.config import RouteSettings
from proxy.store import nodes, operators

pytestmark = pytest.mark.timeout(120)

PASSWORD = "correct horse battery"
SOON_MS = 8000
OK, SUBMIT_FAILED = 0, 0x45
ROUTES = [
    RouteSettings(
        name="France and Spain at night",
        prefix=["33", "34"],  # type: ignore[arg-type]  # as in the file
        sender="Shop*",  # type: ignore[arg-type]
        hours="22:00-06:00",
        timezone="Europe/Paris",
        upstreams=["carrier"],
        when_down="queue",
    ),
    RouteSettings(name="modems", upstreams=["carrier"]),
]


@pytest.fixture(autouse=True)
def _chromium() -> Iterator[None]:
    require_chromium()
    expect.set_options(timeout=SOON_MS)
    yield
    expect.set_options(timeout=5000)


async def set_up(run: Running, page: Page) -> None:
    """The first start: somebody follows the link that the proxy prints."""
    async with run.proxy.database.pool.acquire() as conn:
        link = await operators.setup_link(conn)
    page.set_default_timeout(SOON_MS)
    base = f"http://127.0.0.1:{run.proxy.http_port}"
    await page.goto(f"{base}/setup?token={link}")
    await page.get_by_label("Name").fill("alice")
    await page.locator("[name=password]").fill(PASSWORD)
    await page.get_by_label("The password again").fill(PASSWORD)
    await page.get_by_role("button", name="Create administrator").click()
    await expect(page.get_by_role("heading", name="Home")).to_be_visible()


async def submit(esme: Esme) -> int:
    """Send a message; returns the command_status."""
    return (await esme.submit(source=b"shop", registered_delivery=1)).status


async def balance(page: Page, text: str) -> None:
    """The figure on top of an account is, or will soon be."""
    figure = page.locator("dl.figures div", has_text="Balance").locator("dd").first
    await expect(figure).to_have_text(text)


async def test_the_walk_of_an_operator(database_url: str) -> None:
    async with running_proxy(database_url, http={"enabled": True}) as run, chromium() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        watched = Watched(page)
        await set_up(run, page)
        await watched.shot("home")

        # Create the account.
        await page.get_by_role("link", name="Accounts").first.click()
        await page.get_by_role("link", name="New account").click()
        await page.get_by_role("textbox", name="Name", exact=True).fill("shop")
        await page.get_by_label("Password of the client").fill("shop")
        await page.get_by_role("button", name="Create account").click()
        await expect(page.get_by_text("Account shop is there.")).to_be_visible()
        await balance(page, "0")

        # Two credits; one message; the balance falls while the page is looked at.
        await page.get_by_label("Amount").fill("2")
        await page.get_by_label("Note").fill("invoice 1042")
        await page.get_by_role("button", name="Add", exact=True).click()
        await expect(page.get_by_text("2 credits added. The balance is 2.")).to_be_visible()
        await watched.shot("credits-added")
        async with run.esme() as esme:
            assert (await esme.bind("shop", "shop")).status == OK
            assert await submit(esme) == OK
            await balance(page, "1")

            # Spend it all, and be refused.
            assert await submit(esme) == OK
            assert await submit(esme) == SUBMIT_FAILED
            await balance(page, "0")
            await expect(page.get_by_text("empty: messages are refused")).to_be_visible()
            await watched.shot("empty")

            # The warning is on top of the events.
            await page.get_by_role("link", name="Events").first.click()
            warnings = page.get_by_role("region", name="Warnings")
            await expect(warnings.get_by_text("Insufficient credits").first).to_be_visible()
            await watched.shot("warning")

            # Add credits, by keyboard, and send again.
            await warnings.get_by_role("link", name="shop").first.click()
            await page.get_by_label("Amount").focus()
            await page.keyboard.type("50")
            await page.keyboard.press("Tab")
            await page.keyboard.type("paid in cash")
            await page.keyboard.press("Enter")
            await expect(page.get_by_text("50 credits added. The balance is 50.")).to_be_visible()
            assert await submit(esme) == OK
            await balance(page, "49")

            # The credit log has the creator's name.
            rows = page.locator("table.log tbody tr")
            await expect(rows.nth(0)).to_contain_text("use")
            await expect(rows.nth(1)).to_contain_text(
                re.compile(r"alice.*add.*\+50.*50.*paid in cash", re.DOTALL)
            )
            await expect(rows.last).to_contain_text(
                re.compile(r"alice.*add.*\+2.*2.*invoice 1042", re.DOTALL)
            )
            await watched.shot("credit-log")

            # Removing is asked back.
            await page.get_by_label("Amount").fill("-9")
            await page.get_by_role("button", name="Add", exact=True).click()
            await expect(page.get_by_role("heading", name="Remove 9 credits?")).to_be_visible()
            await watched.shot("removal")
            await page.get_by_role("button", name="Remove 9 credits").click()
            await balance(page, "40")

            # One message with everything that happened to it.
            await page.get_by_role("link", name="Message history").click()
            await page.get_by_label("Number").fill("4477")
            await page.get_by_role("button", name="Search").click()
            await expect(page.locator("tbody tr")).to_have_count(3)
            await watched.shot("messages")
            await page.locator("tbody th a").first.click()
            for text in ("submitted", "credit taken", "charged", "receipt delivered"):
                await expect(page.locator(".story strong", has_text=text).first).to_be_visible()
            await watched.shot("message")

            await page.get_by_role("link", name="Upstreams").first.click()
            await expect(page.get_by_role("region", name="carrier")).to_contain_text("up")
            await watched.shot("upstreams")
        await run.assert_books_balance()
        assert watched.complaints == []


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_fits(
    database_url: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    async with (
        running_proxy(database_url, http={"enabled": True}, route=ROUTES) as run,
        chromium() as browser,
    ):
        page = await browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        watched = Watched(page)
        await set_up(run, page)
        base = f"http://127.0.0.1:{run.proxy.http_port}"
        waiting = await fill_queue(run)
        for path in (
            "/", "/accounts", "/accounts/new", "/accounts/demo", "/accounts/demo/messages",
            "/accounts/demo/settings", "/accounts/demo/plans", "/accounts/demo/sessions",
            "/messages", "/queue", "/queue?route=modems", "/events", "/upstreams", "/routes",
            "/routes?account=demo&to=447700900123&from=Shop", "/tariffs", "/tariffs/standard",
            "/tariffs/import", "/plans", "/users", "/users/alice", "/me", f"/messages/{waiting}",
        ):  # fmt: skip
            await page.goto(base + path)
            await watched.shot(f"{width}-{scheme}{path}")
            # The first stop of the keyboard leads past the navigation.
            if path != "/accounts/new":  # begins in its first field
                await page.keyboard.press("Tab")
                await expect(page.locator(":focus")).to_have_text("Skip to the content")
            unnamed = await page.evaluate(
                "[...document.querySelectorAll('input:not([type=hidden], [hidden]), select,"
                " textarea:not([hidden])')].filter(one => !one.labels.length).length"
            )
            assert unnamed == 0, path
        await page.goto(f"{base}/queue")
        await page.get_by_role("button", name="Cancel modems").click()
        await expect(page.get_by_role("heading", name="Cancel 13 messages?")).to_be_visible()
        await watched.shot(f"{width}-{scheme}/queue-cancel")
        assert watched.complaints == []


async def fill_queue(run: Running) -> int:
    """Messages that are not due yet, and a modem in a pool; returns the id of one message."""
    async with run.proxy.database.pool.acquire() as conn:
        account_id = await conn.fetchval("SELECT id FROM account WHERE name = 'demo'")
        first, *_ = await enqueue(conn, account_id, *["447700900123"] * 3, route="modems")
        await put_off(conn, await claim(conn))
        numbers = [f"4477009001{n:02}" for n in range(10)]
        await enqueue(conn, account_id, *numbers, route="modems", due_in_s=500)
        await conn.execute("INSERT INTO upstream (name) VALUES ('modem-1'), ('rack')")
        counts = {"links": 1, "window_used": 1, "window_max": 1, "backlog": 0, "paused": False}
        modem = {
            "name": "modem-1", "kind": "modem", "state": "up", "pool": "rack", "signal_dbm": -71,
            "operator": "Example Mobile", "manufacturer": "SIMCOM INCORPORATED",
            "model": "SIMCOM_SIM800C", "device": "usb:1a86:7523:0123456789", "why": "",
            "used": {"hour": 12, "day": 480, "month": 9200},
            "limits": {"hour": 100, "day": 500, "month": None},
            "balance": "Your balance is 12.34 EUR, valid until 2027-12-31. Dial *100# for more.",
        }  # fmt: skip
        rack = {"name": "rack", "kind": "pool", "state": "up", **counts}
        await nodes.write_status(conn, 9, {"sessions": [], "upstreams": [modem | counts, rack]})
    return first


async def test_the_console_works_without_scripts(database_url: str) -> None:
    async with (
        running_proxy(database_url, http={"enabled": True}, route=ROUTES) as run,
        chromium() as browser,
    ):
        context = await browser.new_context(java_script_enabled=False)
        page = await context.new_page()
        await set_up(run, page)
        await page.goto(f"http://127.0.0.1:{run.proxy.http_port}/accounts/demo")
        await page.fill("[name=amount]", "5")
        await page.click("form.add button")
        await expect(page.locator("main")).to_contain_text("5 credits added")
        await fill_queue(run)
        await page.goto(f"http://127.0.0.1:{run.proxy.http_port}/queue")
        await page.click("#cancel-r1")
        await page.click("button.danger")
        await expect(page.locator("main")).to_contain_text("13 messages cancelled.")
        await page.goto(f"http://127.0.0.1:{run.proxy.http_port}/routes")
        await page.get_by_label("Account").fill("demo")
        await page.get_by_label("To", exact=True).fill("447700900123")
        await page.get_by_role("button", name="Try").click()
        await expect(page.get_by_role("heading", name="Route modems")).to_be_visible()
        await page.click("text=Sign out")
        await expect(page.locator("main")).to_contain_text("You are signed out.")


async def test_a_refresh_leaves_focus_and_selection_alone(database_url: str) -> None:
    async with running_proxy(database_url, http={"enabled": True}) as run, chromium() as browser:
        page = await browser.new_page()
        await set_up(run, page)
        await page.goto(f"http://127.0.0.1:{run.proxy.http_port}/accounts/demo")
        link = page.locator("[data-live] a", has_text="Sessions")
        await link.focus()
        await run.add_credit("demo", 11)
        await balance(page, "111")
        await expect(page.locator(":focus")).to_have_text("Sessions")
        # What somebody has marked, to copy it, is not taken away.
        await page.locator("table.log tbody tr").first.select_text()
        await run.add_credit("demo", 11)
        await page.wait_for_timeout(2500)
        await balance(page, "111")
        await page.evaluate("document.getSelection().removeAllRanges()")
        await balance(page, "122")
