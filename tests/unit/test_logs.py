"""Log lines: where they go, what they look like, and that numbers are masked."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from proxy.config import LoggingSettings
from proxy.telemetry.logs import Numbers, mask_number, masked, setup_logging


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    Numbers.mask = True


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_json_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    early = structlog.get_logger()
    setup_logging(LoggingSettings())  # "auto", and the captured stderr is no terminal
    early.info("upstream_up", upstream="a", links=2)
    (line,) = json_lines(capsys)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {"event": "upstream_up", "level": "info", "upstream": "a", "links": 2}


def test_standard_library_goes_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(LoggingSettings(format="json"))
    logging.getLogger("asyncio").warning("slow: %s", 3)
    logging.getLogger("uvicorn.error").info("housekeeping")
    warnings.warn("old thing", stacklevel=1)
    slow, old = json_lines(capsys)
    assert (slow["event"], slow["level"]) == ("slow: 3", "warning")
    assert "old thing" in str(old["event"])


def test_level(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(LoggingSettings(format="json", level="warning"))
    structlog.get_logger().info("quiet")
    logging.getLogger("x").info("quiet")
    structlog.get_logger().error("loud")
    assert [line["event"] for line in json_lines(capsys)] == ["loud"]


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_traceback_shows_no_locals(capsys: pytest.CaptureFixture[str], format_: str) -> None:
    setup_logging(LoggingSettings.model_validate({"format": format_}))
    secret = "text of a " + "message"
    try:
        int("x" if secret else "y")
    except ValueError:
        structlog.get_logger().exception("failed")
    text = capsys.readouterr().err
    assert "ValueError" in text
    assert "text of a message" not in text


def test_console(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(LoggingSettings(format="console"))
    structlog.get_logger().info("ready", port=2775)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "ready" in captured.err
    assert "port=2775" in captured.err
    assert "\x1b" not in captured.err  # no colours where there is no terminal


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("447912345621", "4479******21"),
        ("123456789", "1234***89"),
        ("12345678", "******78"),
        ("12345", "***45"),
        ("12", "12"),
        ("", ""),
    ],
)
def test_mask(number: str, expected: str) -> None:
    assert mask_number(number, True) == expected
    assert mask_number(number, False) == number


def test_masked_follows_the_configuration() -> None:
    assert masked("447912345621") == "4479******21"
    setup_logging(LoggingSettings(mask_numbers=False))
    assert masked("447912345621") == "447912345621"
