"""Tariffs as CSV: what is understood, what is refused and how, and back again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.credit import tariff_csv
from proxy.credit.price_rows import PriceRow
from proxy.credit.tariff_csv import TariffCsvError, read, write

JUNE = datetime(2026, 6, 1, tzinfo=UTC)
JULY = datetime(2026, 7, 1, tzinfo=UTC)
HEADER = "prefix,service,price,valid_from,valid_to\n"


def errors_of(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(TariffCsvError) as caught:
        read(text if isinstance(text, bytes) else text.encode())
    assert all("\n" not in error and len(error) < 200 for error in caught.value.errors)
    return caught.value.errors


def error_of(line: str) -> str:
    """The one error of a line below the full header."""
    [error] = errors_of(HEADER + line + "\n")
    assert error.startswith("line 2: ")
    return error.removeprefix("line 2: ")


moments = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))


@st.composite
def tariffs(draw: st.DrawFn) -> list[PriceRow]:
    keys = draw(
        st.lists(
            st.tuples(st.text("0123456789AZaz", max_size=20), st.text("abz09_-", max_size=16)),
            min_size=1,
            unique=True,
        )
    )
    rows = []
    for prefix, service in keys:
        # Cuts in time, with one price between two of them.
        cuts = sorted(draw(st.lists(moments, max_size=3, unique=True)))
        for valid_from, valid_to in pairwise([None, *cuts, None]):
            price_micro = draw(st.one_of(st.none(), st.integers(1, 10**12)))
            rows.append(PriceRow(prefix, service, price_micro, valid_from, valid_to))
    return rows


@given(tariffs())
def test_what_is_written_is_read_again(rows: list[PriceRow]) -> None:
    read_again = read(write(rows).encode())
    assert set(read_again) == set(rows) and len(read_again) == len(rows)
    assert write(read_again) == write(rows)


@given(st.binary(max_size=200))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    for data in (octets, HEADER.encode() + octets):
        try:
            assert read(data)
        except TariffCsvError as error:
            assert error.errors


@given(st.text("\"';,\n\r\t =+-@0144.abcprice\0\x1b\u2028", max_size=80))
def test_weird_cells_are_read_or_refused(text: str) -> None:
    try:
        rows = read((HEADER + text).encode())
    except TariffCsvError as error:
        assert all(line.isprintable() for line in error.errors)
    else:
        assert read(write(rows).encode())


def test_the_file_of_the_documentation() -> None:
    text = (
        "prefix,service,price,valid_from,valid_to\n"
        ",,1,,\n"
        "44,sms,0.035,,2026-06-01\n"
        "+44,SMS,0.04,2026-06-01,\n"
        "88,,not sold,2026-06-01T02:00+02:00,2026-07-01T00:00:00Z\n"
    )
    assert read(text.encode()) == [
        PriceRow("", "", 1_000_000),
        PriceRow("44", "sms", 35_000, None, JUNE),
        PriceRow("44", "sms", 40_000, JUNE, None),
        PriceRow("88", "", None, JUNE, JULY),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"prefix,price\n44,0.5\n",
        b"price,prefix\r\n0.5,44\r\n",
        b"\xef\xbb\xbfPrefix;Price\r\n44;0.5\r\n",
        b"prefix,price\r44,0.5\r",
        b'"prefix", price \n\n 44 ,"0.50"\n,\n',
        b"prefix,service,price,valid_from,valid_to\n+44,,+0.500000,,",
        b"\n\nvalid_to;prefix;price\n;44;0.5\n",
    ],
)
def test_the_ways_to_write_the_same(data: bytes) -> None:
    assert read(data) == [PriceRow("44", "", 500_000)]


@pytest.mark.parametrize("text", ["not sold", "NOT SOLD", "-"])
def test_not_sold(text: str) -> None:
    assert read(f"prefix,price\n44,{text}\n".encode()) == [PriceRow("44", "", None)]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-06-01", JUNE),
        ("2026-06-01T00:00", JUNE),
        ("2026-06-01 00:00:00", JUNE),
        ("2026-06-01T00:00:00Z", JUNE),
        ("2026-05-31T20:00-04:00", JUNE),
        ("2026-06-01T00:00:00.000001", JUNE + timedelta(microseconds=1)),
        ("", None),
    ],
)
def test_times(text: str, time: datetime | None) -> None:
    [row] = read(f"{HEADER}44,,1,{text},\n".encode())
    assert row.valid_from == time
    assert row.valid_from is None or row.valid_from.utcoffset() == timedelta(0)


def test_times_are_written_in_utc_and_short() -> None:
    east = timezone(timedelta(hours=2))
    rows = [PriceRow("1", "", 1, datetime(2026, 6, 1, 2, tzinfo=east), JULY + timedelta(hours=1))]
    assert write(rows).splitlines()[1] == "1,,0.000001,2026-06-01,2026-07-01T01:00:00Z"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("44,,0,,", "price: '0' is not above zero: no message is free"),
        ("44,,-1,,", "price: '-1' is not above zero: no message is free"),
        ("44,,0.0000001,,", "price: '0.0000001' has more than six decimals"),
        ("44,,1000000.000001,,", "price: '1000000.000001' is more than 1,000,000"),
        ("44,,1e3,,", "price: '1e3' is not a number"),
        ("44,,free,,", "price: 'free' is not a number"),
        ("44,,,,", "price: is missing"),
        ('44,,"0,5",,', "price: '0,5' is not a number; decimals come after a point"),
        (f"44,,{'9' * 500},,", "price: '9999"),
        ("4 4,,1,,", "prefix: '4 4' is not"),
        ("+,,1,,", "prefix: '+' is not"),
        ("++4,,1,,", "prefix: '++4' is not"),
        ("44*,,1,,", "prefix: '44*' is not"),
        ("4.47E+11,,1,,", "prefix: '4.47E+11' is not"),
        ("=1,,1,,", "prefix: '=1' is not"),
        ("\u0664\u0664,,1,,", "prefix: '\\u0664\\u0664' is not"),
        (f"{'4' * 21},,1,,", "prefix: '4444"),
        ("44,s m s,1,,", "service: 's m s' is not"),
        (f"44,{'s' * 17},1,,", "service: 'sss"),
        ("44,,1,tomorrow,", "valid_from: 'tomorrow' is not a time such as"),
        ("44,,1,,2026-02-30", "valid_to: '2026-02-30' is not a time such as"),
        ("44,,1,01/02/2026,", "valid_from: '01/02/2026' is not a time such as"),
        ("44,,1,,0001-01-01T00:00+14:00", "valid_to: '0001-01-01T00:00+14:00' is not a time"),
        ("44,,1,,1066-10-14", "valid_to: '1066-10-14' is not between"),
        ("44,,1,2026-06-01,2026-06-01", "valid_from must be before valid_to"),
        ("44,,1,2026-06-01T00:01,2026-06-01T02:00+02:00", "valid_from must be before valid_to"),
        ("44,,1,", "4 cells, but the header has 5"),
        ("44", "1 cell, but the header has 5"),
        ("44,,1,,,", "6 cells, but the header has 5"),
        ('"44,,1,,', "the quotation marks are not in pairs"),
        ('"4"4,,1,,', "the quotation marks are not in pairs"),
    ],
)
def test_a_line_that_is_wrong(line: str, problem: str) -> None:
    assert error_of(line).startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: there is no header"),
        ("\n\n", "line 2: there is no header"),
        ("prefix,price\n\n", "line 2: there are no prices below the header"),
        ("prefix\n44\n", "line 1: the column price is missing"),
        ("44,0.5\n", "line 1: the column prefix is missing"),
        ("prefix,price,colour\n", "line 1: there is no column 'colour'; the columns are prefix"),
        ("prefix,price,prefix\n", "line 1: the column prefix is there twice"),
        ("prefix\tprice\n44\t1\n", "line 1: the column prefix is missing"),
        ('"prefix,price\n', "line 1: the quotation marks"),
        (b"prefix,price\n44,1\n\xff\xfe,1\n", "line 3: this is not UTF-8 text"),
        ("prefix,price\n".encode("utf-16"), "line 1: this is not UTF-8 text"),
    ],
)
def test_a_file_that_is_wrong(text: str | bytes, problem: str) -> None:
    assert errors_of(text)[0].startswith(problem)


def test_a_price_after_an_open_quotation_mark_is_not_swallowed() -> None:
    errors = errors_of('prefix,price\n"44,1\n45,0\n"46",2\n')
    assert [error.split(":")[0] for error in errors] == ["line 2", "line 3"]


def test_all_errors_are_told_with_their_lines() -> None:
    lines = ["44,,0,,", "45,,1,,", "4 5,x y,zero,now,never", "45,,1,,", "46,,1,,"]
    errors = errors_of(HEADER + "\n".join(lines))
    assert [error.split(": ")[0] for error in errors] == ["line 2", *["line 4"] * 5, "line 5"]
    assert sorted(error.split(": ")[1] for error in errors[1:6]) == sorted(tariff_csv.COLUMNS)
    assert errors[-1] == "line 5: the same price as line 3 (prefix 45, service any)"


def test_twenty_errors_are_enough() -> None:
    errors = errors_of("prefix,price\n" + "44,0\n" * 1000)
    assert len(errors) == tariff_csv.ERRORS_MAX
    assert errors[-1].startswith("line 21: ")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("44,sms,1,,", "+44,SMS,2,,"),
        ("44,,1,,2026-06-01", "44,,2,2026-05-31T23:59:59,"),
        ("44,,1,2026-06-01,", "44,,2,,"),
        ("44,,1,2026-06-01,2026-07-01", "44,,-,2026-06-02,2026-06-03"),
        (",,1,,", ",,2,2026-01-01,2026-01-02"),
    ],
)
def test_two_prices_at_the_same_time_are_refused(first: str, second: str) -> None:
    for one, other in ((first, second), (second, first)):
        [error] = errors_of(f"{HEADER}{one}\n{other}\n")
        assert error.startswith("line 3: valid at the same time as line 2")


def test_a_long_price_overlaps_every_later_one() -> None:
    lines = ["44,,1,2026-01-01,2026-12-01", "44,,2,2026-02-01,2026-03-01", "44,,3,2026-04-01,"]
    assert errors_of(HEADER + "\n".join(lines)) == (
        "line 3: valid at the same time as line 2 (prefix 44, service any)",
        "line 4: valid at the same time as line 2 (prefix 44, service any)",
    )


def test_an_overlap_is_with_the_price_that_is_still_valid() -> None:
    lines = ["44,,1,,2026-06-01", "44,,2,2026-06-01,2026-07-01", "44,,3,2026-06-15,"]
    assert errors_of(HEADER + "\n".join(lines)) == (
        "line 4: valid at the same time as line 3 (prefix 44, service any)",
    )


def test_one_price_after_the_other_is_no_overlap() -> None:
    lines = ["44,,2,2026-06-01,2026-07-01", "44,,1,,2026-06-01", "44,,3,2026-07-01,", "44,sms,1,,"]
    assert len(read((HEADER + "\n".join(lines)).encode())) == 4


def test_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tariff_csv, "ROWS_MAX", 3)
    text = "prefix,price\n1,1\n2,1\n3,1\n"
    assert len(read(text.encode())) == 3
    assert errors_of(text + "4,1\n5,1\n") == ("line 5: a tariff has at most 3 prices",)
    monkeypatch.setattr(tariff_csv, "OCTETS_MAX", len(text))
    assert len(read(text.encode())) == 3
    assert errors_of(text + "\n") == ("the file has more than 0 MiB",)
