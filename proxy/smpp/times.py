"""When a message is due and when it expires: SMPP 3.4 section 7.1.1.

A time is 16 characters, "YYMMDDhhmmsstnnp": absolute, with tenths of a second and the distance
from UTC in quarter hours, or, with "R" at the end, relative to now.  The clock is the caller's.
"""

from __future__ import annotations

import calendar
import math
import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from proxy.smpp import vocabulary as smpp
from proxy.smpp.multi import multi_destinations
from proxy.smpp.pdu import DATA, MULTI_TAIL, REPLACE, SUBMIT, PduError
from proxy.smpp.tlv import TlvError, find_tlv

TAG_QOS_TIME_TO_LIVE: Final = 0x0017
"""Section 5.3.2.9: seconds that a data_sm is kept, four octets."""
_QOS_OCTETS: Final = 4
QOS_MAX: Final = 0xFFFFFFFF

_FORM: Final = re.compile(rb"[0-9]{15}[-+R]")
_QUARTER_S: Final = 900
_QUARTERS_MAX: Final = 48
_YEARS_BACK: Final = 10
"""The two digits of a year stand for the one from so many years ago to 89 years from now: the
times of messages are ahead, or behind because of a wrong clock."""

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
# The longest month and the longest year: what is left is never made longer.
_MONTH_DAYS: Final = 31
_YEAR_DAYS: Final = 366
_YEARS_MAX: Final = 99
_FARTHEST_SCHEDULE: Final = b"020000000000000R"

# The one-octet fields between validity_period and short_message.
_OCTETS_BEHIND: Final = {smpp.SUBMIT_SM: 5, smpp.SUBMIT_MULTI: 5, smpp.REPLACE_SM: 3}


def parse_time(value: bytes, now_s: float) -> float | None:
    """A schedule_delivery_time or validity_period as Unix seconds; None when it is empty.

    A relative one counts years and months by the calendar, in UTC, and on the last day of a month
    that is too short; its tenths and quarter hours are ignored (section 7.1.1.2), and a field
    may be greater than a date's ("48 hours").

    Raises ValueError for everything else.
    """
    if not value:
        return None
    if _FORM.fullmatch(value) is None:
        raise ValueError("a time is 15 digits and one of + - R")
    year, month, day, hour, minute, second = (int(value[i : i + 2]) for i in range(0, 12, 2))
    if is_relative(value):
        time_s = hour * _HOUR_S + minute * _MINUTE_S + second
        return _months_later(now_s, 12 * year + month) + day * _DAY_S + time_s
    quarters = int(value[13:15])
    if quarters > _QUARTERS_MAX:
        raise ValueError("a time is at most 48 quarter hours from UTC")
    first_year = datetime.fromtimestamp(now_s, UTC).year - _YEARS_BACK
    year = first_year + (year - first_year) % 100
    local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    ahead_s = quarters * _QUARTER_S if value.endswith(b"+") else -quarters * _QUARTER_S
    return local.timestamp() + int(value[12:13]) / 10 - ahead_s


def is_relative(value: bytes) -> bool:
    """Whether a time counts from now."""
    return value.endswith(b"R")


def _months_later(now_s: float, months: int) -> float:
    """The same day and time of a later month; the last day of a month that has no such day."""
    whole_s = math.floor(now_s)  # so that a fraction of a second stays exactly what it was
    now = datetime.fromtimestamp(whole_s, UTC)
    years, month = divmod(now.year * 12 + now.month - 1 + months, 12)
    day = min(now.day, calendar.monthrange(years, month + 1)[1])
    return now.replace(year=years, month=month + 1, day=day).timestamp() + (now_s - whole_s)


def relative_time(seconds: float) -> bytes:
    """So many seconds from now as a relative time of 16 characters, rounded up to a second.

    At least a second, for nothing at all would mean the carrier's default to some, and less than
    100 years.  A month stands for 28 to 31 days, so whoever reads it comes to at most what it
    is: exactly that up to 31 days, up to three days a month less beyond.
    """
    left_s = min(max(1, math.ceil(min(seconds, 1e12))), (_YEARS_MAX + 1) * _YEAR_DAYS * _DAY_S - 1)
    days, left_s = divmod(left_s, _DAY_S)
    # 31 days stay days: a month may be shorter.
    years, days = divmod(days, _YEAR_DAYS)
    months, days = divmod(days, _MONTH_DAYS) if days > _MONTH_DAYS else (0, days)
    hours, left_s = divmod(left_s, _HOUR_S)
    minutes, left_s = divmod(left_s, _MINUTE_S)
    parts = (years, months, days, hours, minutes, left_s)
    return b"%02d%02d%02d%02d%02d%02d000R" % parts


class TimeFields(NamedTuple):
    """The two times of a submit_sm, submit_multi or replace_sm, and where they are."""

    schedule_delivery_time: bytes
    validity_period: bytes
    start: int
    """Where schedule_delivery_time begins; both end with a NUL."""
    end: int
    """Where registered_delivery is, the field behind them."""
    text_start: int
    """Where short_message begins."""


def time_fields(command_id: int, body: bytes) -> TimeFields:
    """Finds the times of a submit_sm, submit_multi or replace_sm (4.4.1, 4.5.1, 4.10.1).

    Raises PduError.
    """
    if command_id == smpp.SUBMIT_MULTI:
        _, at = multi_destinations(body)
        values, length = MULTI_TAIL.split(body[at:])
        text_start, schedule, validity = at + length, values[3], values[4]
    else:
        layout = REPLACE if command_id == smpp.REPLACE_SM else SUBMIT
        values, text_start = layout.split(body)
        schedule = values[layout.index["schedule_delivery_time"]]
        validity = values[layout.index["validity_period"]]
    end = text_start - _OCTETS_BEHIND[command_id]
    start = end - len(schedule) - len(validity) - 2
    return TimeFields(schedule, validity, start, end, text_start)


class Timing(NamedTuple):
    """When a message is to be sent, and until when; both in Unix seconds."""

    due_at_s: float | None
    """None: now."""
    expires_at_s: float | None
    """None: the message does not say."""


def timing(command_id: int, body: bytes, now_s: float) -> Timing:
    """What a submit_sm, submit_multi or data_sm wants, or a replace_sm changes.

    schedule_delivery_time and validity_period (sections 5.2.15 and 5.2.16), or
    qos_time_to_live (5.3.2.9) of a data_sm, which can't be scheduled.  A schedule in the past is
    now.  Of a replace_sm None means that the message's own time stays, so whoever joins the two
    compares them again.

    Raises PduError: ESME_RINVSCHED for a schedule that is malformed or more than two years
    ahead, ESME_RINVEXPIRY for an expiry that is malformed, over, or not after the schedule.
    """
    if command_id == smpp.DATA_SM:
        due_at_s, expires_at_s = None, _end_of_life(body, now_s)
    else:
        fields = time_fields(command_id, body)
        due_at_s = _read(fields.schedule_delivery_time, now_s, smpp.ESME_RINVSCHED)
        expires_at_s = _read(fields.validity_period, now_s, smpp.ESME_RINVEXPIRY)
    if due_at_s is not None:
        farthest_s = parse_time(_FARTHEST_SCHEDULE, now_s)
        if farthest_s is not None and due_at_s > farthest_s:
            raise PduError(smpp.ESME_RINVSCHED, "schedule_delivery_time")
        if due_at_s <= now_s:
            due_at_s = None
    if expires_at_s is not None and expires_at_s <= (now_s if due_at_s is None else due_at_s):
        raise PduError(smpp.ESME_RINVEXPIRY, "validity_period")
    return Timing(due_at_s, expires_at_s)


def _read(value: bytes, now_s: float, status: int) -> float | None:
    try:
        return parse_time(value, now_s)
    except ValueError:
        name = "schedule_delivery_time" if status == smpp.ESME_RINVSCHED else "validity_period"
        raise PduError(status, name) from None


def _end_of_life(body: bytes, now_s: float) -> float | None:
    _, at = DATA.split(body)
    try:
        value = find_tlv(body, TAG_QOS_TIME_TO_LIVE, at)
    except TlvError:
        raise PduError(smpp.ESME_RINVOPTPARSTREAM, "optional parameters") from None
    if value is None:
        return None
    if len(value) != _QOS_OCTETS:
        raise PduError(smpp.ESME_RINVPARLEN, "qos_time_to_live")
    return now_s + int.from_bytes(value)
