"""Templates to HTML: every value is escaped, and has one way to be written."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from proxy.smpp.vocabulary import command_name, status_name

NOTHING: Final = "–"
MINUS: Final = "\u2212"


class Renderer:
    """The templates, and the static files that they name."""

    def __init__(self) -> None:
        self.static = {
            file.name: file.read_bytes()
            for file in files("proxy.admin").joinpath("static").iterdir()
        }
        self._env = Environment(
            loader=PackageLoader("proxy.admin", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._env.filters.update(
            credits=credits,
            change=change,
            number=number,
            rate=rate,
            time=time,
            hours=hours,
            words=words,
            status=status,
            status_name=lambda value: NOTHING if value is None else status_name(value),
            percent=percent,
            seconds=seconds,
            sim_usage=sim_usage,
            command=command_name,
            seg=partial(quote, safe=""),
        )
        self._env.globals["static"] = self._static_url

    def render(self, template: str, **values: Any) -> str:
        """A page or a part of one."""
        return self._env.get_template(template).render(values)

    def templates(self) -> list[str]:
        """The names of all."""
        return self._env.list_templates()

    def _static_url(self, name: str) -> str:
        """A file changes its address when it changes, so browsers may keep it for ever."""
        return f"/static/{name}?v={hashlib.sha256(self.static[name]).hexdigest()[:12]}"


def media_type(name: str) -> str:
    """Of a static file."""
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def credits(value: Decimal | int | None) -> str:
    """An exact amount with thousands apart: 1,234.5."""
    if value is None:
        return NOTHING
    text = f"{value.normalize() if isinstance(value, Decimal) else value:,f}" if value else "0"
    if isinstance(value, int):
        text = f"{value:,d}"
    return text.replace("-", MINUS)


def change(value: Decimal) -> str:
    """An amount with its sign."""
    return credits(value) if value < 0 else f"+{credits(value)}"


def number(value: float | None) -> str:
    """A count."""
    return NOTHING if value is None else f"{value:,.0f}"


def rate(value: float | Decimal | None) -> str:
    """A rate, with as many decimals as a person reads."""
    if value is None:
        return NOTHING
    amount = float(value)
    if amount == 0:
        return "0"
    return (
        f"{amount:,.0f}" if amount >= 100 else f"{amount:,.1f}" if amount >= 1 else f"{amount:.2g}"
    )


def time(value: datetime | None) -> str | Markup:
    """A moment, in UTC."""
    if value is None:
        return NOTHING
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(timespec="milliseconds"), f"{utc:%Y-%m-%d %H:%M:%S}"
    )


def hours(value: Decimal | float | None) -> str:
    """How long something lasts."""
    if value is None:
        return NOTHING
    amount = float(value)
    if amount < 1:
        return f"{amount * 60:.0f} min"
    if amount < 48:
        return f"{amount:.1f} h"
    days = timedelta(hours=min(amount, 8760 * 100)).days
    return f"{days} days" if days <= 365 else "over a year"


def words(value: str | None) -> str:
    """A name of the database for people: in_doubt is "in doubt"."""
    return NOTHING if value is None else value.replace("_", " ")


def status(value: int | None) -> str:
    """A command_status with its name."""
    if value is None:
        return NOTHING
    name = status_name(value)
    text = f"0x{value:08X}"
    return text if name == text else f"{name} ({text})"


def percent(value: float | None) -> str:
    """A share of one."""
    return NOTHING if value is None else f"{value:.0%}"


def seconds(value: float | None) -> str:
    """How long something takes, for people."""
    if value is None:
        return NOTHING
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def sim_usage(row: Mapping[str, Any]) -> str:
    """Short messages that a SIM has sent, of how many it may."""
    used, limits = row["used"] or {}, row["limits"] or {}
    parts = [
        f"{used[period]:,}{f' of {limits[period]:,}' if limits.get(period) else ''} {words}"
        for period, words in (("hour", "this hour"), ("day", "today"), ("month", "this month"))
        if used.get(period) is not None
    ]
    return ", ".join(parts) or NOTHING


def sentence(reason: str) -> str:
    """A reason, as the commands say it, as a sentence of its own."""
    return reason[:1].upper() + reason[1:] + "."
