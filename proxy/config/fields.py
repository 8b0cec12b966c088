"""What a single value of the file may be, and how a wrong one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
)


def _to_path(value: object, info: ValidationInfo) -> object:
    """A relative path is relative to the configuration file, not to the working directory."""
    if not isinstance(value, str):
        return value
    path = Path(value).expanduser()
    base = (info.context or {}).get("directory")
    return base / path if base else path


def fits_octets(octets_max: int) -> AfterValidator:
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


def _is_pin(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not (text.isascii() and text.isdigit() and 4 <= len(text) <= 8):
        raise ValueError("should have 4 to 8 digits")
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


ACCOUNT_PATTERN: Final = r"^[A-Za-z0-9_.@-]{1,64}$"
"""As the database and the API have it (proxy/admin/api/shapes.py)."""

FilePath = Annotated[Path, BeforeValidator(_to_path)]
Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86400, allow_inf_nan=False)]
SecondsOrOff = Annotated[float, Field(ge=0, le=10 * 365 * 86400, allow_inf_nan=False)]
Host = Annotated[str, Field(min_length=1, max_length=255)]
Port = Annotated[int, Field(ge=1, le=65535)]
ListenPort = Annotated[int, Field(ge=0, le=65535)]  # 0: any free one
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Octet = Annotated[int, Field(ge=0, le=255)]
Rate = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]  # messages a second
CommandStatus = Annotated[int, Field(ge=1, le=0xFFFFFFFF)]
SystemId = Annotated[str, Field(min_length=1), fits_octets(15)]
Password = Annotated[SecretStr, AfterValidator(_secret_fits)]
Pin = Annotated[SecretStr, AfterValidator(_is_pin)]
UpstreamName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
AccountName = Annotated[str, Field(pattern=ACCOUNT_PATTERN)]
PhoneNumber = Annotated[str, Field(pattern=r"^\+?[0-9]{1,20}$")]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
IdForm = Literal["as_is", "hex", "decimal"]
StatusRule = Literal["pass", "retry", "next"]


class Section(BaseModel):
    """A table of the file.  Strict: `port = "2775"` is an error, not a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
