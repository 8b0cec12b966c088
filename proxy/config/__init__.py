"""The configuration file (TOML) as typed, frozen settings.

`config/proxy.example.toml` explains every key; a key that is not known here is an error
that names it.  Accounts, credits and prices are not here: they live in the database and
change without a restart.  Durations end in `_s` (seconds), sizes in `_octets`.
"""

from __future__ import annotations

from proxy.config.load import ENVIRONMENT_VARIABLE, ConfigError, find, load
from proxy.config.routes import Mode, Policy, RouteSettings
from proxy.config.sections import (
    DatabaseSettings,
    DeliverySettings,
    HttpSettings,
    InDoubtSettings,
    LoggingSettings,
    QueueSettings,
    RetrySettings,
    SmppSettings,
    StatusSettings,
    TlsSettings,
    WebhookSettings,
)
from proxy.config.settings import Settings, is_modem
from proxy.config.upstreams import (
    AddressSettings,
    HealthSettings,
    ModemSettings,
    PoolSettings,
    SmppUpstreamSettings,
    UpstreamSettings,
    UpstreamUnion,
)

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "AddressSettings",
    "ConfigError",
    "DatabaseSettings",
    "DeliverySettings",
    "HealthSettings",
    "HttpSettings",
    "InDoubtSettings",
    "LoggingSettings",
    "Mode",
    "ModemSettings",
    "Policy",
    "PoolSettings",
    "QueueSettings",
    "RetrySettings",
    "RouteSettings",
    "Settings",
    "SmppSettings",
    "SmppUpstreamSettings",
    "StatusSettings",
    "TlsSettings",
    "UpstreamSettings",
    "UpstreamUnion",
    "WebhookSettings",
    "find",
    "is_modem",
    "load",
]
