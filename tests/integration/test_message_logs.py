"""What the logs say of a message, and what they never say."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs
from support.esme import message_id
from support.running import running_proxy

from proxy.flow import charge, settle


async def test_debug_lines_tell_a_messages_way_without_its_text_or_number(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (charge, settle):
        monkeypatch.setattr(module, "debug_enabled", lambda: True)
    with capture_logs() as lines:
        async with running_proxy(database_url) as run, run.esme() as esme:
            await esme.bind()
            our_id = message_id(await esme.submit(b"a secret", destination=b"447700900123"))
    told = [line["event"] for line in lines if line.get("message_id") == our_id]
    assert told == ["message_charged", "message_settled"]
    assert "a secret" not in str(lines)
    assert "447700900123" not in str(lines)
    assert "4477******23" in str(lines)
