"""Lists as texts, and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.store.arrays import numbers, texts
from proxy.store.database import Database

LATIN_1 = st.text(st.characters(min_codepoint=1, max_codepoint=255))


@pytest.mark.parametrize("values", [[], [5], range(3), [-1, 2**63 - 1]])
def test_numbers(values: Any) -> None:
    assert numbers(values) == "{" + ", ".join(map(str, values)) + "}"


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(LATIN_1))
async def test_postgresql_reads_what_was_meant(
    database: Database, ints: list[int], strings: list[str]
) -> None:
    row = await database.pool.fetchrow(
        "SELECT $1::text::bigint[], texts_from($2)", numbers(ints), texts(strings)
    )
    assert (row[0], row[1]) == (ints, strings)
