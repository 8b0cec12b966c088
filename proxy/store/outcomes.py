"""How a change ends that was not made.  What it gives when it was made is each module's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was changed; the reason is one sentence for people."""

    reason: str


class NotFound(Refused):
    """Refused because what was to be changed is not there."""


def no_account(name: str) -> NotFound:
    """There is no account of this name."""
    return NotFound(f"there is no account {name!r}")


def bad_name() -> Refused:
    """The name breaks the CHECK that all names have in the database."""
    return Refused("a name is 1 to 64 of the characters A-Z a-z 0-9 _ . @ -")
