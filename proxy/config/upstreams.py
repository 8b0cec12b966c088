"""[[upstream]]: a carrier (kind "smpp"), a GSM modem ("modem"), several modems ("pool")."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from proxy.config.fields import (
    AccountName,
    Count,
    FilePath,
    Host,
    IdForm,
    Octet,
    Password,
    PhoneNumber,
    Pin,
    Port,
    Rate,
    Seconds,
    SecondsOrOff,
    Section,
    StatusRule,
    SystemId,
    UpstreamName,
    fits_octets,
)

_STATUS: Final = re.compile(r"0[xX][0-9A-Fa-f]{1,8}|[0-9]{1,10}", re.ASCII)
_USB: Final = re.compile(r"usb:[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}(:[!-~]{1,126})?", re.ASCII)


def _statuses(rules: object) -> object:
    """The keys as numbers are written here: "0x58", "0x0B"; each status once."""
    if not isinstance(rules, Mapping):
        return rules
    found: dict[str, object] = {}
    for key, rule in rules.items():
        if not isinstance(key, str) or not _STATUS.fullmatch(key):
            raise ValueError(f'{key!r} is no command_status, such as "0x58" or "88"')
        status = int(key, 16 if key[:2] in {"0x", "0X"} else 10)
        if not 1 <= status <= 0xFFFFFFFF:  # 0 is ESME_ROK, which is no refusal
            raise ValueError(f'"{key}" should be from 1 to 0xFFFFFFFF')
        name = f"0x{status:02X}"
        if name in found:
            raise ValueError(f'"{key}" is there already')
        found[name] = rule
    return found


def _device(device: str) -> str:
    if device.startswith("usb:"):
        usable = _USB.fullmatch(device) is not None
    elif device.startswith("tcp://"):
        try:
            parts = urlsplit(device)
            # Nothing but host and port: whatever else stands there would have no effect.
            rest = (parts.path, parts.query, parts.fragment, parts.username, parts.password)
            usable = bool(parts.hostname and parts.port) and not any(rest)
        except ValueError:
            usable = False
    else:
        usable = device.startswith("/") and "\0" not in device
    if not usable:
        raise ValueError(
            'should be a path such as "/dev/ttyUSB0", "usb:VID:PID", "usb:VID:PID:SERIAL"'
            ' or "tcp://host:port"'
        )
    return device


Address = Annotated[str, Field(min_length=1), fits_octets(20)]
Prefix = Annotated[str, Field(pattern=r"^\+?[0-9A-Za-z]{0,20}$")]
ShortMessages = Count


class HealthSettings(Section):
    """When an upstream is left alone for a while, because others do better."""

    error_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    response_s: SecondsOrOff = 0
    out_s: Seconds = 30


class AddressSettings(Section):
    """What is changed in the messages to an upstream; what is left out is not changed.

    The names are those of SMPP 3.4, section 5.2.
    """

    source_addr: Address | None = None
    source_addr_ton: Octet | None = None
    source_addr_npi: Octet | None = None
    dest_addr_ton: Octet | None = None
    dest_addr_npi: Octet | None = None
    strip_prefix: Prefix = ""
    add_prefix: Prefix = ""
    registered_delivery: Octet | None = None


class _Upstream(Section):
    """What carriers and modems have in common."""

    name: UpstreamName
    rate: Rate | None = None
    backlog_max: Count = 10_000
    on_status: Annotated[dict[str, StatusRule], BeforeValidator(_statuses)] = Field(
        default_factory=dict
    )
    health: HealthSettings = HealthSettings()
    address: AddressSettings = AddressSettings()


class SmppUpstreamSettings(_Upstream):
    """One carrier (SMSC) that messages go to."""

    kind: Literal["smpp"] = "smpp"
    host: Host
    port: Port = 2775
    system_id: SystemId
    password: Password = Field(max_length=64)
    system_type: Annotated[str, fits_octets(12)] = ""
    bind: Literal["transceiver", "transmitter+receiver"] = "transceiver"
    binds: Annotated[int, Field(ge=1, le=32)] = 1
    window: Annotated[int, Field(ge=1, le=100_000)] = 100
    bind_rate: Rate | None = None
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


UpstreamSettings = SmppUpstreamSettings


class ModemSettings(_Upstream):
    """One GSM modem with its SIM."""

    kind: Literal["modem"] = "modem"
    device: Annotated[str, Field(max_length=255), AfterValidator(_device)]
    baud: Annotated[int, Field(ge=300, le=4_000_000)] = 115_200
    pin: Pin | None = None
    smsc: PhoneNumber | None = None
    number: PhoneNumber | None = None
    account: AccountName | None = None
    per_hour: ShortMessages | None = None
    per_day: ShortMessages | None = None
    per_month: ShortMessages | None = None
    answer_timeout_s: Seconds = 60
    command_timeout_s: Seconds = 10
    balance_ussd: Annotated[str, Field(pattern=r"^[0-9*#]{1,20}$")] | None = None
    balance_every_s: Seconds = 86_400
    reconnect_min_s: Seconds = 1
    reconnect_max_s: Seconds = 60
    backlog_max: Count = 100

    @property
    def device_key(self) -> tuple[str, ...]:
        """The same for two ways to write one device.  Of usb: what is left out is not there."""
        if self.device.startswith("usb:"):
            kind, vendor, product, *serial = self.device.split(":", 3)
            return (kind, vendor.lower(), product.lower(), *serial)
        if self.device.startswith("tcp://"):
            parts = urlsplit(self.device)
            return ("tcp", parts.hostname or "", str(parts.port))
        return ("path", os.path.normpath(self.device))


class PoolSettings(Section):
    """Several modems as one upstream; each keeps its own limits, rules and addresses."""

    kind: Literal["pool"] = "pool"
    name: UpstreamName
    modems: Annotated[list[UpstreamName], Field(min_length=1)]


KINDS: Final[dict[str, type[Section]]] = {
    "smpp": SmppUpstreamSettings,
    "modem": ModemSettings,
    "pool": PoolSettings,
}


def _kind_of(value: Any) -> str:
    """The kind of an [[upstream]]; without one it is a carrier, as in older files."""
    if isinstance(value, Mapping):
        return str(value.get("kind", "smpp"))
    return str(getattr(value, "kind", "smpp"))


UpstreamUnion = Annotated[
    Annotated[SmppUpstreamSettings, Tag("smpp")]
    | Annotated[ModemSettings, Tag("modem")]
    | Annotated[PoolSettings, Tag("pool")],
    Discriminator(_kind_of),
]
