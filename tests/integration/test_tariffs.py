"""Tariffs, the price of a message, and what upstreams cost, in the database."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.credit import tariff_csv
from proxy.credit.price_rows import Change, PriceRow
from proxy.store import accounts, history, tariffs, upstreams
from proxy.store.database import Database
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.outcomes import NotFound, Refused, no_account
from proxy.store.pricing import PriceExplained, explain_price
from proxy.store.tariffs import Emptied, Imported, Removed

MINT = IdMint(COMMAND_NODE)
NOW = datetime.now(UTC).replace(microsecond=123_456)
DAY = timedelta(days=1)


async def put(conn: Any, name: str, *rows: PriceRow) -> Imported:
    outcome = await tariffs.import_prices(conn, name, rows, by="anna")
    assert isinstance(outcome, Imported)
    return outcome


async def tariff_id_of(conn: Any, name: str) -> int:
    tariff_id = await conn.fetchval("SELECT id FROM tariff WHERE name = $1", name)
    assert isinstance(tariff_id, int)
    return tariff_id


async def everything(conn: Any) -> list[Any]:
    return [await conn.fetch(f"SELECT * FROM {t} ORDER BY 1") for t in ("tariff", "price", "event")]


async def add_account(conn: Any, name: str, tariff: str | None = None) -> int:
    created = await accounts.create(conn, name, password="p", by="anna", mint=MINT)
    assert isinstance(created, accounts.Created)
    if tariff is not None:
        await conn.execute(
            "UPDATE account SET tariff_id = $2 WHERE id = $1",
            created.account_id,
            await tariff_id_of(conn, tariff),
        )
    return created.account_id


async def add_upstream(conn: Any, name: str) -> None:
    await conn.execute("INSERT INTO upstream (name) VALUES ($1)", name)


async def add_message(conn: Any, account_id: int, price_id: int) -> None:
    """A row as charge_batch writes it; only what refers to the price matters here."""
    await conn.execute(
        "INSERT INTO message (id, account_id, login_id, command_id, source_addr,"
        " destination_addr, segments, price_micro, esm_class, data_coding, registered_delivery,"
        " price_id) VALUES ($1, $2, 0, 4, '', '44', 1, 1, 0, 0, 0, $3)",
        MINT.mint(1)[0],
        account_id,
        price_id,
    )


# ---------------------------------------------------------------------- import and export


async def test_what_is_imported_is_exported_and_looked_up(conn: Any) -> None:
    rows = [
        PriceRow("", "", 1_000_000),
        PriceRow("44", "sms", 35_000, None, NOW + DAY),
        PriceRow("44", "sms", 40_000, NOW + DAY),
        PriceRow("88", "", None),
        PriceRow("33", "", 10_000, NOW - 3 * DAY, NOW - 2 * DAY),
    ]
    outcome = await put(conn, "gold", *rows)
    assert (outcome.created, outcome.dry_run) == (True, False)
    assert outcome.differences == (sorted(rows, key=lambda r: r[:2]), [], [], 0)
    exported = await tariffs.export_prices(conn, "gold")
    assert isinstance(exported, list)
    assert sorted(exported) == sorted(rows), "also what has ended, so that nothing is lost"

    again = await put(conn, "gold", *tariff_csv.read(tariff_csv.write(exported).encode()))
    assert again.differences == ([], [], [], 5)
    [event] = await history.events(conn, kind="tariff_changed")
    assert event["text"] == "Tariff gold imported: 5 added, 0 changed, 0 ended by anna"

    tariff = await tariffs.load_tariff(conn, await tariff_id_of(conn, "gold"))
    assert (tariff.name, len(tariff.prices)) == ("gold", 4), "what has ended is not looked up"
    end_s = (NOW + DAY).timestamp()
    for now_s, expected in ((end_s - 0.001, 35_000), (end_s, 40_000)):
        found = tariff.at(now_s).find("+447700900123", "sms")
        assert found is not None and found.price_micro == expected
        stored = await conn.fetchval("SELECT price_micro FROM price WHERE id = $1", found.id)
        assert stored == expected, "a message names the row it was charged by"


async def test_the_file_replaces_the_whole_tariff_and_no_row_changes(conn: Any) -> None:
    kept, changed, gone = (PriceRow(p, "", 10) for p in ("1", "2", "3"))
    await put(conn, "gold", kept, changed, gone)
    await put(conn, "other", gone)
    before = await conn.fetch("SELECT * FROM price ORDER BY id")
    tariff_id = await tariff_id_of(conn, "gold")
    [version] = (await tariffs.versions(conn, [tariff_id])).values()

    new = PriceRow("2", "", None)
    outcome = await put(conn, "gold", new, kept, PriceRow("4", "", 10))
    assert not outcome.created
    assert outcome.differences == ([PriceRow("4", "", 10)], [Change(changed, new)], [gone], 1)
    assert await tariffs.versions(conn, [tariff_id]) == {tariff_id: version + 1}

    after = {row["id"]: dict(row) for row in await conn.fetch("SELECT * FROM price")}
    retired = set()
    for row in before:
        now = after[row["id"]]
        if now.pop("retired_at") is not None:
            retired.add((row["tariff_id"], row["prefix"]))
        assert now == {key: row[key] for key in now}, "a price never changes, it is retired"
    assert retired == {(tariff_id, "2"), (tariff_id, "3")}
    assert len((await tariffs.load_tariff(conn, tariff_id)).prices) == 3
    exported = await tariffs.export_prices(conn, "other")
    assert exported == [gone], "another tariff is left alone"


async def test_a_dry_run_tells_the_same_and_changes_nothing(conn: Any) -> None:
    old = [PriceRow("1", "", 10), PriceRow("2", "", 10)]
    new = [PriceRow("2", "", 20), PriceRow("3", "", 10)]
    await put(conn, "gold", *old)
    before = await everything(conn)
    for name, created in (("gold", False), ("silver", True)):
        dry = await tariffs.import_prices(conn, name, new, by="anna", dry_run=True)
        assert isinstance(dry, Imported)
        assert (dry.dry_run, dry.created) == (True, created)
        assert await everything(conn) == before
        assert (await put(conn, name, *new)).differences == dry.differences
        before = await everything(conn)


async def test_nothing_new_is_no_change(conn: Any) -> None:
    await put(conn, "gold", PriceRow("1", "", 10))
    before = await everything(conn)
    await put(conn, "gold", PriceRow("1", "", 10))
    assert await everything(conn) == before


async def test_a_failure_in_the_middle_leaves_the_old_prices(
    conn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(conn, "gold", PriceRow("1", "", 10))
    before = await everything(conn)

    async def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(tariffs, "_count_up", fail)
    for name in ("gold", "silver"):
        with pytest.raises(RuntimeError):
            await tariffs.import_prices(conn, name, [PriceRow("2", "", 10)], by="anna")
    assert await everything(conn) == before


@pytest.mark.parametrize("name", ["", "a b", "gold\n", "x" * 65, "göld"])
@pytest.mark.parametrize("dry_run", [False, True])
async def test_bad_names_are_refused(conn: Any, name: str, dry_run: bool) -> None:
    outcome = await tariffs.import_prices(
        conn, name, [PriceRow("", "", 1)], by="anna", dry_run=dry_run
    )
    assert isinstance(outcome, Refused) and "1 to 64" in outcome.reason
    assert await tariffs.export_prices(conn, name) == NotFound(f"there is no tariff {name!r}")


async def test_imports_at_once_take_turns(database: Database) -> None:
    """Every one sees the whole work of those before it: the last file is the tariff."""

    async def attempt(n: int) -> Imported:
        async with database.pool.acquire() as conn:
            return await put(conn, "gold", *(PriceRow(str(i), "", n) for i in range(1, 51)))

    outcomes = await asyncio.gather(*(attempt(n) for n in range(1, 9)))
    assert sum(outcome.created for outcome in outcomes) == 1
    sizes = [tuple(map(len, outcome.differences[:3])) for outcome in outcomes]
    assert sorted(sizes) == [(0, 50, 0)] * 7 + [(50, 0, 0)]
    async with database.pool.acquire() as conn:
        exported = await tariffs.export_prices(conn, "gold")
        assert isinstance(exported, list)
        assert len(exported) == 50 and len({row.price_micro for row in exported}) == 1
        assert await conn.fetchval("SELECT version FROM tariff WHERE name = 'gold'") == 9
        assert await conn.fetchval("SELECT count(*) FROM price WHERE prefix = '1'") == 8


async def test_an_import_waits_for_one_that_is_under_way(database: Database) -> None:
    async with database.pool.acquire() as first, database.pool.acquire() as second:
        await put(first, "gold", PriceRow("1", "", 10))
        transaction = first.transaction()
        await transaction.start()
        await put(first, "gold", PriceRow("1", "", 20))
        other = asyncio.create_task(put(second, "gold", PriceRow("1", "", 30)))
        pid = second.get_server_pid()
        async with database.pool.acquire() as watcher:
            while not await watcher.fetchval("SELECT cardinality(pg_blocking_pids($1))", pid):
                assert not other.done()
        await transaction.commit()
        [change] = (await other).differences.changed
        assert (change.old.price_micro, change.new.price_micro) == (20, 30)


async def test_a_large_tariff(conn: Any) -> None:
    """Set-based: the same few statements as for a small one."""
    many = 200_000
    rows = [PriceRow(f"{i:07}", "", i % 1000 + 1) for i in range(many)]
    await put(conn, "first", *rows[:10])  # also asks about types, once a connection
    small = await statements_of(conn, "small", rows[:10])
    assert await statements_of(conn, "large", rows) == small
    tariff = await tariffs.load_tariff(conn, await tariff_id_of(conn, "large"))
    for i in (0, 99_999, many - 1):
        found = tariff.at(time.time()).find(f"{i:07}55", "sms")
        assert found is not None and found.price_micro == i % 1000 + 1

    # Every second row has another price, every fourth is gone.
    new = [row._replace(price_micro=5000) if i % 2 else row for i, row in enumerate(rows) if i % 4]
    outcome = await put(conn, "large", *new)
    assert [len(part) for part in outcome.differences[:3]] == [0, many // 2, many // 4]
    exported = await tariffs.export_prices(conn, "large")
    assert isinstance(exported, list) and sorted(exported) == sorted(new)


async def statements_of(conn: Any, name: str, rows: list[PriceRow]) -> int:
    """How many statements an import takes."""
    count = 0

    def counted(_: object) -> None:
        nonlocal count
        count += 1

    conn.add_query_logger(counted)
    try:
        await put(conn, name, *rows)
    finally:
        conn.remove_query_logger(counted)
    return count


async def test_every_change_is_told_to_the_proxies(conn: Any, database: Database) -> None:
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    listener = await database.connect()
    try:
        for channel in ("smpp_proxy_tariff", "smpp_proxy_upstream"):
            await listener.add_listener(
                channel, lambda _conn, _pid, channel, payload: heard.put_nowait((channel, payload))
            )
        await put(conn, "gold", PriceRow("1", "", 10))
        told = ("smpp_proxy_tariff", str(await tariff_id_of(conn, "gold")))
        assert await asyncio.wait_for(heard.get(), 5) == told
        await put(conn, "gold", PriceRow("1", "", 10))  # no change, so the next is not from it
        await tariffs.import_prices(conn, "gold", [PriceRow("1", "", 5)], by="a", dry_run=True)

        await add_upstream(conn, "c")
        upstream = ("smpp_proxy_upstream", "1")
        for change in (
            upstreams.set_upstream_cost(conn, "c", "gold", by="anna"),
            upstreams.set_upstream_paused(conn, "c", True, by="anna"),
            upstreams.set_upstream_cost(conn, "c", None, by="anna"),
        ):
            await change
            assert await asyncio.wait_for(heard.get(), 5) == upstream
        await tariffs.remove_tariff(conn, "gold", by="anna")
        assert await asyncio.wait_for(heard.get(), 5) == told
        assert heard.empty()
    finally:
        await listener.close()


# ------------------------------------------------------------------------- list and remove


async def test_the_list_says_who_uses_a_tariff(conn: Any) -> None:
    await put(conn, "gold", PriceRow("1", "", 10), PriceRow("2", "", 10))
    await put(conn, "gold", PriceRow("1", "", 10))
    await add_account(conn, "bob", "gold")
    await add_account(conn, "eve", "gold")
    await add_account(conn, "joe")
    for name in ("b", "a"):
        await add_upstream(conn, name)
        await upstreams.set_upstream_cost(conn, name, "gold", by="anna")
    gold, standard = await tariffs.list_tariffs(conn)
    assert (gold["name"], gold["prices"], gold["accounts"]) == ("gold", 1, 2)
    assert (gold["upstreams"], gold["version"]) == (["a", "b"], 3)
    assert (standard["name"], standard["prices"], standard["accounts"]) == ("standard", 1, 1)
    assert (standard["upstreams"], standard["version"]) == ([], 1)


async def test_a_tariff_in_use_is_not_removed(conn: Any) -> None:
    async def refused(*, name: str = "gold") -> str:
        before = await everything(conn)
        outcome = await tariffs.remove_tariff(conn, name, by="anna")
        assert isinstance(outcome, Refused)
        assert await everything(conn) == before
        return outcome.reason

    await put(conn, "gold", PriceRow("1", "", 10))
    assert await refused(name="nothing") == "there is no tariff 'nothing'"
    assert "new accounts begin with the tariff 'standard'" in await refused(name="standard")
    await add_upstream(conn, "c")
    await upstreams.set_upstream_cost(conn, "c", "gold", by="anna")
    assert await refused() == "the tariff 'gold' is what these upstreams cost: c"
    for name in ("a1", "a2", "a3", "a4", "a5"):
        await add_account(conn, name, "gold")
    assert await refused() == "accounts pay by the tariff 'gold': a1, a2, a3 and 2 more"


async def test_a_new_account_still_has_its_tariff_when_nobody_else_has(conn: Any) -> None:
    default = await conn.fetchval(
        "SELECT column_default FROM information_schema.columns"
        " WHERE table_name = 'account' AND column_name = 'tariff_id'"
    )
    assert int(default) == tariffs.FIRST_TARIFF


async def test_a_tariff_nobody_used_is_removed_with_its_prices(conn: Any) -> None:
    await put(conn, "gold", PriceRow("1", "", 10), PriceRow("2", "", 10))
    await put(conn, "gold", PriceRow("1", "", 10))
    tariff_id = await tariff_id_of(conn, "gold")
    assert await tariffs.remove_tariff(conn, "gold", by="anna") == Removed("gold", 1)
    assert not await conn.fetch("SELECT FROM price WHERE tariff_id = $1", tariff_id)
    assert await tariffs.versions(conn, [tariff_id]) == {}
    with pytest.raises(LookupError):
        await tariffs.load_tariff(conn, tariff_id)
    [event] = await history.events(conn, kind="tariff_removed")
    assert event["text"] == "Tariff gold removed by anna"


@pytest.mark.parametrize("retired", [False, True])
async def test_prices_that_messages_name_stay(conn: Any, retired: bool) -> None:
    await put(conn, "gold", PriceRow("44", "", 10), PriceRow("1", "", 10))
    tariff_id = await tariff_id_of(conn, "gold")
    price_id = await conn.fetchval("SELECT id FROM price WHERE prefix = '44'")
    await add_message(conn, await add_account(conn, "bob"), price_id)
    if retired:
        await put(conn, "gold", PriceRow("1", "", 10))
    [version] = (await tariffs.versions(conn, [tariff_id])).values()
    outcome = await tariffs.remove_tariff(conn, "gold", by="anna")
    assert outcome == Emptied("gold", 1 if retired else 2)
    assert await conn.fetchval("SELECT tariff FROM v_message") == "gold"
    assert await tariffs.versions(conn, [tariff_id]) == {tariff_id: version + 1}
    assert (await tariffs.load_tariff(conn, tariff_id)).prices == ()
    assert await tariffs.remove_tariff(conn, "gold", by="anna") == Emptied("gold", 0)
    assert await tariffs.versions(conn, [tariff_id]) == {tariff_id: version + 1}


# -------------------------------------------------------------------------- price, upstreams


async def explain(conn: Any, destination: str, **values: Any) -> PriceExplained:
    arguments = {"segments": 1, "service": "sms", "now_s": time.time()} | values
    found = await explain_price(conn, "bob", destination, **arguments)
    assert isinstance(found, PriceExplained)
    return found


async def test_a_price_is_explained(conn: Any) -> None:
    await put(
        conn,
        "gold",
        PriceRow("", "", 50_000),
        PriceRow("44", "sms", 40_000, None, NOW + DAY),
        PriceRow("44", "sms", 60_000, NOW + DAY),
        PriceRow("44", "wap", 70_000),
        PriceRow("88", "", None),
    )
    await put(conn, "cost", PriceRow("44", "", 45_000), PriceRow("88", "", 1))
    await put(conn, "cheap", PriceRow("4477", "", 10_000), PriceRow("", "", None))
    await add_account(conn, "bob", "gold")
    for name, tariff in (("z", None), ("b", "cheap"), ("a", "cost")):
        await add_upstream(conn, name)
        await upstreams.set_upstream_cost(conn, name, tariff, by="anna")
    await upstreams.set_upstream_paused(conn, "b", True, by="anna")

    found = await explain(conn, "+447700900123", segments=3)
    assert found.price is not None
    assert (found.account, found.tariff, found.service, found.segments) == ("bob", "gold", "sms", 3)
    assert (found.price.prefix, found.price.service, found.price.price_micro) == (
        *("44", "sms", 40_000),
    )
    assert (found.total_micro, found.refusal) == (120_000, None)
    a, b = found.costs
    assert (a.upstream, a.tariff, a.cost_micro, a.margin_micro) == ("a", "cost", 135_000, -15_000)
    assert (b.upstream, b.tariff, b.cost_micro, b.margin_micro) == ("b", "cheap", 30_000, 90_000)
    assert (a.paused, b.paused) == (False, True)

    later = await explain(conn, "44", now_s=(NOW + DAY).timestamp())
    assert later.total_micro == 60_000
    assert (await explain(conn, "44", service="WAP")).total_micro == 70_000
    binary = await explain(conn, "44", service="binary")
    assert (binary.service, binary.total_micro) == ("binary", 50_000)
    unknown = await explain(conn, "44", service="cmt")
    assert (unknown.service, unknown.total_micro) == ("sms", 40_000)


async def test_what_has_no_price_is_refused_whatever_the_carrier_takes(conn: Any) -> None:
    await put(conn, "gold", PriceRow("88", "", None))
    await put(conn, "cost", PriceRow("88", "", 10), PriceRow("7", "", None))
    await add_account(conn, "bob", "gold")
    await add_upstream(conn, "a")
    await upstreams.set_upstream_cost(conn, "a", "cost", by="anna")
    not_sold, no_price, unknown = [await explain(conn, d) for d in ("8816", "7", "5")]
    assert (not_sold.refusal, not_sold.total_micro) == ("not_sold", None)
    assert not_sold.price is not None and not_sold.price.prefix == "88"
    [cost] = not_sold.costs
    assert (cost.cost_micro, cost.margin_micro) == (10, None)
    assert (no_price.refusal, no_price.price, no_price.total_micro) == ("no_price", None, None)
    assert no_price.costs[0].price is not None, "the carrier does not sell it either"
    assert (unknown.costs[0].price, unknown.costs[0].cost_micro) == (None, None)
    nobody = await explain_price(conn, "nobody", "44", 1, "sms", time.time())
    assert nobody == no_account("nobody")


async def test_upstreams_are_paused_and_have_a_cost(conn: Any) -> None:
    await put(conn, "gold", PriceRow("1", "", 10))
    for name in ("c", "b"):
        await add_upstream(conn, name)
    assert await upstreams.list_upstreams(conn) == [
        {"name": name, "cost_tariff": None, "paused": False} for name in ("b", "c")
    ]
    for times in (1, 2):  # the second time there is nothing to do, and no event
        done = await upstreams.set_upstream_paused(conn, "c", True, by="anna")
        assert isinstance(done, upstreams.Changed) and done.changed == (times == 1)
        done = await upstreams.set_upstream_cost(conn, "c", "gold", by="anna")
        assert isinstance(done, upstreams.Changed) and done.changed == (times == 1)
    row = {"name": "c", "cost_tariff": "gold", "paused": True}
    assert await upstreams.upstream(conn, "c") == row
    assert (await upstreams.list_upstreams(conn))[1] == row
    await upstreams.set_upstream_paused(conn, "c", False, by="eve")
    await upstreams.set_upstream_cost(conn, "c", None, by="eve")
    row = {"name": "c", "cost_tariff": None, "paused": False}
    assert await upstreams.upstream(conn, "c") == row
    events = [
        (event["text"], event["count"])
        for event in await history.events(conn)
        if event["kind"].startswith("upstream")
    ]
    assert sorted(events) == [
        ("Cost of upstream c set to tariff gold by anna", 1),
        ("Cost of upstream c set to unknown by eve", 1),
        ("Upstream c paused by anna", 1),
        ("Upstream c resumed by eve", 1),
    ]


async def test_unknown_upstreams_and_tariffs_are_refused(conn: Any) -> None:
    assert await upstreams.upstream(conn, "c") is None
    for outcome in (
        await upstreams.set_upstream_paused(conn, "c", True, by="anna"),
        await upstreams.set_upstream_cost(conn, "c", None, by="anna"),
    ):
        assert isinstance(outcome, Refused) and "there is no upstream 'c'" in outcome.reason
    await add_upstream(conn, "c")
    missing = await upstreams.set_upstream_cost(conn, "c", "gold", by="anna")
    assert missing == Refused("there is no tariff 'gold'")


async def test_a_pool_loads_tariffs_too(database: Database) -> None:
    tariff = await tariffs.load_tariff(database.pool, tariffs.FIRST_TARIFF)
    found = tariff.at(time.time()).find("447700900123", "binary")
    assert (tariff.name, tariff.version) == ("standard", 1)
    assert found is not None and found.price_micro == 1_000_000
    assert await tariffs.versions(database.pool, [1, 2]) == {1: 1}
    assert await tariffs.versions(database.pool, []) == {}
