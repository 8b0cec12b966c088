"""Times in TPDUs: the service centre's time stamp and the validity period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

TIME_OCTETS: Final = 7
_FIRST_YEAR: Final = 1990
"""Of the hundred that two digits can say: GSM is no older."""
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
_WEEK: Final = 7 * _DAY
VALIDITY_MAX_S: Final = 63 * _WEEK
"""The longest that one octet can say."""


def encode_time(at_s: float | None) -> bytes:
    """A time stamp (3GPP TS 23.040 section 9.2.3.11) in UTC; zeros for None.

    Also for what its two digits of a year can't say: before 1990, or from 2090 on.
    """
    try:
        at = datetime.fromtimestamp(at_s, UTC) if at_s is not None else None
    except (OverflowError, OSError, ValueError):
        at = None
    if at is None or not _FIRST_YEAR <= at.year < _FIRST_YEAR + 100:
        return bytes(TIME_OCTETS)
    fields = (at.year % 100, at.month, at.day, at.hour, at.minute, at.second, 0)
    return bytes(value % 10 << 4 | value // 10 for value in fields)


def decode_time(octets: bytes) -> float | None:
    """Unix time of a time stamp; None when it is no date (carriers send zeros, and worse)."""
    tens = [octet & 0x0F for octet in octets]
    units = [octet >> 4 for octet in octets]
    west = tens[6] & 0x08  # bit 3 of the zone's first semi-octet is its sign
    tens[6] &= 0x07
    if max(*tens, *units) > 9:
        return None
    year, month, day, hour, minute, second, quarters = (
        10 * ten + unit for ten, unit in zip(tens, units, strict=True)
    )
    offset = timedelta(minutes=-15 * quarters if west else 15 * quarters)
    year += 1900 if year >= _FIRST_YEAR % 100 else 2000
    try:
        zone = timezone(offset)
        return datetime(year, month, day, hour, minute, second, tzinfo=zone).timestamp()
    except ValueError:
        return None


def encode_validity(seconds: int) -> int:
    """The validity period in its relative format (section 9.2.3.12.1), rounded up.

    At least five minutes, at most 63 weeks.
    """
    if seconds <= 12 * _HOUR:
        return max(_up(seconds, 5 * _MINUTE), 1) - 1
    if seconds <= _DAY:
        return 143 + _up(seconds - 12 * _HOUR, 30 * _MINUTE)
    if seconds <= 30 * _DAY:
        return 166 + _up(seconds, _DAY)
    return min(192 + _up(seconds, _WEEK), 255)


def decode_validity(octet: int) -> int:
    """The seconds of a relative validity period."""
    if octet <= 143:
        return (octet + 1) * 5 * _MINUTE
    if octet <= 167:
        return 12 * _HOUR + (octet - 143) * 30 * _MINUTE
    if octet <= 196:
        return (octet - 166) * _DAY
    return (octet - 192) * _WEEK


def decode_enhanced_validity(octets: bytes) -> int | None:
    """The seconds of an enhanced validity period (section 9.2.3.12.3); None: it gives none."""
    kind = octets[0] & 0x07
    at = 2 if octets[0] & 0x80 else 1  # an extension octet follows
    if kind == 1:
        return decode_validity(octets[at])
    if kind == 2:
        return octets[at]
    if kind == 3:
        hours, minutes, seconds = (
            10 * (octet & 0x0F) + (octet >> 4) for octet in octets[at : at + 3]
        )
        return hours * _HOUR + minutes * _MINUTE + seconds
    return None


def _up(seconds: int, unit: int) -> int:
    return -(-seconds // unit)
