"""The configuration file (TOML) as typed, frozen settings.

`config/proxy.example.toml` explains every key; a key that is not known here is an error
that names it.  Accounts, credits and prices are not here: they live in the database and
change without a restart.  Durations end in `_s` (seconds), sizes in `_octets`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

ENVIRONMENT_VARIABLE: Final = "SMPP_PROXY_CONFIG"


class ConfigError(Exception):
    """The file cannot be used; the text has one line per problem, led by the key's path."""


def _to_path(value: object, info: ValidationInfo) -> object:
    """A relative path is relative to the configuration file, not to the working directory."""
    if not isinstance(value, str):
        return value
    path = Path(value).expanduser()
    base = (info.context or {}).get("directory")
    return base / path if base else path


def _fits_octets(octets_max: int) -> AfterValidator:
    """A C-Octet String of SMPP: at most so many octets, and the NUL only at its end."""

    def check(text: str) -> str:
        if len(text) > octets_max or not text.isascii() or "\0" in text:
            raise ValueError(f"should have at most {octets_max} ASCII characters and no NUL")
        return text

    return AfterValidator(check)


def _secret_fits(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text.isascii() or "\0" in text:
        raise ValueError("should have ASCII characters only and no NUL")
    return secret


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("should begin with http:// or https:// and name a host")
    return url


FilePath = Annotated[Path, BeforeValidator(_to_path)]
Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86400, allow_inf_nan=False)]
SecondsOrOff = Annotated[float, Field(ge=0, le=10 * 365 * 86400, allow_inf_nan=False)]
Host = Annotated[str, Field(min_length=1, max_length=255)]
Port = Annotated[int, Field(ge=1, le=65535)]
ListenPort = Annotated[int, Field(ge=0, le=65535)]  # 0: any free one
Count = Annotated[int, Field(ge=1, le=10_000_000)]
CommandStatus = Annotated[int, Field(ge=1, le=0xFFFFFFFF)]
SystemId = Annotated[str, Field(min_length=1), _fits_octets(15)]
UpstreamName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
IdForm = Literal["as_is", "hex", "decimal"]


class _Section(BaseModel):
    # Strict: `port = "2775"` is an error, not a number.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DatabaseSettings(_Section):
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


class TlsSettings(_Section):
    """The listener for clients that speak TLS, beside the plain one."""

    port: ListenPort = 3550
    certificate: FilePath
    key: FilePath


class SmppSettings(_Section):
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


class HttpSettings(_Section):
    """Health, readiness and metrics."""

    enabled: bool = True
    host: Host = "127.0.0.1"
    port: ListenPort = 8080
    # X-Forwarded-For and -Proto are believed: only behind a proxy that sets them.
    trust_forwarded: bool = False


class UpstreamSettings(_Section):
    """One carrier (SMSC) that messages go to."""

    name: UpstreamName
    kind: Literal["smpp"] = "smpp"
    host: Host
    port: Port = 2775
    system_id: SystemId
    password: Annotated[SecretStr, AfterValidator(_secret_fits)] = Field(max_length=64)
    system_type: Annotated[str, _fits_octets(12)] = ""
    bind: Literal["transceiver", "transmitter+receiver"] = "transceiver"
    binds: Annotated[int, Field(ge=1, le=32)] = 1
    window: Annotated[int, Field(ge=1, le=100_000)] = 100
    rate: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] | None = None
    tls: bool = False
    tls_ca: FilePath | None = None
    tls_verify: bool = True
    enquire_link_s: Seconds = 30
    response_timeout_s: Seconds = 30
    connect_timeout_s: Seconds = 10
    reconnect_min_s: Seconds = 0.5
    reconnect_max_s: Seconds = 30
    response_ids: IdForm = "as_is"
    receipt_ids: IdForm = "as_is"
    backlog_max: Count = 10_000


class RouteSettings(_Section):
    """Where destination addresses that begin with `prefix` go; the longest prefix wins."""

    prefix: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{0,20}$")] = ""
    upstreams: Annotated[list[str], Field(min_length=1)]
    policy: Literal["failover"] = "failover"


class StatusSettings(_Section):
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


class InDoubtSettings(_Section):
    """What becomes of a charge when the carrier never says what it did with the message."""

    policy: Literal["charge", "release", "keep"] = "charge"
    after_s: Seconds = 86_400


class DeliverySettings(_Section):
    """Receipts and mobile-originated messages that wait for their client."""

    max_age_s: Seconds = 259_200
    retry_min_s: Seconds = 5
    retry_max_s: Seconds = 600


class WebhookSettings(_Section):
    """Whom to tell that an account is low or empty."""

    url: Annotated[str, AfterValidator(_http_url)] | None = Field(default=None, repr=False)
    secret: Annotated[SecretStr, Field(min_length=1)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 10


class LoggingSettings(_Section):
    """What is written to stderr, and how."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    mask_numbers: bool = True


class Settings(_Section):
    """The whole file."""

    database: DatabaseSettings = DatabaseSettings()
    smpp: SmppSettings = SmppSettings()
    http: HttpSettings = HttpSettings()
    upstream: list[UpstreamSettings] = []
    route: list[RouteSettings] = []
    status: StatusSettings = StatusSettings()
    in_doubt: InDoubtSettings = InDoubtSettings()
    delivery: DeliverySettings = DeliverySettings()
    webhook: WebhookSettings = WebhookSettings()
    logging: LoggingSettings = LoggingSettings()

    _source: Path | None = PrivateAttr(default=None)

    @property
    def source(self) -> Path | None:
        """The file these settings came from; None for the embedded default."""
        return self._source

    @model_validator(mode="after")
    def _parts_agree(self) -> Settings:
        problems = [*_upstream_problems(self), *_route_problems(self), *_other_problems(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _upstream_problems(settings: Settings) -> Iterator[str]:
    times = Counter(upstream.name for upstream in settings.upstream)
    for i, upstream in enumerate(settings.upstream):
        if times[upstream.name] > 1:
            yield f'upstream[{i}].name: "{upstream.name}" is the name of several upstreams'
        if upstream.reconnect_max_s < upstream.reconnect_min_s:
            yield f"upstream[{i}].reconnect_max_s: should not be below reconnect_min_s"


def _route_problems(settings: Settings) -> Iterator[str]:
    names = {upstream.name for upstream in settings.upstream}
    times = Counter(route.prefix for route in settings.route)
    for i, route in enumerate(settings.route):
        if times[route.prefix] > 1:
            yield f'route[{i}].prefix: "{route.prefix}" is the prefix of several routes'
        for j, name in enumerate(route.upstreams):
            if name not in names:
                yield f'route[{i}].upstreams[{j}]: there is no upstream "{name}"'
            if name in route.upstreams[:j]:
                yield f'route[{i}].upstreams[{j}]: "{name}" is there already'


def _other_problems(settings: Settings) -> Iterator[str]:
    if settings.delivery.retry_max_s < settings.delivery.retry_min_s:
        yield "delivery.retry_max_s: should not be below retry_min_s"
    if settings.webhook.url is not None and settings.webhook.secret is None:
        yield "webhook.secret: is missing; what goes to webhook.url is signed with it"
    taken: dict[tuple[str, int], str] = {}
    for key, host, port in _listeners(settings):
        other = taken.setdefault((host, port), key)
        if port and other != key:
            yield f"{key}: {port} is {other} already"


def _listeners(settings: Settings) -> Iterator[tuple[str, str, int]]:
    yield "smpp.port", settings.smpp.host, settings.smpp.port
    if settings.smpp.tls is not None:
        yield "smpp.tls.port", settings.smpp.host, settings.smpp.tls.port
    if settings.http.enabled:
        yield "http.port", settings.http.host, settings.http.port


def find(path: Path | None) -> Path | None:
    """The file to read: the given one, else $SMPP_PROXY_CONFIG, else None (the default)."""
    if path is not None:
        return path
    from_environment = os.environ.get(ENVIRONMENT_VARIABLE, "")
    return Path(from_environment) if from_environment else None


def load(path: Path | None) -> Settings:
    """Reads and validates the file; None gives the embedded default, which has no upstream."""
    if path is None:
        return Settings()
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    try:
        settings = Settings.model_validate(data, context={"directory": path.absolute().parent})
    except ValidationError as error:
        # Without the cause: it quotes the input, passwords included.
        raise ConfigError("\n".join(_problems(error))) from None
    settings._source = path
    return settings


def _problems(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_input=False, include_url=False):
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = "unknown key" + _did_you_mean(detail["loc"])
        elif detail["type"] == "missing":
            message = "is missing"
        place = _key_path(detail["loc"])
        # What concerns several keys names them itself, a line each.
        yield f"{place}: {message}" if place else message


def _key_path(location: tuple[int | str, ...]) -> str:
    """("upstream", 0, "port") as upstream[0].port."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _did_you_mean(location: tuple[int | str, ...]) -> str:
    """The known key beside an unknown one that is most like it, as a hint."""
    model: Any = Settings
    for part in location[:-1]:
        if isinstance(part, str):
            model = _MODEL_OF_KEY.get((model, part))
    if model is None:
        return ""
    close = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


_MODEL_OF_KEY: Final[dict[tuple[Any, str], type[BaseModel]]] = {
    (Settings, "database"): DatabaseSettings,
    (Settings, "smpp"): SmppSettings,
    (SmppSettings, "tls"): TlsSettings,
    (Settings, "http"): HttpSettings,
    (Settings, "upstream"): UpstreamSettings,
    (Settings, "route"): RouteSettings,
    (Settings, "status"): StatusSettings,
    (Settings, "in_doubt"): InDoubtSettings,
    (Settings, "delivery"): DeliverySettings,
    (Settings, "webhook"): WebhookSettings,
    (Settings, "logging"): LoggingSettings,
}
