from __future__ import annotations

import pytest

from proxy.gsm.status import (
    DOUBTFUL_CMS_ERRORS,
    error_text,
    explanation,
    state_of_report,
    status_of_cme_error,
    status_of_cms_error,
)
from proxy.smpp import vocabulary as smpp
from proxy.smpp.vocabulary import FINAL_STATES, MessageState

PASSING = {smpp.ESME_RSYSERR, smpp.ESME_RMSGQFUL, smpp.ESME_RTHROTTLED}
FINAL = {smpp.ESME_RSUBMITFAIL, smpp.ESME_RINVDSTADR}


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (0x00, MessageState.DELIVERED),
        (0x01, MessageState.DELIVERED),
        (0x02, MessageState.DELETED),
        (0x03, MessageState.UNDELIVERABLE),  # reserved: "service rejected"
        (0x10, MessageState.DELIVERED),
        (0x20, None),
        (0x25, None),
        (0x26, MessageState.UNDELIVERABLE),
        (0x30, None),
        (0x40, MessageState.UNDELIVERABLE),
        (0x43, MessageState.UNDELIVERABLE),
        (0x46, MessageState.EXPIRED),
        (0x47, MessageState.DELETED),
        (0x48, MessageState.DELETED),
        (0x49, MessageState.UNKNOWN),
        (0x60, MessageState.UNDELIVERABLE),
        (0x65, MessageState.UNDELIVERABLE),
        (0x80, MessageState.UNDELIVERABLE),
        (0xFF, MessageState.UNDELIVERABLE),
    ],
)
def test_reports(status: int, state: MessageState | None) -> None:
    assert state_of_report(status) is state


def test_every_report_has_a_meaning() -> None:
    for status in range(256):
        state = state_of_report(status)
        assert state is None or state in FINAL_STATES
        assert error_text(status) == f"{status:03d}"
        assert explanation(status)
    assert explanation(0x62) == "no response from the phone"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (None, smpp.ESME_RSYSERR),
        (1, smpp.ESME_RINVDSTADR),
        (8, smpp.ESME_RSUBMITFAIL),
        (10, smpp.ESME_RSUBMITFAIL),
        (17, smpp.ESME_RSYSERR),
        (21, smpp.ESME_RSUBMITFAIL),
        (22, smpp.ESME_RMSGQFUL),
        (38, smpp.ESME_RSYSERR),
        (41, smpp.ESME_RSYSERR),
        (42, smpp.ESME_RTHROTTLED),
        (96, smpp.ESME_RSUBMITFAIL),
        (120, smpp.ESME_RSYSERR),  # no such cause: as 41
        (128, smpp.ESME_RSUBMITFAIL),
        (192, smpp.ESME_RTHROTTLED),
        (194, smpp.ESME_RSYSERR),
        (195, smpp.ESME_RINVDSTADR),
        (197, smpp.ESME_RSUBMITFAIL),
        (211, smpp.ESME_RMSGQFUL),
        (255, smpp.ESME_RSUBMITFAIL),
        (256, smpp.ESME_RSYSERR),
        (302, smpp.ESME_RSUBMITFAIL),
        (304, smpp.ESME_RSUBMITFAIL),
        (314, smpp.ESME_RSYSERR),
        (322, smpp.ESME_RMSGQFUL),
        (331, smpp.ESME_RSYSERR),
        (332, smpp.ESME_RSYSERR),
        (500, smpp.ESME_RSYSERR),
        (513, smpp.ESME_RSYSERR),
        (10**9, smpp.ESME_RSYSERR),
        (-1, smpp.ESME_RSYSERR),
    ],
)
def test_cms_errors(code: int | None, status: int) -> None:
    assert status_of_cms_error(code) == status


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (None, smpp.ESME_RSYSERR),
        (3, smpp.ESME_RSUBMITFAIL),
        (11, smpp.ESME_RSYSERR),
        (14, smpp.ESME_RSYSERR),
        (20, smpp.ESME_RMSGQFUL),
        (27, smpp.ESME_RINVDSTADR),
        (30, smpp.ESME_RSYSERR),
        (100, smpp.ESME_RSYSERR),
        (4711, smpp.ESME_RSYSERR),
    ],
)
def test_cme_errors(code: int | None, status: int) -> None:
    assert status_of_cme_error(code) == status


def test_every_error_is_passing_or_final() -> None:
    for code in range(1000):
        assert status_of_cms_error(code) in PASSING | FINAL
        assert status_of_cme_error(code) in PASSING | FINAL
    for code in DOUBTFUL_CMS_ERRORS:  # who does not ask about doubt does not call it refused
        assert status_of_cms_error(code) in PASSING
