"""Lists as parameters of the hot statements.

asyncpg looks at each element of a list to see whether it is a list itself, which costs several
times what writing it does: half of the processor time of a batch.  So the hot statements take
each list as one text, and PostgreSQL takes it apart, which costs it no more than an array did.
`bench/run.py` shows the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

SEPARATOR: Final = "\u0100"
"""Not in Latin-1, as which every octet of a PDU is read: so in none of the texts."""


def numbers(values: Iterable[int]) -> str:
    """For `$n::text::bigint[]` (or another integer type); plain ints only, not of an enum."""
    return f"{{{repr(list(values))[1:-1]}}}"


def texts(values: Sequence[str]) -> str:
    """For `texts_from($n)`; the texts must come from Latin-1 octets without NUL."""
    return SEPARATOR.join(values) + SEPARATOR if values else ""
