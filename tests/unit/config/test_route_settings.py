"""[[route]]: conditions, names, what is never reached, and the route of a file without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import config
from proxy.config import RouteSettings
from proxy.config.routes import minutes_of, names_of, shadowed

UPSTREAMS = """
[[upstream]]
name = "a"
host = "a.example"
system_id = "me"
password = "secret-word"
[[upstream]]
name = "b"
host = "b.example"
system_id = "me"
password = "secret-word"
[[upstream]]
kind = "modem"
name = "m"
device = "/dev/ttyUSB0"
[[upstream]]
kind = "modem"
name = "n"
device = "/dev/ttyUSB1"
[[upstream]]
kind = "pool"
name = "p"
modems = ["n"]
"""


def toml(*routes: str) -> str:
    """Each route is its lines but for the upstreams, which are ["a"] when they don't say."""
    tables = [
        "\n[[route]]\n"
        + ("" if "upstreams" in route else 'upstreams = ["a"]\n')
        + route.replace("; ", "\n")
        for route in routes
    ]
    return UPSTREAMS + "\n".join(tables)


def load(tmp_path: Path, text: str) -> config.Settings:
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    return config.load(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(config.ConfigError) as caught:
        load(tmp_path, text)
    return str(caught.value).splitlines()


def route(**values: Any) -> RouteSettings:
    return RouteSettings(**{"upstreams": ["a"], **values})


def test_a_condition_is_one_value_or_a_list(tmp_path: Path) -> None:
    one, several = load(
        tmp_path,
        toml(
            "prefix = '44'; account = 'acme'; sender = 'SHOP*'; data_coding = 8",
            "prefix = ['44', '33']; account = ['acme', 'x@y']; sender = ['SHOP', '+44*'];"
            " data_coding = [0, 8]",
        ),
    ).route
    assert (one.prefix, one.account, one.sender, one.data_coding) == (
        ("44",),
        ("acme",),
        ("SHOP*",),
        (8,),
    )
    assert several.prefix == ("44", "33")
    assert several.account == ("acme", "x@y")
    assert several.sender == ("SHOP", "+44*")
    assert several.data_coding == (0, 8)
    left_out = route()
    assert (left_out.prefix, left_out.account, left_out.data_coding) == (("",), (), ())


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("upstreams = []", "route[0].upstreams: List should have at least 1"),
        ("upstreams = ['a', 'x']", 'route[0].upstreams[1]: there is no upstream "x"'),
        ("upstreams = ['a', 'a']", 'route[0].upstreams[1]: "a" is there already'),
        ("prefix = '+44'", 'route[0].prefix: "+44" should be at most 20 digits or letters'),
        ("prefix = ['44', 4]", "route[0].prefix: 4 should be at most 20 digits or letters"),
        ("prefix = ['44', '44']", 'route[0].prefix: "44" is there already'),
        ("prefix = []", "route[0].prefix: should name at least one"),
        ("account = 'a b'", 'route[0].account: "a b" should be the name of an account'),
        ("account = ''", 'route[0].account: "" should be the name of an account'),
        ("sender = ''", 'route[0].sender: "" should be an address'),
        ("sender = 'A*B'", 'route[0].sender: "A*B" should be an address'),
        ("sender = '123456789012345678901'", "route[0].sender: "),
        ("data_coding = 256", "route[0].data_coding: 256 should be from 0 to 255"),
        ("data_coding = [0, true]", "route[0].data_coding: True should be from 0 to 255"),
        ("data_coding = '8'", 'route[0].data_coding: "8" should be from 0 to 255'),
        ("hours = '8-18'", 'route[0].hours: should be "HH:MM-HH:MM"'),
        ("hours = '24:00-08:00'", 'route[0].hours: should be "HH:MM-HH:MM"'),
        ("hours = '08:00-24:01'", 'route[0].hours: should be "HH:MM-HH:MM"'),
        ("hours = '08:60-09:00'", 'route[0].hours: should be "HH:MM-HH:MM"'),
        ("hours = '08:00-08:00'", "route[0].hours: begin and end should differ"),
        ("hours = '0\u0668:00-09:00'", 'route[0].hours: should be "HH:MM-HH:MM"'),
        ("timezone = 'Mars/Olympus'", 'route[0].timezone: "Mars/Olympus" is not a time zone'),
        ("timezone = 'Europe'", 'route[0].timezone: "Europe" is not a time zone'),
        ("timezone = '../x'", 'route[0].timezone: "../x" is not a time zone'),
        ("timezone = ''", 'route[0].timezone: "" is not a time zone'),
        ("name = ''", "route[0].name: String should have at least 1 character"),
        ("name = 'a '", "route[0].name: should be printable, without a space at either end"),
        ('name = "a\\u0007b"', "route[0].name: should be printable"),
        ("policy = 'random'", "route[0].policy: Input should be 'failover', 'weighted'"),
        ("policy = 'weighted'", 'route[0].weights: is missing; policy = "weighted" needs one'),
        ("weights = [1]", 'route[0].weights: has no effect without policy = "weighted"'),
        (
            "policy = 'weighted'; upstreams = ['a', 'b']; weights = [1]",
            "route[0].weights: should have 2, one for each upstream",
        ),
        (
            "policy = 'weighted'; weights = [0]",
            "route[0].weights[0]: Input should be greater than or equal to 1",
        ),
        (
            "when_down = 'queue'; mode = 'queued'",
            'route[0].when_down: "queue" is for mode = "direct"',
        ),
        (
            "when_down = 'queue'; upstreams = ['a', 'p']",
            'route[0].when_down: "queue" is for mode = "direct"',
        ),
    ],
)
def test_a_problem_names_the_key(tmp_path: Path, lines: str, problem: str) -> None:
    (line,) = problems(tmp_path, toml(lines))
    assert line.startswith(problem), line


def test_names_are_made_from_the_conditions(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        toml(
            "account = 'acme'; prefix = '44'",
            "prefix = '44'; hours = '22:00-06:00'",
            "prefix = '44'; data_coding = [4, 8]",
            "prefix = ['44', '33', '34', '35', '36']; data_coding = 8",
            "prefix = ['44', '33']; sender = '+4477*'",
            "name = '44'; prefix = '4477'",
            "prefix = '44'",
            "hours = '22:00-06:00'",
            "hours = '22:00-06:00'; timezone = 'Asia/Tokyo'",
            "",
        ),
    )
    assert [one.name for one in settings.routes_or_default] == [
        "account=acme 44",
        "22:00-06:00 44",
        "data_coding=4,8 44",
        "data_coding=8 44,33,34+2",
        "sender=4477* 44,33",
        "44",
        "44 2",
        "22:00-06:00",
        "22:00-06:00 2",
        "any",
    ]


def test_a_name_is_given_once(tmp_path: Path) -> None:
    text = toml("name = 'x'; prefix = '1'", "name = 'x'; prefix = '2'")
    assert problems(tmp_path, text) == [
        'route[0].name: "x" is the name of several routes',
        'route[1].name: "x" is the name of several routes',
    ]


def test_made_names_are_short_and_different_however_long_the_conditions() -> None:
    long = route(account=["a" * 64, "b" * 64], sender="1" * 20)
    names = names_of([long] * 300 + [route(name="any 2"), route(), route(), route()])
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 64
    assert names[-4:] == ["any 2", "any", "any 3", "any 4"]


@pytest.mark.parametrize(
    ("upstreams", "mode", "expected"),
    [
        (["a"], None, "direct"),
        (["a", "m"], None, "queued"),
        (["p"], None, "queued"),
        (["m"], "direct", "direct"),
        (["a"], "queued", "queued"),
    ],
)
def test_a_route_with_a_modem_is_queued_unless_it_says_otherwise(
    tmp_path: Path, upstreams: list[str], mode: str | None, expected: str
) -> None:
    lines = f"upstreams = {upstreams}" + (f"; mode = '{mode}'" if mode else "")
    (one,) = load(tmp_path, toml(lines)).routes_or_default
    assert one.mode == expected


def test_without_a_route_every_message_goes_to_what_is_in_no_pool(tmp_path: Path) -> None:
    (one,) = load(tmp_path, UPSTREAMS).routes_or_default
    assert (one.name, one.upstreams) == ("any", ["a", "b", "m", "p"])
    assert (one.policy, one.mode, one.when_down) == ("failover", "queued", "refuse")
    assert config.load(None).routes_or_default == []


# ------------------------------------------------------------------------------ never reached


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({}, {}),
        ({}, {"prefix": "44", "account": "x", "sender": "S", "data_coding": 8, "hours": "1"}),
        ({"prefix": "44"}, {"prefix": "447"}),
        ({"prefix": "44"}, {"prefix": ["447", "448"], "account": "x"}),
        ({"prefix": ["44", "33"]}, {"prefix": ["337", "44"]}),
        ({"account": ["x", "y"]}, {"account": "y"}),
        ({"sender": "S*"}, {"sender": ["SHOP", "S*", "SH*"]}),
        ({"sender": "*"}, {"sender": "X"}),
        ({"sender": "+44*"}, {"sender": "4477"}),
        ({"data_coding": [0, 8]}, {"data_coding": 8, "prefix": "1"}),
        ({"hours": "1"}, {"hours": "1", "prefix": "1"}),
    ],
)
def test_a_route_is_told_that_an_earlier_one_leaves_nothing_to(
    earlier: dict[str, Any], later: dict[str, Any]
) -> None:
    hours = {"1": "08:00-18:00"}
    first, second = (
        route(**{k: hours.get(v, v) if k == "hours" else v for k, v in values.items()})
        for values in (earlier, later)
    )
    between = route(account="nobody", prefix="999")
    assert list(shadowed([first, between, second])) in ([(1, 0), (2, 0)], [(2, 0)])


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"prefix": "447"}, {"prefix": "44"}),
        ({"prefix": "44"}, {"prefix": ["447", "33"]}),
        ({"account": "x"}, {}),
        ({"account": "x"}, {"account": ["x", "y"]}),
        ({"sender": "SHOP"}, {"sender": "SHOP*"}),
        ({"sender": "S"}, {"sender": "SHOP"}),
        ({"sender": "S*"}, {"sender": ["SHOP", "X"]}),
        ({"sender": "S*"}, {"account": "x"}),
        ({"data_coding": 8}, {}),
        ({"data_coding": 8}, {"data_coding": [8, 0]}),
        ({"hours": "08:00-18:00"}, {}),
        ({"hours": "08:00-18:00"}, {"hours": "08:00-19:00"}),
        ({"hours": "08:00-18:00"}, {"hours": "08:00-18:00", "timezone": "Asia/Tokyo"}),
    ],
)
def test_a_route_that_something_is_left_for_is_reached(
    earlier: dict[str, Any], later: dict[str, Any]
) -> None:
    assert list(shadowed([route(**earlier), route(**later)])) == []


def test_the_problem_names_both_routes(tmp_path: Path) -> None:
    assert problems(tmp_path, toml("prefix = '44'", "", "prefix = '33'", "prefix = '447'")) == [
        'route[2]: never reached, route[1] ("any") takes all of its messages',
        'route[3]: never reached, route[0] ("44") takes all of its messages',
    ]


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=1, max_size=2, unique=True)


ROUTES = st.fixed_dictionaries(
    {},
    optional={
        "prefix": some(st.text("01", max_size=3)),
        "account": some(st.sampled_from("xyz")),
        "sender": some(st.sampled_from(["A", "A*", "AB", "AB*", "*", "+A"])),
        "data_coding": some(st.integers(0, 2)),
        "hours": st.sampled_from(["08:00-18:00", "09:00-18:00"]),
        "timezone": st.sampled_from(["UTC", "Asia/Tokyo"]),
    },
).map(lambda values: route(**values))


@given(st.lists(ROUTES, max_size=8))
def test_never_reached_is_found_as_by_comparing_all(routes: list[RouteSettings]) -> None:
    def senders_cover(one: RouteSettings, sender: str) -> bool:
        text = sender.removeprefix("+")
        for other in (s.removeprefix("+") for s in one.sender):
            if other == text or (other.endswith("*") and text.startswith(other[:-1])):
                return True
        return False

    def within(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
        return not one or (bool(other) and set(other) <= set(one))

    def covers(one: RouteSettings, other: RouteSettings) -> bool:
        return (
            within(one.account, other.account)
            and within(one.data_coding, other.data_coding)
            and one.hours in (None, other.hours)
            and (one.hours is None or one.timezone == other.timezone)
            and (not one.sender or bool(other.sender))
            and (not one.sender or all(senders_cover(one, sender) for sender in other.sender))
            and all(any(p.startswith(q) for q in one.prefix) for p in other.prefix)
        )

    expected = [
        (i, next(j for j in range(i) if covers(routes[j], later)))
        for i, later in enumerate(routes)
        if any(covers(routes[j], later) for j in range(i))
    ]
    assert list(shadowed(routes)) == expected


@given(st.integers(0, 1439), st.integers(0, 1440))
def test_hours_are_read_as_they_are_written(begin: int, end: int) -> None:
    text = f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
    if begin == end or (end == 1440 and begin == 0):
        if begin == end:
            with pytest.raises(ValueError, match="should differ"):
                minutes_of(text)
    else:
        assert minutes_of(text) == (begin, end)
    assert minutes_of("00:00-24:00") == (0, 1440)
