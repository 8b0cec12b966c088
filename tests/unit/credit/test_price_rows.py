"""What one list of prices changes in another."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from proxy.credit.price_rows import Change, PriceRow, differences

MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7))

rows = st.builds(
    PriceRow,
    st.sampled_from(["", "4", "44"]),
    st.sampled_from(["", "sms"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, MAY, JUNE]),
    st.sampled_from([None, JULY]),
)
row_lists = st.lists(rows, unique=True)


@given(row_lists, row_lists)
def test_the_differences_lead_from_one_list_to_the_other(
    old: list[PriceRow], new: list[PriceRow]
) -> None:
    found = differences(old, new)
    gone = [*found.ended, *(change.old for change in found.changed)]
    came = [*found.added, *(change.new for change in found.changed)]
    assert len(set(gone)) == len(gone) and len(set(came)) == len(came)
    assert (set(old) - set(gone)) | set(came) == set(new)
    assert set(gone) <= set(old) - set(new), "what stays is not touched"
    assert set(came) <= set(new) - set(old)
    assert found.unchanged == len(set(old) & set(new))
    assert found.any == (set(old) != set(new))
    for before, after in found.changed:
        assert before[:2] == after[:2], "a change is about one prefix and service"
    # What could be told as a change is told as one.
    assert not {row[:2] for row in found.added} & {row[:2] for row in found.ended}


def test_each_kind_of_difference() -> None:
    kept, gone, new = PriceRow("1", "", 1), PriceRow("2", "", 1), PriceRow("3", "", 1)
    before, after = PriceRow("4", "sms", 1), PriceRow("4", "sms", None)
    found = differences([kept, gone, before], [new, after, kept])
    assert found == ([new], [Change(before, after)], [gone], 1)


def test_a_price_that_begins_at_the_same_time_is_the_one_that_changed() -> None:
    old = PriceRow("44", "", 1)
    until, then = PriceRow("44", "", 1, None, JUNE), PriceRow("44", "", 2, JUNE)
    found = differences([old], [then, until])
    assert (found.changed, found.added, found.ended) == ([Change(old, until)], [then], [])


def test_a_price_before_it_is_not_taken_for_it() -> None:
    old, same = PriceRow("44", "", 1, MAY), PriceRow("44", "", 2, MAY)
    before = PriceRow("44", "", 3, None, MAY)
    found = differences([old], [before, same])
    assert (found.changed, found.added, found.ended) == ([Change(old, same)], [before], [])


def test_without_that_the_order_in_which_they_begin_decides() -> None:
    old = [PriceRow("44", "", 1, None, MAY), PriceRow("44", "", 1, MAY)]
    new = [PriceRow("44", "", 1, JUNE, JULY), PriceRow("44", "", 1, JULY)]
    found = differences(old, new)
    assert found.changed == [Change(old[0], new[0]), Change(old[1], new[1])]
    assert not found.added and not found.ended
