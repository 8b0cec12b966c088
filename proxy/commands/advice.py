"""What a configuration says that is allowed but probably not meant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from proxy.config import ModemSettings, PoolSettings, Settings, SmppUpstreamSettings, StatusSettings
from proxy.flow.refusals import REFUSALS

# Statuses that Kannel's bearerbox takes for temporary: it keeps the message and tries again.
_KANNEL_RETRIES: Final = frozenset({0x08, 0x14, 0x58, 0x64})


_TEMPORARY: Final = frozenset(
    {"draining", "ledger_unreachable", "queue_full", "throttled", "no_upstream", "over_rate"}
)
"""Refusals after which trying again is right."""


def warnings(settings: Settings) -> list[str]:
    """What is allowed but probably not meant, a sentence each."""
    return [
        *_status_warnings(settings.status),
        *_upstream_warnings(settings),
        *_route_warnings(settings),
    ]


def _status_warnings(status: StatusSettings) -> Iterator[str]:
    final = [refusal.status for name, refusal in REFUSALS.items() if name not in _TEMPORARY]
    for key in sorted(set(final)):
        number = getattr(status, key)
        if number in _KANNEL_RETRIES:
            yield f"status.{key}: 0x{number:02X} makes Kannel retry for ever; 0x45 is final."


def _upstream_warnings(settings: Settings) -> Iterator[str]:
    if settings.source is not None and not settings.upstream:
        yield "upstream: there is none, so every message will be refused."
    routed = {name for route in settings.route for name in route.upstreams}
    for one in settings.upstream:
        if isinstance(one, PoolSettings):
            routed.update(one.modems)  # a pool that gets none is told itself
    for i, upstream in enumerate(settings.upstream):
        if settings.route and upstream.name not in routed:
            yield f'upstream[{i}].name: no route names "{upstream.name}", so it gets no messages.'
        if isinstance(upstream, SmppUpstreamSettings):
            if upstream.tls and not upstream.tls_verify:
                yield f"upstream[{i}].tls_verify: anyone in between can pose as this carrier."
            if upstream.tls_ca is not None and not upstream.tls:
                yield f"upstream[{i}].tls_ca: has no effect without tls = true."
            key, answer_s = "response_timeout_s", upstream.response_timeout_s
        elif isinstance(upstream, ModemSettings):
            key, answer_s = "answer_timeout_s", upstream.answer_timeout_s
        else:
            continue
        if settings.in_doubt.policy != "keep" and settings.in_doubt.after_s < 2 * answer_s:
            yield f"in_doubt.after_s: is below twice upstream[{i}].{key}."


def _route_warnings(settings: Settings) -> Iterator[str]:
    kinds = {upstream.kind for upstream in settings.upstream}
    if not settings.route and "smpp" in kinds and len(kinds) > 1:
        yield "route: there is none, and with a modem every message is queued, carriers' too."
    for i, route in enumerate(settings.route):
        if route.hours is None and "timezone" in route.model_fields_set:
            yield f"route[{i}].timezone: has no effect without hours."


def unreadable_files(settings: Settings) -> Iterator[str]:
    """What keeps the proxy from starting, though the file itself is right."""
    files = [
        (f"upstream[{i}].tls_ca", upstream.tls_ca)
        for i, upstream in enumerate(settings.upstream)
        if isinstance(upstream, SmppUpstreamSettings)
    ]
    if settings.smpp.tls is not None:
        files.append(("smpp.tls.certificate", settings.smpp.tls.certificate))
        files.append(("smpp.tls.key", settings.smpp.tls.key))
    for key, path in files:
        if path is not None and not os.access(path, os.R_OK):
            yield f"{key}: {path} cannot be read."
