"""Logs: one line per event to stderr, for people on a terminal and as JSON otherwise.

Message texts and passwords are never logged.  Phone numbers go through `masked`.
stdout belongs to the commands' answers, so nothing here ever writes to it.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog
from structlog.typing import Processor

from proxy.config import LoggingSettings

# With fewer characters than this, first 4 and last 2 would give away most of a number.
_MASK_WHOLE_BELOW: Final = 9

# What libraries say at these levels is news; below them it is their own housekeeping.
_LIBRARY_LEVELS: Final = {
    "uvicorn": logging.WARNING,
    "asyncio": logging.WARNING,
    "httpx": logging.WARNING,  # would name the whole URL of each request, secrets included
    "httpcore": logging.WARNING,
}


class Numbers:
    """Whether phone numbers are masked; set once from the configuration."""

    mask: bool = True


def mask_number(text: str, enabled: bool) -> str:
    """4479******21 for a phone number; a short one keeps only its last two characters."""
    if not enabled or len(text) <= 2:
        return text
    shown = 4 if len(text) >= _MASK_WHOLE_BELOW else 0
    return text[:shown] + "*" * (len(text) - shown - 2) + text[-2:]


def masked(number: str) -> str:
    """The number as it may stand in a log line."""
    return mask_number(number, Numbers.mask)


def debug_enabled() -> bool:
    """Whether debug lines are written: hot code asks before it makes one for each message."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def setup_logging(settings: LoggingSettings) -> None:
    """Routes structlog and the standard library's logging to stderr, in one format.

    May be called again; the last call counts.
    """
    Numbers.mask = settings.mask_numbers
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Loggers are made at import time, before this runs, and must follow it all the same.
        cache_logger_on_first_use=False,
    )

    terminal = sys.stderr.isatty()
    console = settings.format == "console" or (settings.format == "auto" and terminal)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(console, colors=terminal),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, at_least in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(level, at_least))
    logging.captureWarnings(True)


def _renderers(console: bool, *, colors: bool) -> list[Processor]:
    if console:
        return [
            structlog.dev.ConsoleRenderer(
                colors=colors,
                # The pretty tracebacks show local variables: message texts and passwords.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
