"""Cursors: the key of a page's last row as one opaque word, behind which the next page begins."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proxy.store.ids import ID_MAX


def write_cursor(kind: str, key: Sequence[Any]) -> str:
    """The cursor of a key, in a list of that kind."""
    values = [value.isoformat() if isinstance(value, datetime) else value for value in key]
    return base64.urlsafe_b64encode(json.dumps([kind, *values]).encode()).decode().rstrip("=")


def read_cursor(text: str, kind: str, types: Sequence[type]) -> tuple[Any, ...]:
    """The key in a cursor.  Raises ValueError for what is no cursor of such a list.

    Whatever somebody makes up, the values fit the database: ids, times with a zone, clean texts.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = json.loads(raw)
        if not isinstance(found, list) or len(found) != len(types) + 1 or found[0] != kind:
            raise ValueError
        return tuple(_value(value, want) for value, want in zip(found[1:], types, strict=True))
    except (binascii.Error, ValueError, RecursionError):
        raise ValueError("this is not a cursor of this list") from None


def _value(value: Any, want: type) -> Any:
    if want is datetime and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None and 2000 <= moment.year <= 2200:
            return moment
    elif want is int and type(value) is int and 0 <= value <= ID_MAX:
        return value
    elif want is str and isinstance(value, str):
        value.encode()  # a lone surrogate raises a ValueError
        if "\0" not in value:
            return value
    raise ValueError
