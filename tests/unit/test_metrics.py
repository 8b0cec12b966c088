"""Metrics: names by Prometheus' conventions, bounded labels."""

from __future__ import annotations

import re

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry import metrics

EXPECTED = {
    "sessions": "gauge",
    "pdus": "counter",
    "messages": "counter",
    "refusals": "counter",
    "credits_used": "counter",
    "credits_released": "counter",
    "commit_messages": "histogram",
    "commit_seconds": "histogram",
    "commit_failures": "counter",
    "window_used": "gauge",
    "window_max": "gauge",
    "upstream_up": "gauge",
    "upstream_response_seconds": "histogram",
    "in_doubt_messages": "gauge",
    "in_doubt_credits": "gauge",
    "in_doubt_oldest_seconds": "gauge",
    "held_credits": "gauge",
    "queue_messages": "gauge",
    "deliveries_waiting": "gauge",
    "deliveries": "counter",
    "database_up": "gauge",
    "event_loop_lag_seconds": "gauge",
    "binds": "counter",
    "build": "info",
}


def test_names_and_types() -> None:
    found = {
        family.name.removeprefix("smpp_proxy_"): family.type
        for family in metrics.REGISTRY.collect()
        if family.name.startswith("smpp_proxy_")
    }
    assert EXPECTED.items() <= found.items()
    assert all(re.fullmatch(r"[a-z_]+", name) for name in found)


def test_exposition() -> None:
    metrics.CREDITS_USED.inc(0.25)
    metrics.COMMIT_MESSAGES.labels("charge").observe(3)
    families = {
        family.name: family
        for family in text_string_to_metric_families(generate_latest(metrics.REGISTRY).decode())
    }
    (used, *_) = families["smpp_proxy_credits_used"].samples
    assert used.name == "smpp_proxy_credits_used_total"
    assert used.value >= 0.25
    buckets = [s.labels.get("le") for s in families["smpp_proxy_commit_messages"].samples]
    assert buckets[:3] == ["1.0", "2.0", "5.0"]
    assert "process_resident_memory_bytes" in families
    assert "python_info" in families
    assert families["smpp_proxy_build_info"].samples[0].labels["version"]


def pdus(command: str, status: str) -> float | None:
    labels = {"side": "esme", "direction": "in", "command": command, "status": status}
    return metrics.REGISTRY.get_sample_value("smpp_proxy_pdus_total", labels)


def test_pdu_counter_is_kept() -> None:
    counter = metrics.pdu_counter("esme", "in", "test_request", "ESME_ROK")
    counter.inc(3)
    assert metrics.pdu_counter("esme", "in", "test_request", "ESME_ROK") is counter
    assert pdus("test_request", "ESME_ROK") == 3


def test_invented_statuses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_unlisted", 0)
    monkeypatch.setattr(metrics, "_pdu_children", {})
    for status in range(1000):
        metrics.pdu_counter("esme", "in", "test_resp", f"0x{0x10000 + status:08X}").inc()
    assert pdus("test_resp", "0x00010000") == 1
    assert pdus("test_resp", "other") == 800
    assert len(metrics._pdu_children) == 200
    # What the specification lists still gets its own.
    metrics.pdu_counter("esme", "in", "test_resp", "ESME_RSYSERR").inc()
    assert pdus("test_resp", "ESME_RSYSERR") == 1
