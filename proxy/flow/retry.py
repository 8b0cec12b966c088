"""Retry-safe charging: a submit that its client repeats is charged and sent once.

A client whose link broke, or who was told "in doubt", does not know whether its message went out,
and sends it again.  An account with `retry_safe_s` gets the first one's message id then.  A
message can be repeated until its client is known to have had the answer: the session that got it
is still open some seconds later.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from proxy.flow.message import FRESH, EsmeSession, Message
from proxy.smpp import vocabulary as smpp
from proxy.smpp.rewrite import text_position
from proxy.store import retries
from proxy.store.database import UNREACHABLE
from proxy.telemetry.tasks import Tasks

log = structlog.get_logger()

_SURE_AFTER_S = 5.0
_LOOK_EVERY_S = 0.2
_FORGET_EVERY_S = 1.0


class _Answered(NamedTuple):
    at: float
    session: EsmeSession
    account_id: int
    retry_hash: int
    message_id: int


class Retry:
    """Knows what may be repeated, and answers what is."""

    def __init__(
        self,
        pool: Callable[[], Any],
        tasks: Tasks,
        record_event: Callable[..., None],
        in_doubt_status: int,
        *,
        answer_within_s: float,
    ) -> None:
        self._pool = pool
        self._tasks = tasks
        self._record_event = record_event
        self._in_doubt_status = in_doubt_status
        self._answer_within_s = answer_within_s
        self._answered: deque[_Answered] = deque()
        self._just_answered: dict[tuple[EsmeSession, int], int] = {}
        """By session and hash the message that was answered last."""
        self._waiting: dict[int, list[Message]] = {}
        """By message id the retries that wait for its answer."""

    def mark(self, messages: list[Message]) -> None:
        """Give messages the hash by which a retry of them is known.

        What the same session sends again after its answer is another message.
        """
        for message in messages:
            retry_hash = _hash(message)
            fresh = (message.session, retry_hash) in self._just_answered
            message.retry_hash = retry_hash | FRESH if fresh else retry_hash

    def answered(self, message: Message) -> None:
        """The client was told what became of it; a moment later it is known whether it had that."""
        session = message.session
        if session.closing:
            return
        now, retry_hash = asyncio.get_running_loop().time(), message.retry_hash & ~FRESH
        self._answered.append(_Answered(now, session, message.account.id, retry_hash, message.id))
        self._just_answered[session, retry_hash] = message.id

    async def run(self) -> None:
        """Forget what is known to be answered; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_FORGET_EVERY_S)
            old: list[_Answered] = []
            while self._answered and self._answered[0].at < loop.time() - _SURE_AFTER_S:
                old.append(self._answered.popleft())
            sure = [one for one in old if not one.session.closing]
            if sure:
                try:
                    await retries.forget(
                        self._pool(), [(a.account_id, a.retry_hash, a.message_id) for a in sure]
                    )
                except UNREACHABLE as error:  # until then they are remembered here
                    log.warning("retries_not_forgotten", reason=str(error) or repr(error))
                    self._answered.extendleft(reversed(sure))
                    old = [one for one in old if one.session.closing]
            for one in old:
                if self._just_answered.get((one.session, one.retry_hash)) == one.message_id:
                    del self._just_answered[one.session, one.retry_hash]

    def repeated(self, message: Message, first_id: int) -> None:
        """A retry of a message that was charged before: it gets that one's answer."""
        self._record_event(
            "message_repeated",
            "Message repeated by its client: charged once",
            account_id=message.account.id,
            message_id=first_id,
        )
        waiting = self._waiting.get(first_id)
        if waiting is not None:  # one looks for all: a client may repeat it any number of times
            waiting.append(message)
            return
        self._waiting[first_id] = [message]
        self._tasks.spawn(
            self._answer(message.account.id, first_id), "answer to a repeated message"
        )

    async def _answer(self, account_id: int, first_id: int) -> None:
        status = await self._outcome(account_id, first_id)
        for message in self._waiting.pop(first_id):
            session = message.session
            session.open_requests -= 1
            body = b"%d\0" % first_id if status == smpp.ESME_ROK else b""
            if status == smpp.ESME_ROK and message.command_id == smpp.SUBMIT_MULTI:
                body += b"\0"
            session.respond(message.command_id | smpp.RESP, status, message.sequence_number, body)

    async def _outcome(self, account_id: int, message_id: int) -> int:
        """The status of the first one's answer, waiting for it as long as that one may take."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._answer_within_s
        while True:
            try:
                known = await retries.outcome(self._pool(), account_id, message_id)
            except Exception as error:  # whatever it was: somebody waits for an answer
                log.warning("retry_not_answered", reason=str(error) or repr(error))
                return self._in_doubt_status
            if known is not None:
                return known
            if loop.time() >= deadline:
                return self._in_doubt_status
            await asyncio.sleep(_LOOK_EVERY_S)


def _hash(message: Message) -> int:
    """63 bits over what makes two submits the same: the addresses, and how and what they say."""
    at = 0
    if message.command_id != smpp.SUBMIT_MULTI:  # its body begins otherwise
        at = text_position(message.command_id, message.body)[0] - 1  # with sm_length
    digest = hashlib.blake2b(digest_size=8)
    for part in (
        b"%d" % message.command_id,
        message.source_addr.encode("latin-1"),
        message.destination_addr.encode("latin-1"),
        b"%d,%d" % (message.esm_class, message.data_coding),
        message.body[at:],
    ):
        digest.update(b"%d:" % len(part) + part)
    # 0 means that there is none.
    return int.from_bytes(digest.digest(), signed=True) & ~FRESH or 2
