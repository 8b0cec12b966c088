"""Finding the price of a message, against a model that looks at every row."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.credit import tariff as module
from proxy.credit.tariff import Price, PriceTable, Tariff, service_of

SERVICES = ("", "sms", "binary", "wap")

# Few digits and short texts: so that prefixes match, overlap and repeat.
digits = st.text("12", max_size=4)
addresses = st.builds(str.__add__, st.sampled_from(["", "+"]), st.text("123", max_size=6))
moments = st.integers(-2, 6).map(float)


@st.composite
def price_lists(draw: st.DrawFn, *, timed: bool = True) -> list[Price]:
    rows = draw(
        st.lists(
            st.tuples(
                digits,
                st.sampled_from(SERVICES),
                st.one_of(st.none(), st.integers(1, 5)),
                st.one_of(st.none(), moments) if timed else st.none(),
                st.one_of(st.none(), moments) if timed else st.none(),
            ),
            max_size=12,
            # Two that begin together would leave open which of them counts.
            unique_by=lambda row: (row[0], row[1], row[3]),
        )
    )
    return [Price(i, *row) for i, row in enumerate(rows, 1)]


def model(prices: list[Price], address: str, service: str, now_s: float) -> Price | None:
    """The longest prefix; of equal ones the service's own; of those the one that began last."""
    matching = [
        price
        for price in prices
        if address.removeprefix("+").startswith(price.prefix)
        and price.service in {"", service}
        and (price.valid_from_s is None or price.valid_from_s <= now_s)
        and (price.valid_to_s is None or now_s < price.valid_to_s)
    ]

    def rank(price: Price) -> tuple[int, bool, bool, float]:
        began_s = price.valid_from_s
        return len(price.prefix), bool(price.service), began_s is not None, began_s or 0.0

    return max(matching, key=rank, default=None)


@given(price_lists(), st.lists(st.tuples(addresses, st.sampled_from(SERVICES), moments)))
def test_every_answer_is_that_of_the_model(
    prices: list[Price], questions: list[tuple[str, str, float]]
) -> None:
    tariff = Tariff(1, "t", 1, prices)
    for address, service, now_s in questions:  # of one object: later ones meet what it remembers
        expected = model(prices, address, service, now_s)
        assert tariff.at(now_s).find(address, service) == expected


@given(price_lists(timed=False), st.lists(addresses, min_size=1, max_size=30))
def test_what_is_remembered_changes_no_answer(prices: list[Price], asked: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CACHE_MAX", 2)  # so that it overflows all the time
        table = PriceTable(prices, float("inf"))
        for address in asked * 2:
            for service in SERVICES:
                assert table.find(address, service) == model(prices, address, service, 0.0)


def test_what_is_remembered_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHE_MAX", 10)
    table = PriceTable([Price(1, "1" * 20, "", 5), Price(2, "", "", 7)], float("inf"))
    for i in range(1000):
        assert table.find(f"{i:020}", "sms") == Price(2, "", "", 7)
    assert len(table._every._known) <= 10


@pytest.mark.parametrize(
    ("address", "service", "expected"),
    [
        ("447700900123", "sms", 3),  # the longest
        ("+447700900123", "sms", 3),
        ("449", "sms", 2),  # of two alike the service's own
        ("449", "binary", 1),
        ("44", "sms", 2),  # as long as the address
        ("4", "sms", None),  # shorter than every prefix
        ("4475", "sms", 4),  # a longer prefix for all services beats a service's shorter one
        ("+", "sms", None),
        ("", "sms", None),
        ("++44", "sms", None),  # one + is a way to write it, two are not
    ],
)
def test_which_row_counts(address: str, service: str, expected: int | None) -> None:
    prices = [
        Price(1, "44", "", 10),
        Price(2, "44", "sms", 20),
        Price(3, "4477", "sms", 30),
        Price(4, "4475", "", None),
    ]
    found = PriceTable(prices, float("inf")).find(address, service)
    assert (found and found.id) == expected


def test_not_sold_is_an_answer_and_does_not_fall_back() -> None:
    table = PriceTable([Price(1, "", "", 10), Price(2, "88", "", None)], float("inf"))
    found = table.find("8816", "sms")
    assert found is not None and found.price_micro is None


def test_a_price_begins_and_ends_on_the_moment() -> None:
    prices = [Price(1, "", "", 10, None, 100.0), Price(2, "", "", 20, 100.0, 200.0)]
    tariff = Tariff(1, "t", 1, prices)

    def price_at(now_s: float) -> int | None:
        found = tariff.at(now_s).find("1", "sms")
        return None if found is None else found.price_micro

    assert [price_at(s) for s in (99.999, 100.0, 199.999, 200.0)] == [10, 20, 20, None]
    assert price_at(50.0) == 10, "also when the clock was set back"


def test_of_two_alike_the_one_that_began_later_counts() -> None:
    prices = [Price(1, "44", "", 10, 100.0), Price(2, "44", "", 20), Price(3, "44", "", 30, 0.0)]
    for rows in permutations(prices):
        tariff = Tariff(1, "t", 1, rows)
        found = [tariff.at(now_s).find("44", "sms") for now_s in (-1.0, 0.0, 100.0)]
        assert [price and price.id for price in found] == [2, 3, 1]


def test_a_table_is_made_only_when_a_price_begins_or_ends() -> None:
    tariff = Tariff(1, "t", 1, [Price(1, "", "", 10, 100.0, 200.0)])
    assert tariff.at(100.0) is tariff.at(150.0) is tariff.at(199.0)
    assert tariff.at(200.0) is not tariff.at(199.0)


def test_a_tariff_without_prices_sells_nothing() -> None:
    assert Tariff(1, "t", 1, ()).at(0.0).find("44", "sms") is None


@pytest.mark.parametrize(
    ("service_type", "binary", "expected"),
    [
        ("", False, "sms"),
        ("", True, "binary"),
        ("WAP", False, "wap"),
        ("wap", True, "wap"),
        ("CMT", False, "sms"),  # no prices of its own
        ("CMT", True, "binary"),
        ("sms", True, "binary"),  # a client can't name the cheaper of the two
        ("binary", False, "sms"),
    ],
)
def test_the_service_of_a_message(service_type: str, binary: bool, expected: str) -> None:
    prices = [Price(i, "", name, 1) for i, name in enumerate(("wap", "sms", "binary", ""))]
    assert service_of(PriceTable(prices, float("inf")), service_type, binary) == expected
