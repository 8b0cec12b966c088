"""query_sm, cancel_sm and replace_sm: found by our id, only for the account that owns it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import structlog

from proxy.flow.message import EsmeSession, Operation, Upstream
from proxy.flow.operate_queue import OperateQueue
from proxy.flow.queue import Queue
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import REPLACE, PduError, content_at
from proxy.smpp.rewrite import operation_message_id, with_message_id
from proxy.smpp.segments import count_segments
from proxy.store.database import UNREACHABLE
from proxy.store.sql import load

log = structlog.get_logger()

_OUR_ID = re.compile("[0-9]{1,19}")
_ID_MAX = 2**63 - 1
_FAILURE = {
    smpp.QUERY_SM: smpp.ESME_RQUERYFAIL,
    smpp.CANCEL_SM: smpp.ESME_RCANCELFAIL,
    smpp.REPLACE_SM: smpp.ESME_RREPLACEFAIL,
}


class Operate:
    """Relays operations on a message to the upstream that has it.  Nothing is charged.

    What is still in the durable queue no upstream has: that is answered here.
    """

    def __init__(
        self, pool: Callable[[], Any], upstreams: dict[int, Upstream], queue: Queue
    ) -> None:
        self._pool = pool
        self._upstreams = upstreams
        self._queued = OperateQueue(pool, queue)

    async def received(
        self, session: EsmeSession, command_id: int, sequence_number: int, body: bytes
    ) -> None:
        """Relay one operation; its answer comes with the upstream's own status."""

        def answer(status: int, response: bytes = b"") -> None:
            session.open_requests -= 1
            session.respond(command_id | smpp.RESP, status, sequence_number, response)

        try:
            message_id = operation_message_id(command_id, body)
            if command_id == smpp.CANCEL_SM and not message_id:
                # At the upstream that would be everybody's messages: here it is the account's.
                answer(*await self._queued.cancel_between(session.account.id, body))
                return
            if not _OUR_ID.fullmatch(message_id) or int(message_id) > _ID_MAX:
                answer(smpp.ESME_RINVMSGID if message_id else _FAILURE[command_id])
                return
            answered = await self._queued.received(
                session.account.id, command_id, int(message_id), body
            )
            if answered is not None:
                answer(*answered)
                return
            row = await self._pool().fetchrow(
                load("message_at_upstream"), session.account.id, int(message_id)
            )
            upstream = self._upstreams.get(row["upstream_id"]) if row else None
            if row is None or upstream is None or not row["smsc_message_id"]:
                answer(smpp.ESME_RINVMSGID if row is None else _FAILURE[command_id])
                return
            if command_id == smpp.REPLACE_SM and _grows(body, row):
                answer(smpp.ESME_RREPLACEFAIL)
                return
            relayed = with_message_id(command_id, body, row["smsc_message_id"])
        except PduError as error:
            answer(error.status)
            return
        except UNREACHABLE:
            answer(smpp.ESME_RSYSERR)
            return
        except Exception:
            log.exception("operation_failed", command=smpp.command_name(command_id))
            answer(_FAILURE[command_id])
            return

        def done(status: int | None, response: bytes) -> None:
            if status is None:
                answer(_FAILURE[command_id])
            elif status == smpp.ESME_ROK and command_id == smpp.QUERY_SM:
                behind_id = response[response.find(b"\0") :]
                answer(status, message_id.encode() + behind_id)
            else:
                answer(status, b"")

        if not upstream.operate(Operation(command_id, relayed, done)):
            answer(_FAILURE[command_id])


def _grows(body: bytes, row: Any) -> bool:
    """Whether the new text of a replace_sm takes more segments than were paid for.

    Raises PduError.
    """
    values, at = REPLACE.split(body)
    texts = content_at(body, at, values[-1][0]).texts
    destinations: int = row["destination_addr"].count(",") + 1
    needed = max(count_segments(text, row["data_coding"]) for text in texts) * destinations
    return needed > int(row["segments"])
