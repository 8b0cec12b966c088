"""Which route a message takes: the first, in the order of the file, that it meets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.config import RouteSettings
from proxy.routing.table import Route, RouteTable, build_routes

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
UPSTREAMS = {"a": "A", "b": "B", "m": "M"}


def table_of(*routes: dict[str, Any]) -> RouteTable[str]:
    settings = [RouteSettings(**{"upstreams": ["a"], **values}) for values in routes]
    return build_routes(settings, UPSTREAMS, lambda name: name == "m")


def found(
    table: RouteTable[str],
    destination_addr: str,
    account: str = "acme",
    source_addr: str = "SHOP",
    data_coding: int = 0,
    now_s: float = NOON,
) -> str | None:
    route = table.find(account, source_addr, destination_addr, data_coding, now_s)
    tried = table.explain(account, source_addr, destination_addr, data_coding, now_s)
    # What explains a route agrees with what chooses it, whatever is tested.
    assert [one.route for one in tried if one.matched] == ([route] if route else [])
    assert [one.matched for one in tried[:-1]] == [False] * len(tried[:-1])
    return None if route is None else route.name


def test_without_a_route_nothing_has_one() -> None:
    table: RouteTable[str] = RouteTable(())
    assert found(table, "4477") is None
    assert (table.routes, table.by_name) == ((), {})


def test_the_first_in_the_file_has_it_not_the_longest_prefix() -> None:
    table = table_of({"prefix": "4477"}, {"prefix": "44"}, {"prefix": "447700"}, {})
    assert found(table, "447700") == "4477"
    assert found(table, "4477") == "4477"
    assert found(table, "+447") == "44"
    assert found(table, "44") == "44"
    assert found(table, "4") == "any"
    assert found(table, "") == "any"
    general_first = table_of({"prefix": "44"}, {"prefix": "4477"})
    assert found(general_first, "447700") == "44"
    assert found(general_first, "33") is None


def test_every_condition_has_to_be_met() -> None:
    table = table_of(
        {
            "name": "narrow",
            "prefix": ["44", "33"],
            "account": ["acme", "other"],
            "sender": ["SHOP", "+4477*"],
            "data_coding": [0, 8],
            "hours": "08:00-18:00",
        }
    )
    assert found(table, "441") == "narrow"
    assert found(table, "331", source_addr="447700", data_coding=8) == "narrow"
    assert found(table, "331", account="other", source_addr="+447700") == "narrow"
    assert found(table, "491") is None
    assert found(table, "441", account="nobody") is None
    assert found(table, "441", source_addr="SHOPS") is None
    assert found(table, "441", source_addr="") is None
    assert found(table, "441", data_coding=4) is None
    assert found(table, "441", now_s=MIDNIGHT) is None


def test_one_condition_each_in_order() -> None:
    table = table_of(
        {"name": "night", "hours": "22:00-06:00"},
        {"name": "unicode", "data_coding": 8},
        {"name": "alerts", "sender": "ALERT*"},
        {"name": "acme", "account": "acme"},
        {"name": "rest"},
    )
    assert found(table, "1", now_s=MIDNIGHT, data_coding=8) == "night"
    assert found(table, "1", data_coding=8, source_addr="ALERT") == "unicode"
    assert found(table, "1", source_addr="ALERTS") == "alerts"
    assert found(table, "1", source_addr="ALER") == "acme"
    assert found(table, "1", account="x") == "rest"


def test_of_several_destinations_the_first_decides_and_each_needs_a_route() -> None:
    table = table_of({"prefix": "44"}, {"prefix": "33", "upstreams": ["b"]})
    assert found(table, "441,332") == "44"
    assert found(table, "331,+442,443") == "33"
    assert found(table, "441,49") is None
    assert found(table, "49,441") is None
    assert found(table, "441,") is None
    assert found(table_of({}), "44,33") == "any"


def test_explain_says_in_words_why() -> None:
    table = table_of(
        {"name": "a", "prefix": ["44", "33"]},
        {"name": "b", "account": "other"},
        {"name": "c", "sender": ["X", "Y*", "Z"]},
        {"name": "d", "data_coding": [8, 4]},
        {"name": "e", "hours": "22:00-06:00", "timezone": "Asia/Kathmandu"},
        {"name": "f", "prefix": [str(i) for i in range(10, 30)]},
        {"name": "g", "prefix": "49", "account": "acme", "sender": "SHOP", "data_coding": [0, 3]},
        {"name": "h"},
    )
    tried = table.explain("acme", "SHOP", "4912", 0, NOON)
    assert [(one.route.name, one.matched, one.why) for one in tried] == [
        ("a", False, '"4912" does not begin with 44 or 33'),
        ("b", False, 'account "acme" is not other'),
        ("c", False, 'sender "SHOP" is not X, Y* or Z'),
        ("d", False, "data_coding 0 is not 4 or 8"),
        ("e", False, "it is not within 22:00-06:00 Asia/Kathmandu"),
        ("f", False, '"4912" does not begin with 10, 11, 12, 13, 14 or 15 others'),
        ("g", True, "destination 49*, account acme, sender SHOP, data_coding 0 or 3"),
    ]
    assert table.explain("x", "S", "50", 0, NOON)[-1].why == "every message"
    others = table_of({"prefix": "44"}).explain("x", "S", "44,33", 0, NOON)
    assert [one[1:] for one in others] == [
        (False, '"33", another of the destinations, has no route')
    ]


def test_what_a_route_is_built_with() -> None:
    table = table_of(
        {"prefix": "1", "upstreams": ["a", "b"], "policy": "weighted", "weights": [2, 1]},
        {"prefix": "2", "upstreams": ["a", "m"]},
        {"prefix": "3", "upstreams": ["m"], "mode": "direct", "when_down": "queue"},
        {"prefix": "4", "mode": "queued"},
        {"name": "last", "prefix": "5"},
    )
    assert [route.name for route in table.routes] == ["1", "2", "3", "4", "last"]
    assert table.by_name["last"] is table.routes[-1]
    one, two, three, four, five = table.routes
    assert (one.upstreams, one.policy, one.weights) == (("A", "B"), "weighted", (2, 1))
    assert [one.ways(lambda _: None)[0] for _ in range(3)] == ["A", "B", "A"]
    modes = [(route.mode, route.queue_when_down) for route in (one, two, three, four, five)]
    assert modes == [
        ("direct", False),
        ("queued", False),
        ("direct", True),
        ("queued", False),
        ("direct", False),
    ]
    with pytest.raises(KeyError):
        table_of({"upstreams": ["unknown"]})


def test_each_table_has_turns_of_its_own() -> None:
    values = {"upstreams": ["a", "b"], "policy": "round_robin"}
    first, second = table_of(values), table_of(values)
    assert first.routes[0].ways(lambda _: None)[0] == "A"
    assert second.routes[0].ways(lambda _: None)[0] == "A"


def test_a_route_that_takes_all_is_found_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of({})

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(RouteTable, "_find_one", never)
    assert table.find("acme", "SHOP", "44,33", 0, NOON) is table.routes[0]


def test_thousands_of_routes_are_not_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = range(10_000, 11_000)
    table = table_of(
        *({"prefix": str(n), "data_coding": 0} for n in numbers),
        *({"account": f"x{n}", "data_coding": 0} for n in numbers),
        *({"sender": f"S{n}*"} for n in numbers),
        {"name": "last"},
    )
    looked_at: list[object] = []
    conditions = type(table.routes[0].conditions)
    met_otherwise = conditions.met_otherwise

    def counted(self: Any, *args: Any) -> bool:
        looked_at.append(self)
        return met_otherwise(self, *args)

    monkeypatch.setattr(conditions, "met_otherwise", counted)
    for args, name in [
        (("x", "S", "10999"), "data_coding=0 10999"),
        (("x10999", "S", "9"), "account=x10999 data_coding=0"),
        (("x", "S10999", "9"), "sender=S10999*"),
        (("x", "S", "9"), "last"),
    ]:
        route = table.find(*args, 0, NOON)
        assert route is not None
        assert route.name == name
    assert len(looked_at) <= 4


# --------------------------------------------------------------------------------- the model


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=1, max_size=2, unique=True)


ROUTE = st.fixed_dictionaries(
    {},
    optional={
        "prefix": some(st.text("01", max_size=3)),
        "account": some(st.sampled_from(["x", "y"])),
        "sender": some(st.sampled_from(["A", "A*", "AB", "+1*", "*", "10"])),
        "data_coding": some(st.sampled_from([0, 8])),
        "hours": st.sampled_from(["08:00-18:00", "22:00-06:00"]),
    },
)
ADDRESS = st.builds("{}{}".format, st.sampled_from(["", "+"]), st.text("01", max_size=4))
DESTINATIONS = st.lists(ADDRESS, min_size=1, max_size=3).map(",".join)
SENDER = st.sampled_from(["", "A", "AB", "ABC", "B", "10", "+10", "1"])


def takes(
    route: dict[str, Any], account: str, sender: str, to: str, coding: int, now_s: float
) -> bool:
    to, sender = to.removeprefix("+"), sender.removeprefix("+")
    hour = datetime.fromtimestamp(now_s, UTC).hour
    senders = [pattern.removeprefix("+") for pattern in route.get("sender", ["*"])]
    return (
        any(to.startswith(prefix) for prefix in route.get("prefix", [""]))
        and account in route.get("account", [account])
        and any(sender.startswith(p[:-1]) if p.endswith("*") else sender == p for p in senders)
        and coding in route.get("data_coding", [coding])
        and {"08:00-18:00": 8 <= hour < 18, "22:00-06:00": hour >= 22 or hour < 6, "": True}[
            route.get("hours", "")
        ]
    )


@given(
    st.lists(ROUTE, max_size=8),
    st.sampled_from(["x", "y", "z"]),
    SENDER,
    DESTINATIONS,
    st.sampled_from([0, 8]),
    st.sampled_from([NOON, MIDNIGHT, NOON + 6 * 3600]),
)
@example([{"prefix": ["0", ""]}, {}], "x", "A", "1", 0, NOON)
def test_routes_are_found_as_by_trying_all_in_order(
    routes: list[dict[str, Any]],
    account: str,
    sender: str,
    destinations: str,
    coding: int,
    now_s: float,
) -> None:
    table = table_of(*routes)

    def position(to: str) -> int | None:
        matching = (
            i for i, route in enumerate(routes) if takes(route, account, sender, to, coding, now_s)
        )
        return next(matching, None)

    each = [position(to) for to in destinations.split(",")]
    expected = None if None in each or each[0] is None else table.routes[each[0]].name
    assert found(table, destinations, account, sender, coding, now_s) == expected


def test_a_route_reads_as_its_name() -> None:
    assert repr(Route("any", ["a"])) == "Route('any')"
