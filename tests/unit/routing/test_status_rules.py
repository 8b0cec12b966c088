from __future__ import annotations

import pytest

from proxy.config import SmppUpstreamSettings
from proxy.routing.status_rules import ABOUT_CARRIER, THROTTLING, Rules


@pytest.mark.parametrize(
    ("status", "rule"),
    [
        (0x58, "retry"), (0x14, "retry"),
        (0x04, "next"), (0x08, "next"), (0x0D, "next"), (0x64, "next"),
        (0x0A, "pass"), (0x0B, "pass"), (0x45, "pass"), (0x65, "pass"), (0xFE, "pass"),
        (0x02, "pass"), (0x03, "pass"), (0xFF, "pass"),  # what a generic_nack carries
        (0x400, "pass"), (0xFFFFFFFF, "pass"), (0, "pass"),
    ],
)  # fmt: skip
def test_without_rules_of_the_operators(status: int, rule: str) -> None:
    assert Rules({}).rule(status) == rule


def test_the_operators_rules_go_before() -> None:
    rules = Rules({"0x58": "pass", "0X0b": "next", "69": "retry", "1024": "next", "0xFF": "retry"})
    assert [rules.rule(s) for s in (0x58, 0x0B, 0x45, 0x400, 0xFF)] == [
        "pass", "next", "retry", "next", "retry",
    ]  # fmt: skip
    assert rules.rule(0x14) == "retry", "the others stay"
    assert Rules({}).rule(0x58) == "retry", "and are not another upstream's"


def test_what_the_configuration_takes_is_taken() -> None:
    settings = SmppUpstreamSettings.model_validate(
        {
            "name": "a", "host": "h", "system_id": "s", "password": "p",
            "on_status": {"88": "next", "0xb": "retry"},
        }
    )  # fmt: skip
    rules = Rules(settings.on_status)
    assert (rules.rule(0x58), rules.rule(0x0B)) == ("next", "retry")


@pytest.mark.parametrize("on_status", [{"0x58": "again"}, {"many": "pass"}, {"0x": "pass"}])
def test_nonsense_is_not_taken_for_a_rule(on_status: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"is not|invalid literal"):
        Rules(on_status)


def test_too_fast_is_not_the_same_as_unwell() -> None:
    assert not THROTTLING & ABOUT_CARRIER
