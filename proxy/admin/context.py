"""What the pages and the API know of the proxy they belong to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.config import Settings
from proxy.store.ids import IdMint


@dataclass(slots=True)
class Context:
    """One for each HttpServer; in a request it is `request.app.state.context`."""

    pool: Callable[[], Any]
    """The pool of connections; raises DatabaseUnreachable while there is none."""
    mint: IdMint
    """Ids of rows that people's changes write: of COMMAND_NODE, as those of commands."""
    settings: Settings
    """Others take their place when the configuration is read again."""
    readiness: Callable[[], dict[str, bool]]
    """Each check of /readyz by name, and whether it passes now."""
    record_event: Callable[..., None]
    """EventLog.record: for what is not a change in the database."""
    node: Callable[[], int]
    """The number of this proxy among those that share the database; 0 while it has none."""
