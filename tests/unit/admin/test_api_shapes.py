"""What the API reads and writes: cursors, keys of an account, hidden names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.api.account_change import AccountChange
from proxy.admin.api.accounts import Account
from proxy.admin.api.hide import Hide
from proxy.admin.api.paging import read_cursor
from proxy.admin.api.problems import Problem
from proxy.admin.cursors import write_cursor
from proxy.credit.account_keys import KEYS, OTHER_KEYS, changes_from_text


def test_the_api_can_change_every_key_of_account_set() -> None:
    # Passwords and system_ids have routes of their own.
    assert AccountChange.model_fields.keys() == {*KEYS, *OTHER_KEYS} - {"password", "system_id"}


def test_what_can_be_changed_can_be_seen() -> None:
    assert AccountChange.model_fields.keys() <= Account.model_fields.keys()


def test_only_what_is_given_is_changed() -> None:
    assert AccountChange().texts() == {}
    change = AccountChange.model_validate({"daily_cap": None, "all_parts": False, "inbound": []})
    assert change.texts() == {"daily_cap": "none", "all_parts": "no", "inbound": ""}
    read = changes_from_text(change.texts())
    assert read.columns == {"daily_cap_micro": None, "all_parts": False}
    assert read.inbound == ()


@given(st.integers(0, 2**63 - 1), st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_cursors_come_back_as_they_were(number: int, text: str) -> None:
    moment = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
    cursor = write_cursor("list", [number, moment, text])
    assert cursor.isascii() and "=" not in cursor
    assert read_cursor(cursor, "list", [int, datetime, str]) == (number, moment, text)


@given(st.text(max_size=60))
def test_a_cursor_that_somebody_made_up_is_refused(text: str) -> None:
    with pytest.raises(Problem):
        read_cursor(text, "list", [int])


@pytest.mark.parametrize(
    ("values", "types"),
    [
        (["other", 1], [int]), (["list"], [int]), (["list", 1, 2], [int]), (["list", True], [int]),
        (["list", -1], [int]), (["list", 2**63], [int]), (["list", 1.0], [int]),
        (["list", "1"], [int]), (["list", "a\0"], [str]), (["list", "\ud800"], [str]),
        (["list", "2026-01-01"], [datetime]), (["list", "9999-01-01T00:00:00+00:00"], [datetime]),
        (["list", 5], [datetime]), (["list", None], [int]),
    ],
)  # fmt: skip
def test_values_that_the_database_would_not_take(values: list[Any], types: list[type]) -> None:
    with pytest.raises(Problem):
        read_cursor(write_cursor(values[0], values[1:]), "list", types)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("refused by carrier-a: ESME_RSYSERR", "refused by the upstream: ESME_RSYSERR"),
        ("upstream carrier-a, id 7", "the upstream, id 7"),
        ("ESME_ROK from upstream carrier", "ESME_ROK from the upstream"),
        ("carrier.", "the upstream."),
        ("carriers carrier-ab my-carrier", "carriers carrier-ab my-carrier"),
        ("link lost: carrier-a", "link lost: the upstream"),
    ],
)
def test_names_of_upstreams_are_hidden(text: str, shown: str) -> None:
    names = ["carrier", "carrier-a", "x.y"]
    assert Hide(names).text(text) == shown
    assert Hide(None).text(text) == text
    assert Hide([]).text(text) == text
