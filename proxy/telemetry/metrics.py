"""Every metric of the proxy, on a registry of its own, as /metrics shows them.

Labels are bounded: an upstream's name comes from the configuration, commands and statuses
from the specification's lists, and what a peer can invent ends in "other".  `.labels(...)`
costs a lookup under a lock, so hot code calls it once and keeps the child.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks for
REGISTRY: Final = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_COUNT_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SECONDS_BUCKETS: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10,
)  # fmt: skip


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"smpp_proxy_{name}", text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"smpp_proxy_{name}", text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"smpp_proxy_{name}", text, labels, buckets=buckets, registry=REGISTRY)


# --- Sessions and PDUs.  side: "esme" (the customers') or "smsc" (the upstreams').
SESSIONS = _gauge("sessions", "Bound sessions", "side", "bind_type")
BINDS = _counter("binds_total", "Bind attempts of clients by how they ended", "result")
PDUS = _counter(
    "pdus_total", "PDUs; direction is in or out", "side", "direction", "command", "status"
)

# --- Messages and credits.
MESSAGES = _counter("messages_total", "Messages by the state they reached", "state")
REFUSALS = _counter("refusals_total", "Messages refused before any charge", "reason")
CREDITS_USED = _counter("credits_used_total", "Credits taken for messages")
CREDITS_REFUSED = _counter("credits_refused_total", "Credits that refused messages were short of")
CREDITS_RELEASED = _counter("credits_released_total", "Credits given back for messages")
HELD_CREDITS = _gauge("held_credits", "Credits taken for messages that have no outcome yet")
IN_DOUBT_MESSAGES = _gauge("in_doubt_messages", "Messages of which nobody knows the outcome")
IN_DOUBT_CREDITS = _gauge("in_doubt_credits", "Credits taken for messages in doubt")
IN_DOUBT_OLDEST_SECONDS = _gauge("in_doubt_oldest_seconds", "Age of the oldest message in doubt")
LOW_BALANCE_WARNINGS = _counter(
    "low_balance_warnings_total", "Thresholds crossed: absolute, hours or zero", "kind"
)
ACCOUNTS_LOW = _gauge("accounts_low", "Accounts at or below one of their thresholds")
ACCOUNTS_EMPTY = _gauge("accounts_empty", "Accounts that had credit and have none left to spend")
WEBHOOKS = _counter("webhooks_total", "Attempts to send a webhook by how they ended", "result")

# --- The ledger.  lane: which group commit, for example "charge" or "settle".
COMMIT_MESSAGES = _histogram(
    "commit_messages", "Messages committed by one transaction", _COUNT_BUCKETS, "lane"
)
COMMIT_SECONDS = _histogram(
    "commit_seconds", "Duration of one such transaction", _SECONDS_BUCKETS, "lane"
)
COMMIT_FAILURES = _counter("commit_failures_total", "Transactions that failed", "lane")
DATABASE_UP = _gauge("database_up", "1 when the database answered last time, else 0")

# --- Upstreams.
WINDOW_USED = _gauge("window_used", "Unanswered requests to the upstream", "upstream")
WINDOW_MAX = _gauge("window_max", "How many there may be", "upstream")
UPSTREAM_UP = _gauge("upstream_up", "Bound links to the upstream", "upstream")
UPSTREAM_RESPONSE_SECONDS = _histogram(
    "upstream_response_seconds", "From request to response", _SECONDS_BUCKETS, "upstream"
)
UPSTREAM_HEALTHY = _gauge(
    "upstream_healthy", "1 when the upstream is bound and not avoided for its health", "upstream"
)
UPSTREAM_RATE = _gauge(
    "upstream_rate", "Messages a second that may go to the upstream now; 0: any number", "upstream"
)
UPSTREAM_THROTTLED = _counter(
    "upstream_throttled_total",
    "Answers ESME_RTHROTTLED or ESME_RMSGQFUL from the upstream",
    "upstream",
)

FAILOVERS = _counter(
    "failovers_total", "Refused messages that went on to another upstream", "upstream"
)

# --- Modems.
MODEM_SIGNAL_DBM = _gauge("modem_signal_dbm", "Signal strength at the modem", "upstream")
MODEM_REGISTERED = _gauge("modem_registered", "1 when the modem has a network", "upstream")
MODEM_SHORT_MESSAGES = _counter(
    "modem_short_messages_total", "Short messages (parts) written to the modem", "upstream"
)
MODEM_RESTARTS = _counter("modem_restarts_total", "How often the modem was lost", "upstream")
MODEM_LIMIT_LEFT = _gauge(
    "modem_limit_left", "Short messages that the SIM may still send now", "upstream"
)

# --- Waiting.
QUEUE_MESSAGES = _gauge("queue_messages", "Messages waiting inside the proxy", "queue")
DURABLE_QUEUE_MESSAGES = _gauge(
    "durable_queue_messages", "Messages waiting in the database for their upstream", "route"
)
DURABLE_QUEUE_OLDEST_SECONDS = _gauge(
    "durable_queue_oldest_seconds", "How long the oldest that may go has waited", "route"
)
QUEUE_POSTPONED = _counter("queue_postponed_total", "Queued messages that were put off")
DELIVERIES_WAITING = _gauge(
    "deliveries_waiting", "Receipts and mobile-originated messages waiting for their client"
)
DELIVERIES = _counter(
    "deliveries_total", "Receipts and mobile-originated messages by their end", "kind", "state"
)
EVENT_LOOP_LAG_SECONDS = _gauge(
    "event_loop_lag_seconds", "How late the event loop woke up last time"
)


def _version() -> str:
    try:
        return version("smpp-credit-proxy")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "unknown"


VERSION: Final = _version()
BUILD = Info("smpp_proxy_build", "What is running", registry=REGISTRY)
BUILD.info({"version": VERSION})


# --------------------------------------------------------------------- counting PDUs

UNLISTED_MAX: Final = 200

_pdu_children: dict[tuple[str, str, str, str], Counter] = {}
_unlisted = 0


def pdu_counter(side: str, direction: str, command: str, status: str) -> Counter:
    """The counter of such PDUs; call `.inc(n)` on it.

    `status` is the specification's name or 0x…: of the latter, which a peer can invent at
    will, only the first 200 get a counter each, and the others share one, "other".
    """
    global _unlisted  # noqa: PLW0603 - one process, one registry
    key = (side, direction, command, status)
    child = _pdu_children.get(key)
    if child is None:
        if status.startswith("0x"):
            if _unlisted >= UNLISTED_MAX:
                return PDUS.labels(side, direction, command, "other")
            _unlisted += 1
        child = _pdu_children[key] = PDUS.labels(*key)
    return child
