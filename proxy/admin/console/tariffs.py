"""Tariffs: look, import with a preview, export."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import quote, urlencode

from starlette.responses import Response

from proxy.admin.console.render import sentence
from proxy.admin.console.visit import Visit
from proxy.credit import tariff_csv
from proxy.credit.tariff_csv import TariffCsvError
from proxy.store import console, tariffs
from proxy.store.outcomes import Refused

SHOWN_MAX: Final = 200
"""Differences of each kind that a preview lists; all are counted."""


async def index(visit: Visit) -> Response:
    """All of them."""
    return visit.page("tariffs.html", tariffs=await tariffs.list_tariffs(visit.conn))


async def one(visit: Visit) -> Response:
    """The prices of one."""
    name = visit.part("name")
    tariff = await console.tariff(visit.conn, name)
    if tariff is None:
        visit.not_found(f"There is no tariff {name}.")
    search, text = visit.param("q"), visit.param("from")
    offset = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0
    rows = await console.prices(visit.conn, name, search, offset)
    more = len(rows) > console.PAGE_ROWS
    base = f"/tariffs/{quote(name, safe='')}"
    return visit.page(
        "tariff.html",
        tariff=tariff,
        rows=rows[: console.PAGE_ROWS],
        search=search,
        newer=f"{base}?{urlencode({'q': search})}" if offset else None,
        older=f"{base}?{urlencode({'q': search, 'from': offset + console.PAGE_ROWS})}"
        if more
        else None,
    )


async def export(visit: Visit) -> Response:
    """As a file that can be imported."""
    name = visit.part("name")
    rows = await tariffs.export_prices(visit.conn, name)
    if isinstance(rows, Refused):
        visit.not_found(sentence(rows.reason))
    text = await asyncio.to_thread(tariff_csv.write, rows)
    # A name has only letters, digits and _ . @ -
    headers = {"content-disposition": f'attachment; filename="{name}.csv"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


async def new(visit: Visit) -> Response:
    """The form."""
    return _form(visit, name=visit.param("name"))


def _form(visit: Visit, *, name: str, problems: Any = (), text: str = "") -> Response:
    return visit.page(
        "tariff_import.html",
        status=400 if problems else 200,
        name=name,
        problems=problems,
        text=text,
    )


async def import_(visit: Visit) -> Response:
    """First shows what the file would change; the second form, with the same text, does it."""
    name = visit.value("name")
    data = visit.files.get("file") or visit.form.get("text", "").encode("utf-8", "replace")
    if not data.strip():
        return _form(visit, name=name, problems=["Choose a file, or paste its lines."])
    try:
        rows = await asyncio.to_thread(tariff_csv.read, data)
    except TariffCsvError as error:
        text = data.decode("utf-8", "replace") if not visit.files.get("file") else ""
        return _form(visit, name=name, problems=[sentence(one) for one in error.errors], text=text)
    before = await console.tariff(visit.conn, name)
    version = str(before["version"]) if before else "new"
    stale = visit.value("version") not in {"", version}
    apply = visit.value("do") == "apply" and not stale
    outcome = await tariffs.import_prices(
        visit.conn, name, rows, by=visit.who.name, dry_run=not apply
    )
    if isinstance(outcome, Refused):
        return _form(visit, name=name, problems=[sentence(outcome.reason)])
    changes = outcome.differences
    counted = (
        f"{len(changes.added):,} added, {len(changes.changed):,} changed, "
        f"{len(changes.ended):,} ended"
    )
    if apply:
        return visit.go(f"/tariffs/{quote(name, safe='')}", f"Imported: {counted}.")
    return visit.page(
        "tariff_preview.html",
        name=name,
        created=outcome.created,
        changes=changes,
        counted=counted,
        shown_max=SHOWN_MAX,
        text=data.decode("utf-8-sig", "replace"),
        version=version,
        stale=stale,
        price=tariff_csv.price_text,
        day=tariff_csv.time_text,
    )
