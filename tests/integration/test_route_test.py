"""`route test`: the way of a message as it is explained, from configuration, reports and prices."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr
from support.queued import account, enqueue

from proxy.config import ModemSettings, PoolSettings, RouteSettings, Settings, SmppUpstreamSettings
from proxy.flow import route_test
from proxy.store import nodes
from proxy.store.outcomes import Refused
from proxy.store.sql import Row

TO = "447700900123"


def settings(*routes: RouteSettings) -> Settings:
    carriers = [
        SmppUpstreamSettings(name=name, host="c.test", system_id="p", password=SecretStr("p"))
        for name in ("a", "b", "c")
    ]
    modem = ModemSettings(kind="modem", name="m", device="/dev/ttyUSB0")
    pool = PoolSettings(kind="pool", name="rack", modems=["m"])
    return Settings(upstream=[*carriers, modem, pool], route=list(routes))


def report(name: str, state: str = "up", **values: Any) -> Row:
    links = int(state in {"up", "resting"})
    return {
        "name": name, "kind": "smpp", "state": state, "links": links, "window_used": 1,
        "window_max": 10 * links, "backlog": 2, "paused": False, **values,
    }  # fmt: skip


async def explained(conn: Any, of: Settings, **asked: Any) -> Row:
    found = await route_test.explain(conn, of, "shop", asked.pop("to", TO), **asked)
    assert not isinstance(found, Refused)
    return found


async def test_every_route_that_is_looked_at_says_why(conn: Any) -> None:
    await account(conn)
    of = settings(
        RouteSettings(prefix="33", upstreams=["a"]),
        RouteSettings(name="night", hours="22:00-06:00", upstreams=["b"]),
        RouteSettings(name="uk", prefix="44", sender="Shop*", upstreams=["c"]),
        RouteSettings(name="never", upstreams=["a"]),
    )
    noon = datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp()
    found = await explained(conn, of, source_addr="Shop1", at_s=noon)
    assert [(one["route"], one["matched"]) for one in found["tried"]] == [
        ("33", False), ("night", False), ("uk", True),
    ]  # fmt: skip
    assert "22:00-06:00" in found["tried"][1]["why"]
    assert (found["route"], found["mode"], found["queued"]) == ("uk", "direct", False)
    assert (found["price"], found["tariff"], found["refusal"]) == (1, "standard", None)
    night = await explained(conn, of, at_s=noon + 11 * 3600)
    assert night["route"] == "night"
    nothing = await explained(conn, settings(of.route[0]))
    assert (nothing["route"], nothing["upstreams"], nothing["mode"]) == (None, [], None)
    assert isinstance(await route_test.explain(conn, of, "nobody", TO), Refused)


async def test_healthy_upstreams_come_first_as_the_proxies_report(conn: Any) -> None:
    await account(conn)
    await conn.execute("INSERT INTO upstream (name) VALUES ('a'), ('b'), ('c')")
    of = settings(RouteSettings(upstreams=["a", "b", "c"]))
    alone = await explained(conn, of)
    assert alone["proxies"] == 0
    assert [(w["upstream"], w["state"]) for w in alone["upstreams"]] == [
        (name, "unknown") for name in "abc"
    ]
    first = [report("a", "down"), report("b", "resting", why="10 of 20 failed"), report("c")]
    await nodes.write_status(conn, 1, {"sessions": [], "upstreams": first})
    found = await explained(conn, of)
    assert [(w["upstream"], w["state"]) for w in found["upstreams"]] == [
        ("c", "up"), ("b", "resting"), ("a", "down"),
    ]  # fmt: skip
    assert found["upstreams"][1]["why"] == "10 of 20 failed"
    # Another proxy has `a`, and reports are summed; who is paused is not tried.
    await nodes.write_status(conn, 2, {"sessions": [], "upstreams": [report("a"), report("c")]})
    await conn.execute("UPDATE upstream SET paused = true WHERE name = 'c'")
    found = await explained(conn, of)
    assert [(w["upstream"], w["state"]) for w in found["upstreams"]] == [
        ("a", "partly up"), ("b", "resting"), ("c", "paused"),
    ]  # fmt: skip
    c = found["upstreams"][2]
    assert (c["links"], c["window_used"], c["window_max"], c["backlog"]) == (2, 2, 20, 4)


async def test_least_cost_is_in_the_order_of_the_costs(conn: Any) -> None:
    await account(conn)
    for name, micro in (("a", 30_000), ("b", 20_000)):
        await conn.execute(
            "WITH t AS (INSERT INTO tariff (name) VALUES ('cost-' || $1) RETURNING id),"
            " p AS (INSERT INTO price (tariff_id, prefix, service, price_micro)"
            " SELECT id, '44', '', $2 FROM t)"
            " INSERT INTO upstream (name, cost_tariff_id) SELECT $1, id FROM t",
            name,
            micro,
        )
    await conn.execute("INSERT INTO upstream (name) VALUES ('c')")
    of = settings(RouteSettings(upstreams=["c", "a", "b"], policy="least_cost"))
    found = await explained(conn, of)
    costs = [(way["upstream"], way["cost"]) for way in found["upstreams"]]
    assert [name for name, _ in costs] == ["b", "a", "c"]
    assert [None if cost is None else float(cost) for _, cost in costs] == [0.02, 0.03, None]
    elsewhere = await explained(conn, of, to="33600000000")
    assert [way["upstream"] for way in elsewhere["upstreams"]] == ["c", "a", "b"]
    assert "cheapest" in found["order"]


async def test_weights_are_shown_with_their_upstreams(conn: Any) -> None:
    await account(conn)
    of = settings(RouteSettings(upstreams=["a", "b", "c"], policy="weighted", weights=[1, 5, 2]))
    found = await explained(conn, of)
    assert [(w["upstream"], w["weight"]) for w in found["upstreams"]] == [
        ("b", 5), ("c", 2), ("a", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("data_coding", [4, 0])
async def test_binary_messages_have_their_own_price(conn: Any, data_coding: int) -> None:
    await account(conn)
    await conn.execute(
        "INSERT INTO price (tariff_id, prefix, service, price_micro)"
        " SELECT tariff_id, '44', 'binary', 2500000 FROM account"
    )
    of = settings(RouteSettings(upstreams=["a"]))
    found = await explained(conn, of, data_coding=data_coding)
    assert float(found["price"]) == (2.5 if data_coding == 4 else 1)


async def test_when_the_queue_takes_it_and_why(conn: Any) -> None:
    shop = await account(conn)
    await conn.execute("INSERT INTO upstream (name) VALUES ('a')")
    slow = await explained(conn, settings(RouteSettings(upstreams=["rack"])))
    assert (slow["mode"], slow["queued"], slow["why_queued"]) == ("queued", True, "its mode")
    assert slow["upstreams"][0]["kind"] == "pool"
    of = settings(RouteSettings(name="r", upstreams=["a"], when_down="queue"))
    assert (await explained(conn, of))["queued"] is False, "no proxy reports: nobody knows"
    await nodes.write_status(conn, 1, {"sessions": [], "upstreams": [report("a", "down")]})
    assert (await explained(conn, of))["why_queued"] == "its upstreams are down"
    await nodes.write_status(conn, 1, {"sessions": [], "upstreams": [report("a")]})
    assert (await explained(conn, of))["queued"] is False
    await enqueue(conn, shop, TO, route="r")
    assert "others wait" in (await explained(conn, of))["why_queued"]
