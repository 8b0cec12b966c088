from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.store.ids import EPOCH_S, ID_MAX, NODE_MAX, IdMint, id_at_time, id_of_text, time_of_id

CLOCKS = st.lists(
    st.tuples(st.integers(-10_000_000, 10_000_000), st.integers(0, 50)), min_size=1, max_size=20
)
"""How far the clock goes (also backwards, in ns) before each mint, and how many are minted."""
START_NS = (EPOCH_S + 1_000_000) * 10**9


class Clock:
    def __init__(self) -> None:
        self.ns = START_NS

    def __call__(self) -> int:
        return self.ns


@given(CLOCKS, st.integers(0, NODE_MAX))
def test_ids_ascend_whatever_the_clock_does(steps: list[tuple[int, int]], node: int) -> None:
    clock = Clock()
    mint = IdMint(node, clock)
    minted: list[int] = []
    for step_ns, count in steps:
        clock.ns += step_ns
        ids = mint.mint(count)
        assert len(ids) == count
        minted += ids
    assert minted == sorted(set(minted))
    assert {minted_id & NODE_MAX for minted_id in minted} <= {node}
    assert all(0 < minted_id < 1 << 63 for minted_id in minted)


@given(CLOCKS)
def test_two_nodes_never_mint_the_same(steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    mints = [IdMint(1, clock), IdMint(2, clock)]
    minted: list[int] = []
    for step_ns, count in steps:
        clock.ns += step_ns
        for mint in mints:
            minted += mint.mint(count)
    assert len(minted) == len(set(minted))


def test_an_id_tells_its_time() -> None:
    clock = Clock()
    clock.ns += 123_456_789
    (minted,) = IdMint(5, clock).mint(1)
    assert time_of_id(minted) == pytest.approx(clock.ns / 1e9, abs=2e-6)
    assert (minted >> 10) == 1_000_000_123_456
    assert minted & NODE_MAX == 5


@given(st.integers(0, 40 * 365 * 86_400))
def test_the_smallest_id_of_a_moment_is_not_above_those_of_the_moment(seconds: int) -> None:
    clock = Clock()
    clock.ns = (EPOCH_S + seconds) * 10**9
    smallest = id_at_time(EPOCH_S + seconds)
    (minted,) = IdMint(0, clock).mint(1)
    # The first of the epoch itself is 1, so that 0 is never an id.
    assert minted == (smallest or 1 << 10)
    assert time_of_id(smallest) == EPOCH_S + seconds


def test_a_mint_of_nothing_changes_nothing() -> None:
    clock = Clock()
    mint = IdMint(3, clock)
    (first,) = mint.mint(1)
    assert list(mint.mint(0)) == []
    (second,) = mint.mint(1)
    assert second > first


@pytest.mark.parametrize("node", [-1, NODE_MAX + 1])
def test_a_node_has_ten_bits(node: int) -> None:
    with pytest.raises(ValueError, match=str(node)):
        IdMint(node)


def test_what_somebody_wrote_is_an_id_or_not() -> None:
    assert id_of_text("0") == 0
    assert id_of_text(str(ID_MAX)) == ID_MAX
    for text in ("", "-1", " 1", "²", "٣", "1_0", str(ID_MAX + 1), "9" * 5000):
        assert id_of_text(text) is None
