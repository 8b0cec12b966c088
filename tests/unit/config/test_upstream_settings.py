"""[[upstream]] by its kind: carriers, modems and pools."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy import config
from proxy.config import ModemSettings, PoolSettings, SmppUpstreamSettings

CARRIER = """
[[upstream]]
name = "a"
host = "a.example"
system_id = "me"
password = "secret-word"
"""


def modem(name: str = "m", device: str = "/dev/ttyUSB0") -> str:
    return f'\n[[upstream]]\nkind = "modem"\nname = "{name}"\ndevice = "{device}"\n'


def pool(name: str, *modems: str) -> str:
    return f'\n[[upstream]]\nkind = "pool"\nname = "{name}"\nmodems = {list(modems)}\n'


def load(tmp_path: Path, text: str) -> config.Settings:
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    return config.load(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(config.ConfigError) as caught:
        load(tmp_path, text)
    return str(caught.value).splitlines()


def test_the_kind_chooses_the_class_and_a_missing_one_is_a_carrier(tmp_path: Path) -> None:
    settings = load(tmp_path, CARRIER + modem() + pool("p", "m"))
    assert [type(one) for one in settings.upstream] == [
        SmppUpstreamSettings,
        ModemSettings,
        PoolSettings,
    ]
    assert [config.is_modem(one) for one in settings.upstream] == [False, True, True]
    assert config.UpstreamSettings is SmppUpstreamSettings


def test_what_a_modem_has_when_nothing_is_said() -> None:
    one = ModemSettings(name="m", device="/dev/ttyUSB0")
    assert (one.kind, one.baud, one.backlog_max) == ("modem", 115_200, 100)
    assert (one.answer_timeout_s, one.command_timeout_s) == (60, 10)
    assert (one.per_hour, one.pin, one.account, one.rate) == (None, None, None, None)
    assert (one.health.error_rate, one.address.add_prefix, one.on_status) == (0.5, "", {})


def test_statuses_are_numbers_in_hex_or_decimal(tmp_path: Path) -> None:
    text = CARRIER + 'on_status = { 0x0b = "next", "88" = "pass", "0x40B" = "retry", 008 = "pass" }'
    (one,) = load(tmp_path, text).upstream
    assert isinstance(one, SmppUpstreamSettings)
    assert one.on_status == {"0x0B": "next", "0x58": "pass", "0x40B": "retry", "0x08": "pass"}


@pytest.mark.parametrize(
    "device",
    [
        "/dev/ttyUSB0",
        "/dev/serial/by-id/usb-Huawei-if00",
        "usb:12d1:1001",
        "usb:12D1:1001:0123:45",
        "tcp://rack.example:4001",
        "tcp://[::1]:4001",
    ],
)
def test_devices(device: str) -> None:
    assert ModemSettings(name="m", device=device).device == device


@pytest.mark.parametrize(
    "device",
    [
        "",
        "ttyUSB0",
        "COM3",
        "usb:12d1",
        "usb:12d1:10011",
        "usb:12d1:1001:",
        "usb:12g1:1001",
        "tcp://rack.example",
        "tcp://:4001",
        "tcp://rack.example:99999",
        "tcp://rack.example:0",
        "tcp://rack.example:4001/x",
        "tcp://me@rack.example:4001",
        "tcp://[::1:4001",
    ],
)
def test_devices_that_are_none(tmp_path: Path, device: str) -> None:
    (line,) = problems(tmp_path, modem(device=device))
    assert line.startswith("upstream[0].device: should be a path such as"), line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (modem() + "baud = 1\n", "upstream[0].baud: Input should be greater than or equal to 300"),
        (modem() + "pin = 1234\n", "upstream[0].pin: "),
        (modem() + "pin = '123'\n", "upstream[0].pin: should have 4 to 8 digits"),
        (modem() + "pin = '123456789'\n", "upstream[0].pin: should have 4 to 8 digits"),
        (modem() + "pin = '12\u0663\u0664'\n", "upstream[0].pin: should have 4 to 8 digits"),
        (modem() + "smsc = 'SHOP'\n", "upstream[0].smsc: String should match pattern"),
        (modem() + "number = '+'\n", "upstream[0].number: String should match pattern"),
        (modem() + "account = 'a b'\n", "upstream[0].account: String should match pattern"),
        (modem() + "per_day = 0\n", "upstream[0].per_day: Input should be greater than or equal"),
        (modem() + "balance_ussd = '*1\"'\n", "upstream[0].balance_ussd: String should match"),
        (modem() + "rate = 0\n", "upstream[0].rate: Input should be greater than 0"),
        (modem() + "reconnect_max_s = 0.5\n", "upstream[0].reconnect_max_s: should not be below"),
        ("[[upstream]]\nkind = 'modem'\nname = 'm'\n", "upstream[0].device: is missing"),
        ("[[upstream]]\nkind = 'pool'\nname = 'p'\n", "upstream[0].modems: is missing"),
        (pool("p"), "upstream[0].modems: List should have at least 1 item"),
        (CARRIER + "bind_rate = inf\n", "upstream[0].bind_rate: Input should be"),
        (
            CARRIER + "[upstream.health]\nerror_rate = 1.5\n",
            "upstream[0].health.error_rate: Input should be less than or equal to 1",
        ),
        (CARRIER + "health = 1\n", "upstream[0].health: should be a table"),
        (
            CARRIER + "[upstream.address]\nsource_addr = '123456789012345678901'\n",
            "upstream[0].address.source_addr: should have at most 20 ASCII characters",
        ),
        (
            modem() + "[upstream.address]\ndest_addr_ton = 256\n",
            "upstream[0].address.dest_addr_ton: Input should be less than or equal to 255",
        ),
        (
            modem() + "[upstream.address]\nstrip_prefix = '*'\n",
            "upstream[0].address.strip_prefix: String should match pattern",
        ),
        (CARRIER + "on_status = 1\n", "upstream[0].on_status: Input should be a valid dictionary"),
        (
            CARRIER + "on_status = { 0x58 = 'again' }\n",
            "upstream[0].on_status.0x58: Input should be 'pass', 'retry' or 'next'",
        ),
        (
            CARRIER + "on_status = { throttled = 'pass' }\n",
            "upstream[0].on_status: 'throttled' is no command_status",
        ),
        (
            CARRIER + "on_status = { 0 = 'pass' }\n",
            'upstream[0].on_status: "0" should be from 1 to 0xFFFFFFFF',
        ),
        (
            CARRIER + "on_status = { 4294967296 = 'pass' }\n",
            'upstream[0].on_status: "4294967296" should be from 1 to 0xFFFFFFFF',
        ),
        (
            CARRIER + "on_status = { 0x58 = 'pass', 88 = 'next' }\n",
            'upstream[0].on_status: "88" is there already',
        ),
        # keys of another kind
        (
            CARRIER + "device = '/dev/x'\n",
            'upstream[0].device: is a key of kind = "modem", and this is kind = "smpp"',
        ),
        (
            modem() + "host = 'x'\n",
            'upstream[0].host: is a key of kind = "smpp", and this is kind = "modem"',
        ),
        (
            modem() + pool("p", "m") + "rate = 1\n",
            'upstream[1].rate: is a key of kind = "smpp" or "modem", and this is kind = "pool"',
        ),
        (modem() + "bauds = 1\n", "upstream[0].bauds: unknown key (did you mean baud?)"),
        # pools
        (pool("p", "m"), 'upstream[0].modems[0]: there is no upstream "m"'),
        (CARRIER + pool("p", "a"), 'upstream[1].modems[0]: "a" is no modem, but kind = "smpp"'),
        (
            modem() + pool("p", "m") + pool("q", "p"),
            'upstream[2].modems[0]: "p" is no modem, but kind = "pool"',
        ),
        (modem() + pool("p", "m", "m"), 'upstream[1].modems[1]: "m" is there already'),
        (
            modem() + pool("p", "m") + pool("q", "m"),
            'upstream[2].modems[0]: "m" is in pool "p" already',
        ),
        (modem() + pool("m", "m"), 'upstream[1].name: "m" is the name of several upstreams'),
        # one device, one modem
        (
            modem() + modem("n", "/dev//ttyUSB0"),
            'upstream[1].device: "/dev//ttyUSB0" is the device of upstream[0] already',
        ),
        (
            modem("m", "usb:12d1:1001:7") + modem("n", "usb:12D1:1001:7"),
            'upstream[1].device: "usb:12D1:1001:7" is the device of upstream[0] already',
        ),
        (
            modem("m", "usb:12d1:1001") + modem("n", "usb:12D1:1001:7"),
            'upstream[1].device: "usb:12D1:1001:7" may be the device of upstream[0]: both need',
        ),
        (
            modem("m", "tcp://RACK:1") + modem("n", "tcp://rack:1"),
            'upstream[1].device: "tcp://rack:1" is the device of upstream[0] already',
        ),
    ],
)
def test_a_problem_names_the_key(tmp_path: Path, text: str, line: str) -> None:
    found = problems(tmp_path, text)
    assert any(one.startswith(line) for one in found), found


def test_different_devices_are_different(tmp_path: Path) -> None:
    devices = [
        "/dev/ttyUSB0",
        "/dev/ttyUSB1",
        "usb:12d1:1001:7",
        "usb:12d1:1001:8",
        "usb:12d1:1002",
        "tcp://rack:1",
        "tcp://rack:2",
        "tcp://rick:1",
    ]
    text = "".join(modem(f"m{i}", device) for i, device in enumerate(devices))
    assert len(load(tmp_path, text).upstream) == len(devices)


def test_no_secret_is_told(tmp_path: Path) -> None:
    text = modem() + "pin = '13572468'\n"
    assert "13572468" not in repr(load(tmp_path, text))
    for wrong in ("pin = '1357246813572468'", "pin = 13572468", "pin = ['13572468']"):
        assert "13572468" not in "\n".join(problems(tmp_path, modem() + wrong))
