"""The command line of the simulated modem, without a modem."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.simulator.modem_at import (
    DATA_OCTETS_MAX,
    INPUT_OCTETS_MAX,
    LINE_OCTETS_MAX,
    AtError,
    Command,
    Format,
    Later,
    Prompt,
    Reply,
    Terminal,
    split_commands,
)


class Host:
    """Knows a few commands; time passes when `pass_time` is called."""

    def __init__(self, **how: int) -> None:
        self.format = Format(**how)  # type: ignore[arg-type]
        self.ran: list[Command] = []
        self.data: list[bytes] = []
        self.out = b""
        self.later_calls: list[Callable[[], None]] = []
        self.terminal = Terminal(self)

    def run(self, command: Command) -> Reply:
        self.ran.append(command)
        if command.name == "+SLOW":
            return Later(1, lambda: ["+SLOW: done"])
        if command.name in ("+DATA", "+TEXT"):
            return Prompt(self.take, text=command.name == "+TEXT")
        if command.name == "+CME":
            raise AtError("CME", 11)
        if command.name == "+CMS":
            raise AtError("CMS", 331)
        if command.name == "+DIE":
            self.terminal.reset()
            raise AtError
        if command.name == "E":
            self.format.echo = command.text == "1"
        return [f"{command.name}: {command.text}"] if command.name.startswith("+") else []

    def take(self, data: bytes) -> Reply:
        self.data.append(data)
        return ["+DATA: taken"]

    def write(self, octets: bytes) -> None:
        self.out += octets

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        self.later_calls.append(action)

    def pass_time(self) -> None:
        calls, self.later_calls = self.later_calls, []
        for call in calls:
            call()

    def hear(self, octets: bytes) -> bytes:
        """What it answers to these octets at once."""
        self.out = b""
        self.terminal.receive(octets)
        return self.out


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("", []),
        ("E0", [("E", "set", "0")]),
        ("E0V1&FZ", [("E", "set", "0"), ("V", "set", "1"), ("&F", "run", ""), ("Z", "run", "")]),
        ("e1+cmee=2;+CREG?", [("E", "set", "1"), ("+CMEE", "set", "2"), ("+CREG", "read", "")]),
        ("+CPMS=?", [("+CPMS", "test", "")]),
        ('+CUSD=1,"*1;2#",15;+CSQ', [("+CUSD", "set", '1,"*1;2#",15'), ("+CSQ", "run", "")]),
        ("S3=13S0?", [("S3", "set", "13"), ("S0", "read", "")]),
        ("DT123,;", [("D", "run", "T123,;")]),
        ("^CPIN?;*X;", [("^CPIN", "read", ""), ("*X", "run", "")]),
    ],
)
def test_a_line_is_cut_into_commands(line: str, commands: list[tuple[str, str, str]]) -> None:
    assert split_commands(line) == commands


@pytest.mark.parametrize("line", ["?", "+", "+=1", "+CREG?1", "é", '"', "&", "+CSQ 5", "1"])
def test_nonsense_is_an_error(line: str) -> None:
    with pytest.raises(AtError):
        split_commands(line)


def test_values_are_without_quotation_marks_and_keep_leading_zeros() -> None:
    command = Command("+X", "set", '"00,1" , 0815,,"a b"')
    assert command.values == ["00,1", "0815", "", "a b"]
    assert command.number(1, 0, 1000) == 815
    assert command.number(2, 0, 9, 7) == 7
    assert command.value(9, "else") == "else"
    for index in (0, 2, 3, 9):
        with pytest.raises(AtError):
            command.number(index, 0, 1000)
    with pytest.raises(AtError):
        command.number(1, 0, 814)


def test_answers_are_written_as_v250_says() -> None:
    assert Host().hear(b"AT+X=1\r") == b"AT+X=1\r\r\n+X: 1\r\n\r\nOK\r\n"
    assert Host(echo=False).hear(b"AT+X=1\r") == b"\r\n+X: 1\r\n\r\nOK\r\n"
    assert Host(echo=False, verbose=False).hear(b"AT+X=1\r") == b"+X: 1\r\n0\r"
    assert Host(echo=False, quiet=True).hear(b"AT;+CMS\r") == b""
    assert Host(echo=False, verbose=False).hear(b"AT+=\r") == b"4\r"


@pytest.mark.parametrize(
    ("cmee", "answer"),
    [(0, b"ERROR"), (1, b"+CME ERROR: 11"), (2, b"+CME ERROR: SIM PIN required")],
)
def test_cmee_says_how_errors_look(cmee: int, answer: bytes) -> None:
    host = Host(echo=False, cmee=cmee)
    assert host.hear(b"AT+CME\r") == b"\r\n" + answer + b"\r\n"
    assert host.hear(b"AT+CMS\r") == b"\r\n+CMS ERROR: 331\r\n", "always with its number"


def test_the_first_error_ends_the_line() -> None:
    host = Host(echo=False, cmee=1)
    assert host.hear(b"AT+A;+CME;+B\r") == b"\r\n+A: \r\n\r\n+CME ERROR: 11\r\n"
    assert [command.name for command in host.ran] == ["+A", "+CME"]


def test_noise_before_at_and_lines_without_it_are_ignored() -> None:
    host = Host(echo=False)
    assert host.hear(b"\x00\xff07911326AT+X\r") == b"\r\n+X: \r\n\r\nOK\r\n"
    assert host.hear(b"hello\r\n\r\x1a\n") == b""
    assert host.hear(b"AX\bT+X\r") == b"\r\n+X: \r\n\r\nOK\r\n"
    assert host.hear(b"AT+NO\x1bat\r") == b"\r\nOK\r\n"


def test_a_slash_repeats_the_last_line() -> None:
    host = Host(echo=False)
    host.hear(b'AT+X="A/b"\r')
    assert host.hear(b"A/") == b'\r\n+X: "A/b"\r\n\r\nOK\r\n'
    assert len(host.ran) == 2


def test_an_overlong_line_is_one_error_and_not_kept() -> None:
    host = Host(echo=False)
    for _ in range(5):
        assert host.hear(b"AT" + b";" * LINE_OCTETS_MAX) == b""
    assert host.hear(b"\r") == b"\r\nERROR\r\n"
    assert host.hear(b"AT\r") == b"\r\nOK\r\n"


def test_data_ends_with_ctrl_z() -> None:
    host = Host(echo=False)
    assert host.hear(b"AT+DATA=1\r") == b"\r\n> "
    assert host.hear(b"AT\rx\x08") == b""
    assert host.hear(b"\x1aAT\r") == b"\r\n+DATA: taken\r\n\r\nOK\r\n\r\nOK\r\n"
    assert host.data == [b"AT\rx\x08"]


def test_typed_text_is_prompted_for_line_by_line() -> None:
    host = Host()
    host.hear(b"AT+TEXT\r")
    assert host.hear(b"hx\bi\r") == b"hx\bi\r\n> "
    host.hear(b"you\x1a")
    assert host.data == [b"hi\ryou"]


def test_data_is_abandoned_with_esc() -> None:
    host = Host(echo=False)
    host.hear(b"AT+DATA=1;+B\r0011")
    assert host.hear(b"\x1b") == b"\r\nOK\r\n"
    assert host.hear(b"AT\r") == b"\r\nOK\r\n"
    assert host.data == []
    assert [command.name for command in host.ran] == ["+DATA"]


def test_endless_data_is_not_kept() -> None:
    host = Host(echo=False)
    host.hear(b"AT+DATA\r")
    for _ in range(5):
        host.hear(b"0" * DATA_OCTETS_MAX)
    host.hear(b"\x1a")
    assert len(host.data[0]) == DATA_OCTETS_MAX


def test_while_a_command_runs_input_and_announcements_wait() -> None:
    host = Host(echo=False)
    assert host.hear(b"AT+A;+SLOW;+B\rAT+C\r") == b"\r\n+A: \r\n"
    host.terminal.announce("+CMTI: 1")
    assert host.out == b"\r\n+A: \r\n"
    host.out = b""
    host.pass_time()
    first, _, rest = host.out.partition(b"\r\nOK\r\n")
    assert first == b"\r\n+SLOW: done\r\n\r\n+B: \r\n"
    assert rest == b"\r\n+C: \r\n\r\nOK\r\n\r\n+CMTI: 1\r\n"


def test_an_announcement_does_not_come_between_prompt_and_data() -> None:
    host = Host(echo=False)
    host.hear(b"AT+DATA\r")
    host.terminal.announce("RING")
    assert host.out == b"\r\n> "
    assert host.hear(b"\x1a") == b"\r\n+DATA: taken\r\n\r\nOK\r\n\r\nRING\r\n"


def test_input_while_a_command_runs_is_bounded() -> None:
    host = Host(echo=False)
    host.hear(b"AT+SLOW\r")
    for _ in range(5):
        host.hear(b"\r" * INPUT_OCTETS_MAX)
    host.hear(b"AT+LOST\r")
    host.pass_time()
    assert [command.name for command in host.ran] == ["+SLOW"]
    assert host.hear(b"AT\r") == b"\r\nOK\r\n"


def test_a_reset_leaves_everything_without_an_answer() -> None:
    host = Host(echo=False)
    host.hear(b"AT+SLOW;+B\r")
    host.terminal.reset()
    host.pass_time()
    assert host.out == b""
    assert host.hear(b"AT+A;+DIE;+B\r") == b"\r\n+A: \r\n"
    assert host.hear(b"AT\r") == b"\r\nOK\r\n"
    assert [command.name for command in host.ran] == ["+SLOW", "+A", "+DIE"]


def test_a_late_echo_comes_after_the_answer() -> None:
    host = Host()
    host.terminal.late_echo = True
    assert host.hear(b"AT+X\r") == b"\r\n+X: \r\n\r\nOK\r\nAT+X\r"
    assert host.hear(b"noise\r") == b"noise\r"


@given(st.data())
def test_it_does_not_matter_how_octets_are_cut(data: st.DataObject) -> None:
    dialogue = b"AT\rATE0;+X=1\rAT+DATA\r0011\x1aA/AT+TEXT\rhi\r\x1b\rAT+CME;+Y\rAT&F\r"
    whole, pieces = Host(), Host()
    whole.hear(dialogue)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(dialogue)), max_size=20)))
    out = b""
    for start, end in zip([0, *cuts], [*cuts, len(dialogue)], strict=True):
        out += pieces.hear(dialogue[start:end])
    assert out == whole.out
    assert pieces.ran == whole.ran


@given(st.lists(st.binary() | st.sampled_from([b"AT", b"\r", b"+DATA", b"\x1a", b"E1", b'"'])))
def test_whatever_comes_it_goes_on(octets: list[bytes]) -> None:
    host = Host(echo=False)
    for some in octets:
        host.hear(some)
        host.pass_time()
    host.hear(b"\x1b\r")
    assert host.hear(b"AT+ALIVE\r").endswith(b"\r\n+ALIVE: \r\n\r\nOK\r\n")
