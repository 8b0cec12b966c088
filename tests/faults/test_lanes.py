"""The group commit under faults that strike between the parts of one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from proxy.store.group_commit import Lane


class FakeConnection:
    """What a lane needs of a connection."""

    closed = False

    def add_termination_listener(self, _listener: Callable[[Any], None]) -> None:
        """Never called."""

    def is_closed(self) -> bool:
        """Whether terminate was called."""
        return self.closed

    def terminate(self) -> None:
        """Close."""
        self.closed = True


async def connect() -> Any:
    """Always works."""
    return FakeConnection()


@pytest.mark.parametrize("retry", [True, False])
async def test_after_a_bad_item_a_lost_connection_forgets_no_other(retry: bool) -> None:
    """Halves are committed one by one; what stands behind the last of them is still owed."""
    done: list[str] = []
    failed: list[str] = []
    lost_once = False

    async def execute(_connection: Any, batch: list[str]) -> None:
        nonlocal lost_once
        if "bad" in batch:
            raise asyncpg.DataError("bad")
        if "c" in batch and not lost_once:
            lost_once = True
            raise ConnectionResetError

    lane: Lane[str, None] = Lane(
        "test", connect=connect, execute=execute, retry=retry,
        committed=lambda batch, _: done.extend(batch), failed=failed.extend,
    )  # fmt: skip
    lane.add(["a", "bad", "c", "d", "e", "f", "g", "h"])
    running = asyncio.create_task(lane.run())
    async with asyncio.timeout(5):
        await lane.passed()
    running.cancel()
    assert sorted(done + failed) == ["a", "bad", "c", "d", "e", "f", "g", "h"]
    assert done == (["a", "c", "d", "e", "f", "g", "h"] if retry else ["a"])


async def test_a_callback_that_fails_does_not_end_the_lane() -> None:
    """One message that nobody can handle must not stop the traffic of all."""
    done: list[str] = []

    def committed(batch: list[str], _: None) -> None:
        if "poison" in batch:
            raise KeyError("a bug in what comes after the commit")
        done.extend(batch)

    async def execute(_connection: Any, _batch: list[str]) -> None:
        return None

    lane: Lane[str, None] = Lane(
        "test", connect=connect, execute=execute, retry=True, committed=committed,
        failed=lambda _: None,
    )  # fmt: skip
    lane.add(["poison"])
    running = asyncio.create_task(lane.run())
    async with asyncio.timeout(5):
        await lane.passed()
        lane.add(["next"])
        await lane.passed()
    running.cancel()
    assert done == ["next"]
