"""How often an address may fail."""

from __future__ import annotations

from proxy.admin.limits import ADDRESSES_MAX, Failures


def test_some_failures_at_once_then_one_each_period() -> None:
    failures = Failures(burst=3, every_s=10)
    for _ in range(3):
        assert failures.wait_s("a", 100.0) == 0
        failures.failed("a", 100.0)
    assert failures.wait_s("a", 100.0) == 10
    assert failures.wait_s("b", 100.0) == 0
    assert failures.wait_s("a", 104.0) == 6
    assert failures.wait_s("a", 110.0) == 0
    failures.failed("a", 110.0)
    assert failures.wait_s("a", 110.0) == 10


def test_failures_are_forgotten() -> None:
    failures = Failures(burst=2, every_s=10)
    failures.failed("a", 0.0)
    failures.failed("a", 0.0)
    assert failures.wait_s("a", 0.0) == 10
    failures.failed("a", 1000.0)
    assert failures.wait_s("a", 1000.0) == 0


def test_addresses_without_end_do_not_take_memory_without_end() -> None:
    failures = Failures(burst=1, every_s=10)
    failures.failed("first", 0.0)
    for n in range(ADDRESSES_MAX):
        failures.failed(str(n), 0.0)
    assert failures.wait_s("first", 0.0) == 0  # the oldest is forgotten
    assert failures.wait_s("0", 0.0) == 10
