from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.gsm.inbound import deliver_sm_of
from proxy.gsm.reassembly import Reassembly, Whole
from proxy.gsm.tpdu import Deliver, Number, TpduError, decode_deliver

ALICE = Number(1, 1, "447700900123")
BOB = Number(1, 1, "447700900124")


def part(
    number: int,
    text: bytes = b"",
    *,
    total: int = 3,
    reference: int = 7,
    long: bool = False,
    more: bytes = b"",
    **values: Any,
) -> Deliver:
    if long:
        element = b"\x08\x04" + reference.to_bytes(2) + bytes((total, number))
    else:
        element = b"\0\3" + bytes((reference, total, number))
    header = element + more
    made = Deliver(
        ALICE, 0, 0, 1.0, True, True, False, False, bytes((len(header),)) + header + text
    )
    return made._replace(**values)


def texts(found: list[Whole]) -> list[bytes]:
    return [deliver.user_data for deliver, _ in found]


def test_a_message_that_is_no_part_comes_out_at_once() -> None:
    parts = Reassembly()
    for alone in (
        part(1, b"x", total=1),
        part(4, b"part 4 of 3"),
        part(1)._replace(udhi=False),
        part(1)._replace(user_data=b"\x06\x05\x04\x0b\x84\x23\xf0data"),
        part(1)._replace(user_data=b"\x07\0\3\1\2\1"),
        part(1)._replace(user_data=b""),
    ):
        assert parts.add(alone, "slot", 0.0) == [(alone, ["slot"])]
    assert len(parts) == 0


def test_parts_in_any_order_become_the_message_with_all_their_keys() -> None:
    parts = Reassembly()
    assert parts.add(part(3, b"!"), 11, 0.0) == []
    assert parts.add(part(1, b"hello "), 12, 1.0) == []
    last = part(2, b"world")._replace(sent_at_s=2.0)
    assert parts.add(last, 13, 2.0) == [
        (Deliver(ALICE, 0, 0, 1.0, False, True, False, False, b"hello world!"), [12, 13, 11])
    ]
    assert len(parts) == 0
    assert parts.due(1e9) == []


def test_messages_are_told_apart() -> None:
    parts = Reassembly()
    for key, other in enumerate(
        (
            part(1, b"a", total=2),
            part(1, b"b", total=2, source=BOB),
            part(1, b"c", total=2, reference=8),
            part(1, b"d", total=2, long=True),
            part(1, b"e", total=3),
        )
    ):
        assert parts.add(other, key, 0.0) == []
    assert texts(parts.add(part(2, b"A", total=2), 9, 0.0)) == [b"aA"]
    assert texts(parts.add(part(2, b"B", total=2, source=BOB), 9, 0.0)) == [b"bB"]
    assert texts(parts.add(part(2, b"C", total=2, reference=8), 9, 0.0)) == [b"cC"]
    assert texts(parts.add(part(2, b"D", total=2, long=True), 9, 0.0)) == [b"dD"]
    assert len(parts) == 1


def test_a_part_that_is_listed_again_brings_its_key_only() -> None:
    parts = Reassembly()
    parts.add(part(1, b"a", total=2), 1, 0.0)
    parts.add(part(1, b"a", total=2), 1, 0.0)  # the same slot
    parts.add(part(1, b"a", total=2), 5, 0.0)  # a copy in another
    assert len(parts) == 2
    assert parts.add(part(2, b"b", total=2), 3, 0.0)[0][1] == [1, 5, 3]


def test_a_reference_that_is_used_again_gives_the_old_message_up() -> None:
    parts = Reassembly()
    old = part(1, b"old", total=2)
    parts.add(old, 1, 0.0)
    assert parts.add(part(1, b"new", total=2), 2, 5.0) == [(old, [1])]
    assert texts(parts.add(part(2, b"!", total=2), 3, 5.0)) == [b"new!"]


def test_what_waits_too_long_comes_out_as_it_is() -> None:
    parts = Reassembly(age_max_s=100.0)
    first, second = part(2, b"b"), part(1, b"a")
    parts.add(first, 1, 0.0)
    parts.add(second, 2, 60.0)
    parts.add(part(1, b"x", reference=9), 3, 60.0)
    assert parts.due(99.9) == []
    assert parts.due(100.0) == [(second, [2]), (first, [1])]
    alone = part(1, total=1)
    found = parts.add(alone, 4, 160.0)
    assert [keys for _, keys in found] == [[3], [4]]
    assert len(parts) == 0


def test_the_number_of_parts_is_limited() -> None:
    parts = Reassembly(parts_max=3)
    for reference in range(3):
        assert parts.add(part(1, reference=reference), reference, 0.0) == []
    assert [keys for _, keys in parts.add(part(1, reference=3), 3, 0.0)] == [[0]]
    assert len(parts) == 3
    # Also copies of one part, of a message that is the only one.
    one = Reassembly(parts_max=2)
    assert one.add(part(1), 1, 0.0) == one.add(part(1), 2, 0.0) == []
    assert one.add(part(1), 3, 0.0) == [(part(1), [1, 2, 3])]


def test_a_whole_message_at_the_limit_is_whole() -> None:
    parts = Reassembly(parts_max=1)
    parts.add(part(1, b"a", total=2), 1, 0.0)
    assert texts(parts.add(part(2, b"b", total=2), 2, 0.0)) == [b"ab"]


def test_nothing_is_held_after_forgetting() -> None:
    parts = Reassembly()
    parts.add(part(1, b"a", total=2), 1, 0.0)
    parts.forget()
    assert len(parts) == 0
    assert parts.add(part(2, b"b", total=2), 2, 0.0) == []


def test_other_elements_of_the_header_stay() -> None:
    parts = Reassembly()
    ports = b"\x05\x04\x0b\x84\x23\xf0"
    parts.add(part(1, b"da", total=2, more=ports, data_coding=4), 1, 0.0)
    ((whole, _),) = parts.add(part(2, b"ta", total=2, more=ports, data_coding=4), 2, 0.0)
    assert whole.udhi
    assert whole.user_data == b"\x06" + ports + b"data"


def test_parts_in_different_alphabets_become_one_text() -> None:
    parts = Reassembly()
    parts.add(part(1, b"a\x1be", total=2), 1, 0.0)
    smile = "😀".encode("utf-16-be")
    ((whole, _),) = parts.add(part(2, smile, total=2, data_coding=8), 2, 0.0)
    assert (whole.data_coding, whole.user_data.decode("utf-16-be")) == (8, "a€😀")


def test_parts_that_make_no_text_come_out_one_by_one() -> None:
    turkish = b"\x24\x01\x01"
    for first, second in (
        (part(1, b"a", total=2), part(2, b"b", total=2, data_coding=4)),
        (part(1, b"a", total=2, more=turkish), part(2, b"\0b", total=2, data_coding=8)),
    ):
        parts = Reassembly()
        parts.add(first, 1, 0.0)
        assert parts.add(second, 2, 0.0) == [(first, [1]), (second, [2])]


def test_a_whole_that_no_deliver_sm_can_hold_comes_out_one_by_one() -> None:
    parts = Reassembly()
    for number in range(1, 255):
        assert parts.add(part(number, b"a" * 153, total=255), number, 0.0) == []
    # 254 of 153 characters, in UCS-2 because of the last one: over 65,535 octets.
    found = parts.add(part(255, b"\0a" * 67, total=255, data_coding=8), 255, 0.0)
    assert len(found) == 255
    assert deliver_sm_of(found[0][0], "1")


deliveries = st.one_of(
    st.builds(
        part,
        st.integers(0, 4),
        st.sampled_from([b"", b"a", b"b"]),
        reference=st.integers(0, 1),
        long=st.booleans(),
        total=st.integers(0, 4),
        source=st.sampled_from([ALICE, BOB]),
        data_coding=st.sampled_from([0, 4, 8]),
    ),
    st.binary(max_size=20).map(lambda octets: part(1)._replace(user_data=octets)),
)


@given(st.lists(st.tuples(deliveries, st.floats(0, 30)), max_size=40), st.integers(0, 8))
def test_every_key_comes_out_exactly_once(
    arrivals: list[tuple[Deliver, float]], parts_max: int
) -> None:
    parts = Reassembly(age_max_s=100.0, parts_max=parts_max)
    out: list[Whole] = []
    now_s = 0.0
    for key, (deliver, pause_s) in enumerate(arrivals):
        now_s += pause_s
        out += parts.add(deliver, key, now_s)
        assert len(parts) <= parts_max
        assert len(parts) + sum(len(keys) for _, keys in out) == key + 1
    out += parts.due(now_s + 101.0)
    assert len(parts) == 0
    assert sorted(key for _, keys in out for key in keys) == list(range(len(arrivals)))  # type: ignore[type-var]
    for deliver, _ in out:
        deliver_sm_of(deliver, "1")


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_any_octets(tpdus: list[bytes]) -> None:
    parts = Reassembly()
    for key, octets in enumerate(tpdus):
        try:
            deliver = decode_deliver(octets)
        except TpduError:
            continue
        parts.add(deliver, key, 0.0)
