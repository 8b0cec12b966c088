"""What can be wrong with the octets of a TPDU."""

from __future__ import annotations


class TpduError(ValueError):
    """Octets that are no such TPDU, or values that no TPDU can carry."""
