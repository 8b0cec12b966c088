"""What a customer may not read in what happened to his messages: whom we buy from."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from proxy.admin.api.access import Call

Texts = TypeVar("Texts", str, str | None)

HIDDEN_FIELDS = ("upstream", "smsc_message_id", "cost", "margin")


class Hide:
    """Takes the names of upstreams out of texts; or nothing, for the operator's own tokens."""

    def __init__(self, upstreams: list[str] | None) -> None:
        self._upstreams = upstreams
        names = sorted(upstreams or (), key=len, reverse=True)
        either = "|".join(map(re.escape, names)) or r"(?!)"
        # A name as a whole word; names have letters, digits and _ . -
        self._name = re.compile(rf"(?<![\w-])(?:upstream )?(?<![\w-])(?:{either})(?![\w-])")

    @classmethod
    async def for_call(cls, call: Call, conn: Any) -> Hide:
        """What is hidden from this caller."""
        if not call.of_account:
            return cls(None)
        rows = await conn.fetch("SELECT name FROM upstream")
        return cls([row["name"] for row in rows])

    def text(self, text: Texts) -> Texts:
        """The text without the names."""
        if text is None or self._upstreams is None:
            return text
        return self._name.sub("the upstream", text)

    def message(self, row: dict[str, Any]) -> None:
        """A row of v_message, with or without its history."""
        if self._upstreams is None:
            return
        smsc_message_id = row["smsc_message_id"]
        for field in HIDDEN_FIELDS:
            row[field] = None
        row["reason"] = self.text(row["reason"])
        for step in row.get("history", ()):
            detail = step["detail"]
            if smsc_message_id:
                detail = detail.replace(f", id {smsc_message_id}", "")
            step["detail"] = self.text(detail)
