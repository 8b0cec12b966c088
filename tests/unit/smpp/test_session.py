"""The table of who may send what, looped over all states and commands.

The expected table is written out here once more, in another shape: per command the states in
which SMPP 3.4 (table 2-1) lets it through, so that a slip in one of the two shows.
"""

from __future__ import annotations

import itertools

import pytest

from proxy.smpp.session import (
    BIND_TYPE,
    ESME_MAY_SEND,
    SMSC_MAY_SEND,
    STATE_OF_BIND,
    SessionState,
    refusal,
)

OPEN, TX, RX, TRX, CLOSED = SessionState
RESP = 0x80000000
TO_SMSC = {"query_sm": 3, "submit_sm": 4, "replace_sm": 7, "cancel_sm": 8, "submit_multi": 0x21}
BINDS = {"bind_receiver": 1, "bind_transmitter": 2, "bind_transceiver": 9}
ALWAYS = {OPEN, TX, RX, TRX}
BOUND = {TX, RX, TRX}

ESME: dict[int, set[SessionState]] = {
    RESP: ALWAYS,
    0x15: ALWAYS,
    0x15 | RESP: ALWAYS,
    0x06: BOUND,
    0x06 | RESP: BOUND,
    **{command: {OPEN} for command in BINDS.values()},
    **{command: {TX, TRX} for command in TO_SMSC.values()},
    0x103: {TX, TRX},
    0x05 | RESP: {RX, TRX},
    0x103 | RESP: {RX, TRX},
}
SMSC: dict[int, set[SessionState]] = {
    RESP: ALWAYS,
    0x15: ALWAYS,
    0x15 | RESP: ALWAYS,
    0x06: BOUND,
    0x06 | RESP: BOUND,
    0x0B: {OPEN},
    **{command | RESP: {OPEN} for command in BINDS.values()},
    **{command | RESP: {TX, TRX} for command in TO_SMSC.values()},
    0x103 | RESP: {TX, TRX},
    0x05: {RX, TRX},
    0x103: {RX, TRX},
    0x102: {RX, TRX},
}
REQUESTS = [*BINDS.values(), *TO_SMSC.values(), 0x05, 0x06, 0x0B, 0x15, 0x102, 0x103]
UNKNOWN = [0, 0x0A, 0x22, 0x111, 0x112, 0x10200, 0x7FFFFFFF]
COMMANDS = sorted({c | r for c in (*REQUESTS, *UNKNOWN) for r in (0, RESP)})


@pytest.mark.parametrize(("table", "expected"), [(ESME_MAY_SEND, ESME), (SMSC_MAY_SEND, SMSC)])
def test_every_state_and_command(
    table: dict[SessionState, frozenset[int]], expected: dict[int, set[SessionState]]
) -> None:
    assert set(table) == set(SessionState)
    for state, command_id in itertools.product(SessionState, COMMANDS):
        allowed = state in expected.get(command_id, set())
        assert (command_id in table[state]) is allowed, f"0x{command_id:08X} in {state.name}"
    assert not set().union(*table.values()) - set(COMMANDS)


@pytest.mark.parametrize("state", SessionState)
def test_a_forbidden_command_is_refused_with_the_status_of_the_specification(
    state: SessionState,
) -> None:
    for command_id in set(COMMANDS) - ESME_MAY_SEND[state]:
        answer = refusal(command_id, state)
        if command_id & RESP or command_id in (0x0B, 0x102):
            assert answer is None, "no answer to a response, nor to what has none"
        elif command_id in UNKNOWN:
            assert answer == (RESP, 0x03)
        elif command_id in BINDS.values() and state != OPEN:
            assert answer == (command_id | RESP, 0x05)
        else:
            assert answer == (command_id | RESP, 0x04)


def test_what_is_bound_can_be_bound_by_one_command() -> None:
    assert STATE_OF_BIND == {1: RX, 2: TX, 9: TRX}
    assert BIND_TYPE == {TX: "transmitter", RX: "receiver", TRX: "transceiver"}


def test_a_transceiver_is_a_transmitter_and_a_receiver() -> None:
    for table in (ESME_MAY_SEND, SMSC_MAY_SEND):
        assert table[TRX] == table[TX] | table[RX]
