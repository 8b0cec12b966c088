"""Which account a mobile-originated message is for."""

from __future__ import annotations

from collections.abc import Iterable


class InboundTable:
    """Immutable.  Patterns are addresses, or prefixes when they end in '*'; the longest wins."""

    def __init__(self, patterns: Iterable[tuple[str, int]]) -> None:
        self._exact: dict[str, int] = {}
        self._prefix: dict[str, int] = {}
        for pattern, account_id in patterns:
            if pattern.endswith("*"):
                self._prefix[pattern[:-1]] = account_id
            else:
                self._exact[pattern] = account_id
        self._lengths = sorted({len(prefix) for prefix in self._prefix}, reverse=True)

    def find(self, destination_addr: str) -> int | None:
        """The account's id, or None when nobody takes this address."""
        account_id = self._exact.get(destination_addr)
        if account_id is not None:
            return account_id
        for length in self._lengths:
            if len(destination_addr) >= length:
                account_id = self._prefix.get(destination_addr[:length])
                if account_id is not None:
                    return account_id
        return None
