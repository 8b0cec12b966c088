"""Tariffs as CSV files.

The columns: prefix, service, price, valid_from, valid_to, in any order; only prefix and price
must be there.  A spreadsheet's habits are understood (byte order mark, semicolons, CRLF).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from proxy.credit.money import MICRO, micro_from_text, text_from_micro
from proxy.credit.price_rows import PriceRow, order
from proxy.credit.times import utc_time

COLUMNS: Final = ("prefix", "service", "price", "valid_from", "valid_to")
NEEDED: Final = ("prefix", "price")
NOT_SOLD: Final = "not sold"
ERRORS_MAX: Final = 20
"""How many errors of a file are told at once."""

ROWS_MAX: Final = 1_000_000
OCTETS_MAX: Final = 256 * 1024 * 1024
PRICE_MAX_MICRO: Final = 1_000_000 * MICRO
_CELL_MAX: Final = 40
"""Characters; the longest that means anything is a time with its zone."""

_PREFIX: Final = re.compile(r"\+?[0-9A-Za-z]{1,20}|", re.ASCII)
_SERVICE: Final = re.compile(r"[a-z0-9_-]{0,16}", re.ASCII)
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)
"""What people write for "for ever"; the last moment of that day is PostgreSQL's infinity."""


class TariffCsvError(ValueError):
    """The file is not a tariff; `errors` says why, a sentence with its line number each."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(self.errors))


class _Numbered(NamedTuple):
    line: int
    row: PriceRow


class _TooMany(Exception):
    """There are errors enough."""


def read(data: bytes) -> list[PriceRow]:
    """Read a file; raises TariffCsvError with up to ERRORS_MAX of its errors.

    The rows come in the order of the file, and no two of them count for the same prefix and
    service at the same time.
    """
    reader = _Reader()
    try:
        rows = reader.rows(_text(data))
        for line, problem in _overlaps(rows):
            reader.complain(line, problem)
    except _TooMany:
        rows = []
    if reader.errors:
        raise TariffCsvError(f"line {line}: {text}" for line, text in sorted(reader.errors))
    return [row for _, row in rows]


def _text(data: bytes) -> str:
    if len(data) > OCTETS_MAX:
        raise TariffCsvError([f"the file has more than {OCTETS_MAX // 1024**2} MiB"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TariffCsvError([f"line {line}: this is not UTF-8 text"]) from None


class _Reader:
    """Reads lines, and remembers what is wrong with them."""

    def __init__(self) -> None:
        self.errors: list[tuple[int, str]] = []
        self._columns: list[str] = []
        self._delimiter = ","
        self._parsers: dict[str, Callable[[str], object]] = {
            "prefix": _prefix,
            "service": _service,
            "price": _Memory(_price),
            "valid_from": _Memory(_time),
            "valid_to": _Memory(_time),
        }

    def complain(self, line: int, problem: str) -> None:
        """Remember an error; raises _TooMany when there are enough."""
        self.errors.append((line, problem))
        if len(self.errors) >= ERRORS_MAX:
            raise _TooMany

    def rows(self, text: str) -> list[_Numbered]:
        """The rows that are right."""
        rows: list[_Numbered] = []
        line = 1
        for line, content in enumerate(io.StringIO(text, newline=None), 1):
            if not content.strip(",; \t\n"):
                continue
            if not self._columns:
                self._read_header(line, content)
                continue
            if len(rows) == ROWS_MAX:
                self.complain(line, f"a tariff has at most {ROWS_MAX:,} prices")
                break
            row = self._row(line, content)
            if row is not None:
                rows.append(_Numbered(line, row))
        if not rows and not self.errors:
            no_prices = "there are no prices below the header"
            self.complain(line, no_prices if self._columns else "there is no header")
        return rows

    def _read_header(self, line: int, content: str) -> None:
        if ";" in content and "," not in content:
            self._delimiter = ";"
        cells = self._cells(line, content)
        if cells is None:
            raise _TooMany
        names = [cell.lower() for cell in cells]
        known = f"the columns are {', '.join(COLUMNS)}"
        for name in names:
            if name not in COLUMNS:
                self.complain(line, f"there is no column {_quoted(name)}; {known}")
        for name in COLUMNS:
            if names.count(name) > 1:
                self.complain(line, f"the column {name} is there twice")
            elif name in NEEDED and name not in names:
                self.complain(line, f"the column {name} is missing; {known}")
        if self.errors:
            raise _TooMany  # nothing below it could be understood
        self._columns = names

    def _row(self, line: int, content: str) -> PriceRow | None:
        cells = self._cells(line, content)
        if cells is None:
            return None
        if len(cells) != len(self._columns):
            expected = len(self._columns)
            self.complain(line, f"{_count(len(cells), 'cell')}, but the header has {expected}")
            return None
        values: dict[str, Any] = {}
        for name, cell in zip(self._columns, cells, strict=True):
            try:
                values[name] = self._parsers[name](cell)
            except ValueError as error:
                self.complain(line, f"{name}: {error}")
        if len(values) != len(cells):
            return None
        row = PriceRow(
            values["prefix"],
            values.get("service", ""),
            values["price"],
            values.get("valid_from"),
            values.get("valid_to"),
        )
        if row.valid_from and row.valid_to and row.valid_from >= row.valid_to:
            self.complain(line, "valid_from must be before valid_to, when the price has ended")
            return None
        return row

    def _cells(self, line: int, content: str) -> list[str] | None:
        """The cells of a line; no cell that means anything goes over several lines."""
        content = content.removesuffix("\n")
        if '"' not in content:
            return [cell.strip() for cell in content.split(self._delimiter)]
        try:
            [cells] = csv.reader([content], delimiter=self._delimiter, strict=True)
        except (csv.Error, ValueError):
            self.complain(line, "the quotation marks are not in pairs around whole cells")
            return None
        return [cell.strip() for cell in cells]


class _Memory:
    """Calls a function once for each text: the cells of a column are often the same."""

    def __init__(self, function: Callable[[str], object]) -> None:
        self._function = function
        self._known: dict[str, object] = {}

    def __call__(self, text: str) -> object:
        try:
            return self._known[text]
        except KeyError:
            value = self._known[text] = self._function(text)
            return value


def _prefix(cell: str) -> str:
    if not _PREFIX.fullmatch(cell):
        raise ValueError(f"{_quoted(cell)} is not up to 20 digits or letters")
    return cell.removeprefix("+")


def _service(cell: str) -> str:
    service = cell.lower()
    if not _SERVICE.fullmatch(service):
        raise ValueError(f"{_quoted(cell)} is not up to 16 of the characters a-z 0-9 _ -")
    return service


def _price(cell: str) -> int | None:
    if cell.lower() in {NOT_SOLD, "-"}:
        return None
    if not cell:
        raise ValueError(f'is missing; what is not sold says "{NOT_SOLD}"')
    if "," in cell:
        raise ValueError(f"{_quoted(cell)} is not a number; decimals come after a point")
    if len(cell) > _CELL_MAX:
        raise ValueError(f"{_quoted(cell)} is not a number")
    micro = micro_from_text(cell)
    if micro <= 0:
        raise ValueError(
            f'{_quoted(cell)} is not above zero: no message is free; say "{NOT_SOLD}", '
            "or leave the row out"
        )
    if micro > PRICE_MAX_MICRO:
        raise ValueError(f"{_quoted(cell)} is more than {PRICE_MAX_MICRO // MICRO:,}")
    return micro


def _time(cell: str) -> datetime | None:
    if not cell:
        return None
    try:
        if len(cell) > _CELL_MAX or not cell.isascii():
            raise ValueError
        time = utc_time(cell)
    except ValueError:
        raise ValueError(
            f"{_quoted(cell)} is not a time such as 2026-01-31 or 2026-01-31T12:00+02:00"
        ) from None
    if not _EARLIEST <= time <= _LATEST:
        raise ValueError(f"{_quoted(cell)} is not between 1970-01-01 and 9999-12-31")
    return time


def _quoted(cell: str) -> str:
    """A cell in a sentence; whatever is in it, one short line."""
    return ascii(cell) if len(cell) <= _CELL_MAX else f"{cell[:_CELL_MAX]!a}…"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _overlaps(rows: Iterable[_Numbered]) -> Iterator[tuple[int, str]]:
    """The rows that count at the same time as an earlier one, for the same destinations."""
    by_key: dict[tuple[str, str], list[_Numbered]] = {}
    for numbered in rows:
        by_key.setdefault(numbered.row[:2], []).append(numbered)
    for same in by_key.values():
        if len(same) == 1:
            continue
        same.sort(key=lambda numbered: numbered.row.valid_from or _EARLIEST)
        before = same[0]
        for numbered in same[1:]:
            row = numbered.row
            if before.row.valid_to is None or (row.valid_from or _EARLIEST) < before.row.valid_to:
                first, second = sorted((before, numbered))
                whose = f"prefix {_name(row.prefix)}, service {_name(row.service)}"
                if first.row == second.row:
                    yield second.line, f"the same price as line {first.line} ({whose})"
                else:
                    yield second.line, f"valid at the same time as line {first.line} ({whose})"
            # The one that ends last is what the next may overlap.
            if before.row.valid_to and (row.valid_to is None or row.valid_to > before.row.valid_to):
                before = numbered


def _name(key: str) -> str:
    return key or "any"


def write(rows: Iterable[PriceRow]) -> str:
    """A file that `read` understands, with all columns, in a fixed order of rows."""
    # No cell has a character that would need quotation marks.
    lines = (
        f"{row.prefix},{row.service},{price_text(row.price_micro)},"
        f"{time_text(row.valid_from)},{time_text(row.valid_to)}\n"
        for row in sorted(rows, key=order)
    )
    return ",".join(COLUMNS) + "\n" + "".join(lines)


def price_text(price_micro: int | None) -> str:
    """A price as in a file."""
    return NOT_SOLD if price_micro is None else text_from_micro(price_micro)


def time_text(time: datetime | None) -> str:
    """A time as in a file: in UTC, at midnight only the date, and nothing for None."""
    if time is None:
        return ""
    text = time.astimezone(UTC).replace(tzinfo=None).isoformat()
    return text.removesuffix("T00:00:00") if text.endswith("T00:00:00") else f"{text}Z"
