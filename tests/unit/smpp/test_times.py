from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import PduError
from proxy.smpp.times import Timing, is_relative, parse_time, relative_time, time_fields, timing
from proxy.smpp.tlv import pack_tlv

DAY_S = 86_400
MOMENTS = st.floats(0, 4e9)


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc]


NOW = at(2026, 11, 23, 12, 0, 0) + 0.25


# ------------------------------------------------------------------------------ one time


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"", None, id="empty"),
        pytest.param(b"261124083005000+", at(2026, 11, 24, 8, 30, 5), id="UTC"),
        pytest.param(b"261124083005700-", at(2026, 11, 24, 8, 30, 5) + 0.7, id="tenths"),
        pytest.param(b"261124083005004+", at(2026, 11, 24, 7, 30, 5), id="an hour ahead of UTC"),
        pytest.param(b"261124083005014-", at(2026, 11, 24, 12, 0, 5), id="3.5 hours behind UTC"),
        pytest.param(b"261124000000048+", at(2026, 11, 23, 12, 0, 0), id="the farthest zone"),
        pytest.param(b"991231235959900+", at(2099, 12, 31, 23, 59, 59) + 0.9, id="year 99"),
        pytest.param(b"160101000000000+", at(2016, 1, 1), id="ten years back"),
        pytest.param(b"150101000000000+", at(2115, 1, 1), id="the next century"),
        pytest.param(b"280229000000000+", at(2028, 2, 29), id="leap day"),
        # The example of section 7.1.1.2: 2 years, 6 months, 10 days, 23 hours, 34 minutes, 29 s.
        pytest.param(b"020610233429000R", at(2029, 6, 3, 11, 34, 29) + 0.25, id="section 7.1.1.2"),
        pytest.param(b"000007000000000R", NOW + 7 * DAY_S, id="seven days"),
        pytest.param(b"000000480000000R", NOW + 2 * DAY_S, id="48 hours"),
        pytest.param(b"009999999999000R", at(2035, 6, 6, 16, 40, 39) + 0.25, id="all at most"),
        pytest.param(b"000000000001959R", NOW + 1, id="relative: tenths and zone are ignored"),
        pytest.param(b"000000000000000R", NOW, id="nothing at all"),
    ],
)
def test_a_time(value: bytes, expected: float | None) -> None:
    assert parse_time(value, NOW) == expected


@pytest.mark.parametrize(
    ("now", "value", "expected"),
    [
        ((2026, 1, 31), b"000100000000000R", (2026, 2, 28)),
        ((2028, 1, 31), b"000100000000000R", (2028, 2, 29)),
        ((2026, 12, 31), b"000200000000000R", (2027, 2, 28)),
        ((2028, 2, 29), b"010000000000000R", (2029, 2, 28)),
        ((2028, 2, 29), b"040000000000000R", (2032, 2, 29)),
        ((2026, 12, 15), b"000100000000000R", (2027, 1, 15)),
        ((2026, 11, 30), b"001200000000000R", (2027, 11, 30)),
        ((2026, 1, 31), b"000101000000000R", (2026, 3, 1)),
        ((2099, 12, 31), b"000001000000000R", (2100, 1, 1)),
    ],
)
def test_months_and_years_follow_the_calendar(
    now: tuple[int, ...], value: bytes, expected: tuple[int, ...]
) -> None:
    assert parse_time(value, at(*now)) == at(*expected)


@pytest.mark.parametrize(
    "value",
    [
        b"2", b"tomorrow", b"\xff" * 16, b"261124083005000", b"261124083005000Z",
        b"261124083005000r", b"26112408300500+", b"2611240830050000+", b"261124083005000+\n",
        b" 61124083005000+", b"26112408300500\xb2+", b"-00007000000000R", b"2611240830_5000+",
        b"261324083005000+", b"260024083005000+", b"261100083005000+", b"261131083005000+",
        b"270229083005000+", b"261124240000000+", b"261124006000000+", b"261124000060000+",
        b"261124000000049+", b"261124000000099-", b"000000000000000+",
    ],
)  # fmt: skip
def test_what_is_no_time(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(value, NOW)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2105, 1, 1)),
    st.integers(0, 9),
    st.integers(-48, 48),
)
def test_an_absolute_time_is_the_same_in_every_zone(
    moment: datetime, tenths: int, quarters: int
) -> None:
    moment = moment.replace(microsecond=tenths * 100_000)
    local = moment + timedelta(minutes=15 * quarters)
    sign = "-" if quarters < 0 else "+"
    value = f"{local:%y%m%d%H%M%S}{tenths}{abs(quarters):02d}{sign}"
    expected = moment.replace(tzinfo=UTC).timestamp()
    assert parse_time(value.encode(), NOW) == pytest.approx(expected, abs=1e-3)


@given(st.binary(max_size=17) | st.from_regex(rb"\A[0-9]{15}[-+R]\Z"), MOMENTS)
def test_any_octets_are_a_time_or_a_value_error(value: bytes, now_s: float) -> None:
    try:
        found = parse_time(value, now_s)
    except ValueError:
        return
    assert (found is None) == (value == b"")
    if is_relative(value):
        assert found is not None
        assert found >= now_s


# -------------------------------------------------------------------------- what is left


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (1, b"000000000001000R"),
        (0.001, b"000000000001000R"),
        (0, b"000000000001000R"),
        (-5, b"000000000001000R"),
        (59.5, b"000000000100000R"),
        (7 * DAY_S, b"000007000000000R"),
        (31 * DAY_S + 86_399, b"000031235959000R"),
        (32 * DAY_S, b"000101000000000R"),
        (366 * DAY_S, b"010000000000000R"),
        (1e99, b"991124235959000R"),
        (math.inf, b"991124235959000R"),
    ],
)
def test_what_is_left(seconds: float, expected: bytes) -> None:
    assert relative_time(seconds) == expected


@given(st.floats(0, 3e9), MOMENTS)
def test_what_is_left_is_never_longer_and_a_little_shorter_at_most(
    seconds: float, now_s: float
) -> None:
    value = relative_time(seconds)
    assert len(value) == 16
    found = parse_time(value, now_s)
    assert found is not None
    wanted_s = max(1, math.ceil(seconds))
    found_s = found - now_s
    assert found_s <= wanted_s + 1e-3
    lost_s = 0 if wanted_s < 32 * DAY_S else 3 * DAY_S * (wanted_s // (28 * DAY_S) + 1)
    assert found_s >= wanted_s - lost_s - 1e-3


# ------------------------------------------------------------------------------ in a PDU

ADDRESSES = b"\1\1" + b"12345\0" + b"\1\1" + b"447700900123\0"


def submit(schedule: bytes = b"", validity: bytes = b"", rest: bytes = b"hi") -> bytes:
    return (
        b"CMT\0" + ADDRESSES + b"\0\0\0" + schedule + b"\0" + validity + b"\0"
        + b"\1\0\0\0" + bytes((len(rest),)) + rest
    )  # fmt: skip


def multi(schedule: bytes = b"", validity: bytes = b"", flag: int = 1) -> bytes:
    return (
        b"CMT\0" + b"\1\1" + b"12345\0" + b"\2" + b"\1\1\1" + b"4477\0" + bytes((flag,))
        + b"\5\0" + b"4478\0" + b"\0\0\0" + schedule + b"\0" + validity + b"\0" + b"\1\0\0\0\2hi"
    )  # fmt: skip


def replace(schedule: bytes = b"", validity: bytes = b"") -> bytes:
    return b"17\0\1\1" + b"12345\0" + schedule + b"\0" + validity + b"\0" + b"\1\0\3new"


def data(*tlvs: bytes) -> bytes:
    return b"CMT\0" + ADDRESSES + b"\0\0\0" + b"".join(tlvs)


BUILDERS = [
    pytest.param(smpp.SUBMIT_SM, submit, id="submit_sm"),
    pytest.param(smpp.SUBMIT_MULTI, multi, id="submit_multi"),
    pytest.param(smpp.REPLACE_SM, replace, id="replace_sm"),
]
IN_AN_HOUR = b"261123130000000+"
AN_HOUR_AGO = b"261123110000000+"
TWO_HOURS = b"000000020000000R"


@pytest.mark.parametrize(("command_id", "build"), BUILDERS)
@pytest.mark.parametrize(
    ("schedule", "validity", "expected"),
    [
        (b"", b"", Timing(None, None)),
        (IN_AN_HOUR, b"", Timing(at(2026, 11, 23, 13), None)),
        (b"", IN_AN_HOUR, Timing(None, at(2026, 11, 23, 13))),
        (IN_AN_HOUR, TWO_HOURS, Timing(at(2026, 11, 23, 13), NOW + 7200)),
        (AN_HOUR_AGO, b"", Timing(None, None)),
        (AN_HOUR_AGO, TWO_HOURS, Timing(None, NOW + 7200)),
        (b"000000000000000R", TWO_HOURS, Timing(None, NOW + 7200)),
        (b"020000000000000R", b"", Timing(at(2028, 11, 23, 12) + 0.25, None)),
        (b"", b"991231235959000+", Timing(None, at(2099, 12, 31, 23, 59, 59))),
    ],
)
def test_when_a_message_is_due_and_expires(
    command_id: int, build: object, schedule: bytes, validity: bytes, expected: Timing
) -> None:
    assert callable(build)
    body = build(schedule, validity)
    assert timing(command_id, body, NOW) == expected
    fields = time_fields(command_id, body)
    assert fields[:2] == (schedule, validity)
    assert body[fields.start : fields.end] == schedule + b"\0" + validity + b"\0"
    assert body[fields.text_start :] in (b"hi", b"new")


@pytest.mark.parametrize(("command_id", "build"), BUILDERS)
@pytest.mark.parametrize(
    ("schedule", "validity", "status"),
    [
        pytest.param(b"tomorrow", b"", 0x61, id="schedule malformed"),
        pytest.param(b"", b"\xff" * 16, 0x62, id="validity malformed"),
        pytest.param(b"1", b"2", 0x61, id="both malformed"),
        pytest.param(b"020000000001000R", b"", 0x61, id="more than two years ahead"),
        pytest.param(b"990101000000000+", b"", 0x61, id="far more than two years ahead"),
        pytest.param(b"", AN_HOUR_AGO, 0x62, id="over"),
        pytest.param(b"", b"000000000000000R", 0x62, id="over at once"),
        pytest.param(TWO_HOURS, IN_AN_HOUR, 0x62, id="over before it is due"),
        pytest.param(IN_AN_HOUR, IN_AN_HOUR, 0x62, id="over when it is due"),
        pytest.param(AN_HOUR_AGO, AN_HOUR_AGO, 0x62, id="due and over"),
    ],
)
def test_times_that_cannot_be(
    command_id: int, build: object, schedule: bytes, validity: bytes, status: int
) -> None:
    assert callable(build)
    with pytest.raises(PduError) as caught:
        timing(command_id, build(schedule, validity), NOW)
    assert caught.value.status == status
    name = "schedule_delivery_time" if status == 0x61 else "validity_period"
    assert caught.value.field == name


def test_a_data_sm_lives_for_seconds() -> None:
    other = pack_tlv(0x1400, b"x")
    assert timing(smpp.DATA_SM, data(other), NOW) == (None, None)
    body = data(other, pack_tlv(0x0017, b"\0\0\x0e\x10"))
    assert timing(smpp.DATA_SM, body, NOW) == (None, NOW + 3600)
    body = data(pack_tlv(0x0017, b"\xff" * 4))
    assert timing(smpp.DATA_SM, body, NOW) == (None, NOW + 2**32 - 1)


@pytest.mark.parametrize(
    ("tlvs", "status"),
    [
        (pack_tlv(0x0017, b"\0\0\0\0"), 0x62),
        (pack_tlv(0x0017, b""), 0xC2),
        (pack_tlv(0x0017, b"\0\0\1"), 0xC2),
        (pack_tlv(0x0017, b"\0" * 5), 0xC2),
        (b"\0\x17\0\4\0", 0xC0),
        (b"\0", 0xC0),
    ],
)
def test_a_malformed_life_of_a_data_sm(tlvs: bytes, status: int) -> None:
    with pytest.raises(PduError) as caught:
        timing(smpp.DATA_SM, data(tlvs), NOW)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("command_id", "body"),
    [
        (smpp.SUBMIT_SM, submit()[:-4]),
        (smpp.SUBMIT_MULTI, multi()[:-4]),
        (smpp.SUBMIT_MULTI, multi(flag=2)),
        (smpp.SUBMIT_MULTI, multi()[:20]),
        (smpp.REPLACE_SM, replace()[:-5]),
        (smpp.DATA_SM, data()[:-1]),
    ],
)
def test_a_malformed_body(command_id: int, body: bytes) -> None:
    with pytest.raises(PduError):
        timing(command_id, body, NOW)


@given(
    st.sampled_from([smpp.SUBMIT_SM, smpp.SUBMIT_MULTI, smpp.REPLACE_SM, smpp.DATA_SM]),
    st.binary(max_size=80),
    MOMENTS,
)
def test_garbage_is_a_pdu_error_at_most(command_id: int, body: bytes, now_s: float) -> None:
    try:
        found = timing(command_id, body, now_s)
    except PduError:
        return
    assert found.due_at_s is None or found.due_at_s > now_s
