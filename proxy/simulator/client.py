"""A small SMPP client, for trying the proxy: bind, send one text, perhaps await its receipts.

It is aiosmpplib's ESME with its edges taken off. ESME is made to stay connected for ever, so
what it does only inside its reconnecting `start` (running its tasks, closing the socket) is done
here, which needs a few of its protected members: the project pins aiosmpplib to 0.7.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
from asyncio import IncompleteReadError, StreamWriter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiosmpplib.codec import find_codec_info
from aiosmpplib.correlator import SimpleCorrelator
from aiosmpplib.esme import ESME
from aiosmpplib.protocol import DeliverSm, GenericNack, SmppMessage, SubmitSm, Unbind
from aiosmpplib.state import (
    NPI,
    TON,
    PduHeader,
    PhoneNumber,
    SmppCommand,
    SmppCommandStatus,
    SmppError,
)

from proxy.simulator import smsc_octets as octets
from proxy.smpp import vocabulary as smpp

UNBIND_TIMEOUT_S: Final = 2.0
PARTS_MAX: Final = 255
"""The total of a concatenated message is one octet (3GPP TS 23.040 section 9.2.3.24.1)."""

_ANSWERED: Final = frozenset({smpp.DELIVER_SM, smpp.ENQUIRE_LINK, smpp.UNBIND})
"""Requests of the server that ESME knows how to answer."""
_UNLOGGED: Final = logging.CRITICAL + 1
_STAT_OF_STATE: Final = {int(state): stat for state, stat in smpp.STAT_OF_STATE.items()}
_RECEIPT_ID: Final = re.compile(rb"\bid:(\S+)", re.IGNORECASE)
_RECEIPT_STAT: Final = re.compile(rb"\bstat:(\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of one part of a text."""

    status: int
    """The command_status of its response; 0 when it was accepted."""
    message_id: str
    """Empty when it was refused."""
    receipt: str | None
    """The "stat" word of its last receipt ("DELIVRD"); None: none came, or none was awaited."""


class BindRefused(Exception):
    """The server answered the bind with an error status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"bind refused: {smpp.status_name(status)}")
        self.status = status


async def send(
    host: str,
    port: int,
    system_id: str,
    password: str,
    *,
    source: str,
    destination: str,
    text: str,
    registered_delivery: bool = False,
    wait_receipt_s: float = 0.0,
    timeout_s: float = 30.0,
) -> list[SendResult]:
    """Bind as a transceiver, send a text, unbind; one result for each part that it takes.

    With `wait_receipt_s` receipts are asked for, and awaited that long at most, after the last
    response. `timeout_s` is for everything before. Raises BindRefused; ConnectionError when the
    connection is refused or lost; TimeoutError when an answer does not come; ValueError when a
    value does not fit in its field (a password has at most 8 characters).
    """
    want_receipt = registered_delivery or wait_receipt_s > 0
    messages = _messages(source, destination, text, want_receipt=want_receipt)
    client = _Client(host, port, system_id, password, timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            await client.bind()
            for message in messages:
                await client.submit(message)
            sent = [message.sequence_num for message in messages]
            await client.until(lambda: all(number in client.answers for number in sent))
        answers = [client.answers[number] for number in sent]
        accepted = [message_id for status, message_id in answers if status == smpp.ESME_ROK]
        # A link that ends now has still delivered the messages: say what is known of them.
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(wait_receipt_s):
                await client.until(lambda: all(map(client.is_final, accepted)))
    finally:
        await client.close()
    wanted = client.receipts if wait_receipt_s > 0 else {}
    return [
        SendResult(status, message_id, wanted.get(message_id) if message_id else None)
        for status, message_id in answers
    ]


class _Client(ESME):  # type: ignore[misc] # aiosmpplib has no type marker
    """An ESME of one connection, that sees answers as they are on the wire."""

    def __init__(
        self, host: str, port: int, system_id: str, password: str, timeout_s: float
    ) -> None:
        super().__init__(
            host,
            port,
            system_id,
            password,
            log_level=_UNLOGGED,
            log_handler=logging.NullHandler(),
            # It forgets requests after 15 seconds otherwise, and a slow answer is an answer.
            correlator=SimpleCorrelator(system_id, max_ttl_response=max(timeout_s, 1.0) * 2),
            socket_timeout=float(timeout_s),
        )
        self.answers: dict[int, tuple[int, str]] = {}
        """Status and message_id of each submit_sm_resp, by sequence number."""
        self.receipts: dict[str, str] = {}
        """The last "stat" word of each message_id."""
        self._changed = asyncio.Event()
        self._receiving: asyncio.Task[object] | None = None
        """Ends with the connection; None before the bind."""
        self._unbound = False

    async def bind(self) -> None:
        """Connect and bind."""
        try:
            await self.connect()
        except (TimeoutError, ConnectionError, BindRefused):
            raise
        except (OSError, IncompleteReadError, SmppError, ValueError) as error:
            # No such host, no route, several addresses that all refuse; hanging up; or nonsense.
            raise ConnectionError(str(error) or repr(error)) from error
        self._bound.set()
        # ESME's keeper of the connection is left out: it may swallow its own cancellation. The
        # server's enquire_link are answered, and every wait here has an end.
        self._receiving = asyncio.create_task(self._receive_data())
        self._receiving.add_done_callback(lambda _task: self._changed.set())

    async def submit(self, message: SubmitSm) -> None:
        """Send a message; its sequence number is then set, its answer comes into `answers`."""
        await self._send_data(message)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; ConnectionError when the link ends before."""
        while not holds():
            if not self._is_connected:
                raise ConnectionError("the server closed the connection")
            self._changed.clear()
            await self._changed.wait()

    @property
    def _is_connected(self) -> bool:
        return self._receiving is not None and not self._receiving.done()

    def is_final(self, message_id: str) -> bool:
        """Whether the last receipt of a message tells its final state."""
        stat = self.receipts.get(message_id, "ENROUTE")
        return smpp.STATE_OF_STAT.get(stat, smpp.MessageState.UNKNOWN) in smpp.FINAL_STATES

    async def close(self) -> None:
        """Unbind, when the link still stands, and close the socket.

        ESME.stop would wait a second for its own tasks, and leave the socket half open.
        """
        if self._is_connected:
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(UNBIND_TIMEOUT_S):
                    await self._send_data(Unbind())
                    await self.until(lambda: self._unbound)
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.gather(self._receiving, return_exceptions=True)
        writer: StreamWriter | None = self._writer
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _get_pdu(self) -> tuple[bytes, PduHeader]:
        """Read a PDU, and note what it says before aiosmpplib sees it.

        aiosmpplib drops the connection when a status is not in its list (0x40B, 0x401 and the
        like are what gateways send for "insufficient credits"), takes ESME_RALYBND for a
        success, and fails to read a refused bind that has no body (which is how section 4.1.2
        wants it).
        """
        while True:
            head = await self._reader.readexactly(octets.HEADER.size)
            length, command_id, status, sequence = octets.HEADER.unpack(head)
            if not octets.HEADER.size <= length <= octets.PDU_OCTETS_MAX:
                raise ValueError(f"a PDU of {length} octets")
            body = await self._reader.readexactly(length - octets.HEADER.size)
            if status and self._receiving is None:
                raise BindRefused(status)
            self._note(command_id, status, sequence, body)
            if not (command_id & smpp.RESP or command_id in _ANSWERED):
                await self._refuse(command_id, sequence)
                continue
            try:
                command = SmppCommand(command_id)
            except ValueError:
                continue  # an answer to nothing that was asked
            try:
                known = SmppCommandStatus(status)
            except ValueError:
                known = SmppCommandStatus.ESME_RUNKNOWNERR
            return head + body, PduHeader(length, command, known, sequence)

    async def _refuse(self, command_id: int, sequence: int) -> None:
        """Refuse a request that a small client has no use for (aiosmpplib's nack says "OK")."""
        if self._receiving is None:
            raise ValueError(f"{smpp.command_name(command_id)} before the answer to the bind")
        if command_id != smpp.ALERT_NOTIFICATION:  # which nobody answers, section 4.12
            await self._send_data(GenericNack(sequence, SmppCommandStatus.ESME_RINVCMDID))

    def _note(self, command_id: int, status: int, sequence: int, body: bytes) -> None:
        if command_id in (smpp.SUBMIT_SM_RESP, smpp.GENERIC_NACK):
            self.answers[sequence] = (status, body.partition(b"\0")[0].decode("latin-1"))
        elif command_id == smpp.UNBIND_RESP:
            self._unbound = True
        elif command_id == smpp.DELIVER_SM:
            with contextlib.suppress(octets.MalformedPduError):
                self._note_receipt(body)
        self._changed.set()

    def _note_receipt(self, body: bytes) -> None:
        esm_class, text, tlvs = octets.read_deliver(body)
        if esm_class & smpp.ESM_TYPE_MASK != smpp.ESM_RECEIPT:
            return
        in_text = _RECEIPT_ID.search(text)
        message_id = tlvs.get(smpp.TAG_RECEIPTED_MESSAGE_ID, b"").partition(b"\0")[0]
        message_id = message_id or (in_text[1] if in_text else b"")
        stat = _RECEIPT_STAT.search(text)
        state = int.from_bytes(tlvs.get(smpp.TAG_MESSAGE_STATE, b""), "big")
        word = stat[1].decode("latin-1") if stat else _STAT_OF_STATE.get(state, "UNKNOWN")
        self.receipts[message_id.decode("latin-1")] = word

    async def _handle_request(self, pdu: bytes, header: PduHeader) -> SmppMessage | None:
        """Have a deliver_sm answered without reading it.

        aiosmpplib refuses an unlisted TLV or data_coding in it, and drops the connection at a
        receipt with seconds in its dates or letters in its "err".
        """
        if header.smpp_command is SmppCommand.DELIVER_SM:
            return DeliverSm(sequence_num=header.sequence_num, short_message="-")
        return await super()._handle_request(pdu, header)


def _messages(source: str, destination: str, text: str, *, want_receipt: bool) -> list[SubmitSm]:
    """The submit_sm of a text, one for each part."""
    encoding, parts = _split(text)
    messages = []
    for part in parts:
        message = SubmitSm(
            short_message=text,
            source=_phone_number(source),
            destination=_phone_number(destination),
            esm_class=smpp.ESM_UDHI if len(parts) > 1 else 0,
            registered_delivery=int(want_receipt),
            encoding=encoding,
        )
        message.set_encoded_message(part)
        messages.append(message)
    return messages


def _split(text: str) -> tuple[str, list[bytes]]:
    """Encode a text, in parts of at most 140 octets on the air, each with its UDH.

    aiosmpplib's own split counts characters where it should count septets: with "€" or "{" its
    parts come out longer than a message can be. And it numbers each process's texts from 0,
    so that parts of two texts sent one after the other would be taken for one.
    """
    try:
        encoding, alone_max, part_max = "gsm0338", 160, 153
        units = [find_codec_info(encoding).encode(letter, "strict")[0] for letter in text]
    except UnicodeEncodeError:
        encoding, alone_max, part_max = "ucs2", 140, 134
        units = [find_codec_info(encoding).encode(letter, "strict")[0] for letter in text]
    whole = b"".join(units)
    if len(whole) <= alone_max:
        return encoding, [whole]
    parts = [b""]
    for unit in units:
        if len(parts[-1]) + len(unit) > part_max:
            parts.append(b"")
        parts[-1] += unit
    if len(parts) > PARTS_MAX:
        raise ValueError(f"the text is too long: {len(parts)} parts, at most {PARTS_MAX}")
    reference = random.randrange(256)  # noqa: S311 - not a secret
    udh = bytes((5, 0, 3, reference, len(parts)))
    return encoding, [udh + bytes((at,)) + part for at, part in enumerate(parts, start=1)]


def _phone_number(address: str) -> PhoneNumber:
    """Type of number (section 5.2.5) by the look of it: +385…, a short code, or a name."""
    if address.startswith("+"):
        return PhoneNumber(address[1:], TON.INTERNATIONAL, NPI.ISDN)
    if address.isdecimal():
        return PhoneNumber(address, TON.UNKNOWN, NPI.ISDN)
    return PhoneNumber(address, TON.ALPHANUMERIC, NPI.UNKNOWN)
