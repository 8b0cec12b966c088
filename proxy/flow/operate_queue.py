"""query_sm, cancel_sm and replace_sm on messages that are still in the durable queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from proxy.flow.queue import Queue
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import READERS
from proxy.smpp.rewrite import cancel_addresses, replaced, with_receipt_asked
from proxy.smpp.times import time_fields, timing
from proxy.smpp.vocabulary import MessageState
from proxy.store import queue as store

_CANCEL_MAX = 1000
_CANCELLED = "cancelled by the client"

Answer = tuple[int, bytes]
"""command_status, body."""


class OperateQueue:
    """Answers operations on queued messages; None where a message is not queued any more."""

    def __init__(self, pool: Callable[[], Any], queue: Queue) -> None:
        self._pool = pool
        self._queue = queue

    async def received(
        self, account_id: int, command_id: int, message_id: int, body: bytes
    ) -> Answer | None:
        """Do it.  Raises PduError."""
        row = await store.find(self._pool(), account_id, message_id)
        if row is None:
            return None
        if command_id == smpp.QUERY_SM:
            # Section 4.8.2: no final date, the state, no network error.
            return smpp.ESME_ROK, b"%d\0\0%c\0" % (message_id, MessageState.ENROUTE)
        if command_id == smpp.CANCEL_SM:
            ended = await self._withdraw([(account_id, message_id)])
            return (smpp.ESME_ROK if ended else smpp.ESME_RCANCELFAIL), b""
        return await self._replace(row, body), b""

    async def cancel_between(self, account_id: int, body: bytes) -> Answer:
        """A cancel_sm without a message id: all that waits between two addresses (4.9.1).

        Raises PduError.
        """
        wanted = cancel_addresses(body)
        line = store.line_of(wanted.destination_addr)
        found = [
            (account_id, row["id"])
            for row in await store.between(self._pool(), account_id, line, _CANCEL_MAX)
            if _is_meant(wanted, row)
        ]
        ended = await self._withdraw(found) if found else 0
        return (smpp.ESME_ROK if ended else smpp.ESME_RCANCELFAIL), b""

    async def _withdraw(self, wanted: list[tuple[int, int]]) -> int:
        return await self._queue.withdraw(wanted, MessageState.DELETED, _CANCELLED)

    async def _replace(self, row: Any, body: bytes) -> int:
        command_id = row["command_id"]
        new_body = replaced(command_id, row["body"], body)
        *_, segments, destinations, _, _ = READERS[command_id](new_body)
        # It was paid for what it was: it may not become more.
        if row["sending"] or segments * destinations > row["segments"]:
            return smpp.ESME_RREPLACEFAIL
        if row["asked"] >= 0:
            new_body = with_receipt_asked(command_id, new_body)
        now_s = time.time()
        due_at_s, expires_at_s = timing(smpp.REPLACE_SM, body, now_s)
        begins_s = due_at_s or row["due_at"].timestamp()
        if expires_at_s is None and time_fields(command_id, new_body).validity_period:
            expires_at_s = row["expires_at"].timestamp()  # its own stays
        if expires_at_s is not None and expires_at_s <= begins_s:
            return smpp.ESME_RINVEXPIRY
        changed = expires_at_s is not None or due_at_s is not None
        latest_s = self._queue.latest(begins_s, expires_at_s) if changed else None
        async with self._pool().acquire() as connection:
            done = await store.replace(
                connection, row["account_id"], row["id"], new_body, due_at_s, latest_s
            )
        return smpp.ESME_ROK if done else smpp.ESME_RREPLACEFAIL


def _is_meant(wanted: Any, row: Any) -> bool:
    source, destination, *_ = fields = READERS[row["command_id"]](row["body"])
    service_type = fields[7].decode("latin-1")
    return (
        source == wanted.source_addr
        and destination == wanted.destination_addr
        and wanted.service_type in ("", service_type)
    )
