"""The sections that stand in the file once: [database], [smpp], [http], [status] and so on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from proxy.config.fields import (
    CommandStatus,
    Count,
    FilePath,
    Host,
    HttpUrl,
    ListenPort,
    Seconds,
    SecondsOrOff,
    Section,
    SystemId,
)


class DatabaseSettings(Section):
    """Which PostgreSQL, and how long to wait for it."""

    url: str = Field(default="embedded", repr=False)  # may hold a password
    data_dir: FilePath | None = None
    connect_timeout_s: Seconds = 10
    statement_timeout_s: Seconds = 15

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if url != "embedded" and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError('should be "embedded" or begin with postgresql://')
        return url

    @property
    def embedded(self) -> bool:
        """Whether the proxy runs PostgreSQL itself."""
        return self.url == "embedded"

    @property
    def data_directory(self) -> Path:
        """The directory of everything that is kept on disk, chosen now if not configured."""
        if self.data_dir is not None:
            return self.data_dir
        base = Path(os.environ.get("XDG_DATA_HOME", ""))
        # The XDG specification: a path that is not absolute is to be ignored.
        return (base if base.is_absolute() else Path.home() / ".local/share") / "smpp-proxy"


class TlsSettings(Section):
    """The listener for clients that speak TLS, beside the plain one."""

    port: ListenPort = 3550
    certificate: FilePath
    key: FilePath


class SmppSettings(Section):
    """The side that clients (ESMEs) connect to."""

    host: Host = "127.0.0.1"
    port: ListenPort = 2775
    system_id: SystemId = "smpp-proxy"
    max_sessions: Count = 1000
    max_pdu_octets: Annotated[int, Field(ge=256, le=16 * 1024 * 1024)] = 70_000
    window_max: Count = 1000
    deliver_window_max: Count = 10
    session_init_timeout_s: Seconds = 10
    enquire_link_s: Seconds = 30
    inactivity_timeout_s: SecondsOrOff = 0
    response_timeout_s: Seconds = 30
    balance_address: Annotated[str, Field(pattern=r"^\+?[0-9A-Za-z]{0,20}$")] = ""
    tls: TlsSettings | None = None


class HttpSettings(Section):
    """Health, readiness and metrics."""

    enabled: bool = True
    host: Host = "127.0.0.1"
    port: ListenPort = 8080
    # X-Forwarded-For and -Proto are believed: only behind a proxy that sets them.
    trust_forwarded: bool = False


class StatusSettings(Section):
    """The command_status that each refusal sends to the client."""

    insufficient_credits: CommandStatus = 0x45
    account_disabled: CommandStatus = 0x45
    account_expired: CommandStatus = 0x45
    daily_cap: CommandStatus = 0x45
    monthly_cap: CommandStatus = 0x45
    daily_messages: CommandStatus = 0x45
    over_rate: CommandStatus = 0x58
    source_not_allowed: CommandStatus = 0x0A
    destination_not_allowed: CommandStatus = 0x0B
    no_price: CommandStatus = 0x0B
    not_sold: CommandStatus = 0x0B
    no_route: CommandStatus = 0x0B
    no_upstream: CommandStatus = 0x08
    throttled: CommandStatus = 0x58
    ledger_unreachable: CommandStatus = 0x08
    queue_full: CommandStatus = 0x14
    in_doubt: CommandStatus = 0xFF


class RetrySettings(Section):
    """A message whose client waits, and which its carrier refused for now or for good."""

    patience_s: Seconds = 20
    delay_s: Seconds = 1
    tries_max: Count = 3


class QueueSettings(Section):
    """Messages of queued routes that wait in the database for their upstream."""

    max_age_s: Seconds = 259_200
    retry_min_s: Seconds = 5
    retry_max_s: Seconds = 900
    messages_max: Count = 5_000_000


class InDoubtSettings(Section):
    """What becomes of a charge when the carrier never says what it did with the message."""

    policy: Literal["charge", "release", "keep"] = "charge"
    after_s: Seconds = 86_400


class DeliverySettings(Section):
    """Receipts and mobile-originated messages that wait for their client."""

    max_age_s: Seconds = 259_200
    retry_min_s: Seconds = 5
    retry_max_s: Seconds = 600


class WebhookSettings(Section):
    """Whom to tell that an account is low or empty."""

    url: HttpUrl | None = Field(default=None, repr=False)
    secret: Annotated[SecretStr, Field(min_length=1)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 10


class LoggingSettings(Section):
    """What is written to stderr, and how."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    mask_numbers: bool = True
