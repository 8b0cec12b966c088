"""Any sequence of what happens to credits does what the model says, on the real database."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from time import time_ns
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from support.world import AGE_S, IMPATIENT_S, STATES, Item, Kind, World

from proxy.store.database import Database
from proxy.store.ids import IdMint

KINDS = (
    Kind(),
    Kind(limit=9),
    Kind("submit"),
    Kind("delivery", limit=4, patience_s=IMPATIENT_S, overdue="release"),
    Kind("delivery", releasing=frozenset({"UNDELIV"}), patience_s=IMPATIENT_S),
    Kind("delivery", cap=9),
    Kind(messages=5),
    Kind(all_parts=True, limit=3),
    Kind(all_parts=True, messages=4),
    Kind(all_parts=True, cap=5, retry_safe=True),
)


ACCOUNT = st.integers(0, 2)
PROXY = st.integers(0, 2)
WHICH = st.integers(0, 30)
AMOUNT = st.integers(1, 12)
CREDIT = st.lists(st.tuples(AMOUNT, st.sampled_from([None, 1, 2, 3])), min_size=1, max_size=4)
WANTED = st.one_of(st.integers(1, 6), st.sampled_from(["all", "more"]))


@st.composite
def items(draw: st.DrawFn) -> Item:
    """A message to submit, every other one of a single part."""
    parts = draw(st.sampled_from([1, 1, 2, 3]))
    part = draw(st.integers(1, parts))
    return Item(
        draw(ACCOUNT), draw(WANTED), part, parts, draw(st.integers(1, 3)), draw(st.integers(0, 3))
    )


@st.composite
def whole(draw: st.DrawFn) -> list[Item]:
    """All parts of a message at once, in some order."""
    parts, reference = draw(st.integers(2, 3)), draw(st.integers(1, 3))
    order = draw(st.permutations(range(1, parts + 1)))
    account = draw(ACCOUNT)
    return [Item(account, 1, part, parts, reference, 0) for part in order]


ITEMS = st.one_of(st.lists(items(), min_size=1, max_size=6), whole())
ANSWER = st.sampled_from(["accept", "accept", "refuse", "doubt", "some", "not sent"])
ANSWERS = st.lists(st.tuples(WHICH, ANSWER, st.booleans()), min_size=1, max_size=8)
REPORTS = st.lists(st.tuples(WHICH, st.sampled_from(sorted(STATES))), min_size=1, max_size=5)


def _step(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(name), *arguments)


SUBMIT = _step("submit", PROXY, ITEMS)
TIMES = st.sampled_from(["once", "once", "once", "twice", "at once", "twice in one"])
SETTLE = _step("settle", PROXY, ANSWERS, TIMES)
OTHERS = (
    _step("receipts", PROXY, REPORTS, st.booleans()),
    _step("add", ACCOUNT, AMOUNT),
    _step("add", ACCOUNT, AMOUNT, st.integers(1, 4)),
    _step("add", ACCOUNT, AMOUNT, st.integers(1, 4)),
    _step("add_once", ACCOUNT, AMOUNT),
    _step("remove", ACCOUNT, WANTED),
    _step("limit", ACCOUNT, st.integers(0, 6)),
    _step("wait", st.integers(1, 3)),
    _step("midnight", ACCOUNT),
    _step("repeat", PROXY, WHICH),
    _step("give_up", PROXY, ITEMS),
    _step("receipt_of_doubt", WHICH),
    _step("expire", PROXY),
    _step("lost_holds", PROXY),
    _step("policy", PROXY, st.sampled_from(["charge", "release"])),
    _step("sweep", PROXY),
)


@st.composite
def sequences(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Some kinds of steps, each several times: what they do to each other shows sooner."""
    number = len(OTHERS)
    chosen = draw(st.lists(st.integers(0, number - 1), min_size=2, max_size=7, unique=True))
    step = st.one_of(SUBMIT, SUBMIT, SETTLE, *(OTHERS[n] for n in chosen))
    return draw(st.lists(step, min_size=12, max_size=80 if LONG_RUN else 30))


LONG_RUN = int(os.environ.get("MONEY_EXAMPLES", "0"))
"""For a long run: so many sequences, and longer ones (with pytest --hypothesis-seed=N the same)."""


@pytest.fixture
async def proxies(database: Database) -> AsyncIterator[list[tuple[Any, IdMint]]]:
    """Three: a connection and a mint each."""
    async with AsyncExitStack() as stack:
        three = [
            (
                await stack.enter_async_context(database.pool.acquire()),
                IdMint(node, lambda: time_ns() - int(AGE_S * 1e9)),
            )
            for node in (1, 2, 3)
        ]
        await three[0][0].execute("INSERT INTO upstream (name) VALUES ('carrier')")
        yield three


@pytest.mark.timeout(0 if LONG_RUN else 300)
@settings(
    max_examples=LONG_RUN or 150,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    accounts=st.lists(st.tuples(st.sampled_from(KINDS), CREDIT), min_size=1, max_size=3),
    steps=sequences(),
    policy=st.sampled_from(["charge", "release"]),
)
@example(  # parts of a message that the cap has no room for as a whole, though it has for these
    accounts=[(Kind(all_parts=True, cap=5), [(20, None)])],
    steps=[("submit", 0, [Item(0, 1, part, 3, 2, 0)]) for part in (1, 2, 3)],
    policy="charge",
)
@example(  # the first part that comes need not be the first one
    accounts=[(Kind(all_parts=True, cap=5), [(20, None)])],
    steps=[("submit", 0, [Item(0, 1, part, 3, 2, 0)]) for part in (2, 1, 3)],
    policy="charge",
)
@example(  # sent again as a whole, it does not count twice
    accounts=[(Kind(all_parts=True, cap=5), [(20, None)])],
    steps=[("submit", 0, [Item(0, 1, part, 2, 2, 0)]) for part in (1, 1, 2)],
    policy="charge",
)
@example(  # what is reserved for the parts is theirs, and nothing more
    accounts=[(Kind(all_parts=True, limit=3), [(5, None)])],
    steps=[
        ("submit", 0, [Item(0, 1, 1, 3, 2, 0), Item(0, "more", 1, 1, 1, 0)]),
        ("submit", 1, [Item(0, 1, 2, 3, 2, 0), Item(0, "all", 1, 1, 1, 0)]),
        ("submit", 2, [Item(0, 1, 3, 3, 2, 0), Item(0, 1, 1, 1, 1, 0)]),
    ],
    policy="charge",
)
@example(  # a receipt says that it failed, every proxy stops, and the wait for receipts ends
    accounts=[(Kind("delivery", patience_s=IMPATIENT_S), [(5, None)])],
    steps=[
        ("submit", 0, [Item(0, 1, 1, 1, 1, 1)]),
        ("settle", 0, [(0, "accept", False)], "once"),
        ("receipts", 0, [(0, "UNDELIV")], False),
        ("sweep", 1),
    ],
    policy="charge",
)
@example(  # two receipts that contradict each other; no credit comes back for what is charged
    accounts=[(Kind("delivery"), [(5, None)])],
    steps=[
        ("submit", 0, [Item(0, 1, 1, 1, 1, 1)]),
        ("settle", 0, [(0, "accept", False)], "once"),
        ("receipts", 0, [(0, "UNDELIV"), (0, "DELIVRD")], True),
    ],
    policy="charge",
)
@example(  # one answer twice in a batch
    accounts=[(Kind(), [(5, None)])],
    steps=[
        ("submit", 0, [Item(0, 2, 1, 1, 1, 0)]),
        ("settle", 0, [(0, "refuse", False)], "twice in one"),
    ],
    policy="charge",
)
@example(  # a debt keeps what was taken of grants first
    accounts=[(Kind(limit=9), [(5, 1), (5, 2)])],
    steps=[
        ("submit", 0, [Item(0, 8, 1, 1, 1, 0), Item(0, 6, 1, 1, 1, 0)]),
        ("settle", 0, [(0, "refuse", False)], "once"),
    ],
    policy="release",
)
async def test_any_sequence_does_what_the_model_says(
    proxies: list[tuple[Any, IdMint]],
    accounts: list[tuple[Kind, list[tuple[int, int | None]]]],
    steps: list[tuple[Any, ...]],
    policy: str,
) -> None:
    world = World(proxies)
    for which, (kind, credit) in enumerate(accounts):
        note(f"{kind} {credit}")
        await world.open_account(kind)
        for amount, hours in credit:
            await world.add(which, amount, hours)
    for name, *arguments in steps:
        note(f"{name} {arguments}")
        await getattr(world, name)(*arguments)
        await world.check()
    await world.check_views()
    # In the end nothing is in doubt.
    await world.lost_holds(0)
    await world.policy(1, policy)
    await world.sweep(2)
    await world.check()
    await world.check_views()
    await world.assert_books_balance()
