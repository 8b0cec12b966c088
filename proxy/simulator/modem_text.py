"""Text mode (AT+CMGF=1): messages as people read and type them (3GPP TS 27.005 section 3)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from proxy.gsm.address import TON_INTERNATIONAL, Number
from proxy.gsm.alphabet import Alphabet, alphabet_of, decode_gsm, decode_text, encode_gsm
from proxy.gsm.times import decode_validity
from proxy.gsm.tpdu import (
    Deliver,
    StatusReport,
    Submit,
    TpduError,
    decode_deliver,
    decode_status_report,
    decode_submit,
    encode_submit,
    kind_of,
    split_smsc,
)
from proxy.gsm.user_data import header_octets
from proxy.simulator.modem_at import AtError
from proxy.simulator.modem_storage import STATUS_TEXTS, STO_UNSENT, Stored

CHARSETS: Final = ("IRA", "GSM", "UCS2", "HEX")
"""What AT+CSCS knows (27.007 section 5.5)."""

_REPORT_BIT: Final = 0x20
_INVALID_TEXT: Final = 305


def quoted(text: str, charset: str) -> str:
    """A string parameter in the character set of the terminal."""
    return f'"{in_charset(text, charset)}"'


def in_charset(text: str, charset: str) -> str:
    """A text as the terminal's character set writes it."""
    if charset == "UCS2":
        return text.encode("utf-16-be", "replace").hex().upper()
    septets = encode_gsm(text, replace=True) or b""
    if charset == "HEX":
        return septets.hex().upper()
    if charset == "GSM":
        return septets.decode("latin-1")
    return text.encode("ascii", "replace").decode()


def from_charset(text: str, charset: str) -> str:
    """The text that the terminal meant. Raises ValueError: it is not of that character set."""
    if charset == "UCS2":
        return bytes.fromhex(text).decode("utf-16-be")
    if charset == "HEX":
        return decode_gsm(bytes.fromhex(text))
    if charset == "GSM":
        return decode_gsm(text.encode("latin-1"))
    return text


def number_text(number: Number) -> str:
    """A number as it is dialled, or a name."""
    return f"+{number.digits}" if number.ton == TON_INTERNATIONAL else number.digits


def type_of_address(number: Number) -> int:
    """<toda>, <tooa>: 145 for an international number (27.005 section 3.1)."""
    return 0x80 | number.ton << 4 | number.npi


def parse_number(text: str, toda: str = "") -> Number:
    """A number that was typed. Raises ValueError: its <toda> is no number."""
    international = text.startswith("+") or (toda != "" and int(toda) >> 4 & 7 == 1)
    return Number(int(international), 1, text.removeprefix("+"))


def submit_of(data: bytes, number: Number, csmp: tuple[int, int, int, int], charset: str) -> bytes:
    """The SMS-SUBMIT of a typed text, with an empty SC address. Raises AtError."""
    first, validity, protocol_id, dcs = csmp
    typed = data.decode("latin-1")
    try:
        alphabet = alphabet_of(dcs)
        if alphabet is Alphabet.OCTETS or first & 0x40:
            text: bytes | None = bytes.fromhex(typed)
        elif alphabet is Alphabet.UCS2:
            text = from_charset(typed, charset).encode("utf-16-be")
        else:
            text = encode_gsm(from_charset(typed, charset), replace=True)
        submit = Submit(
            reference=0,
            destination=number,
            protocol_id=protocol_id,
            data_coding=dcs,
            validity_s=decode_validity(validity) if first & 0x18 == 0x10 else None,
            report=bool(first & _REPORT_BIT),
            udhi=bool(first & 0x40),
            reply_path=bool(first & 0x80),
            reject_duplicates=bool(first & 0x04),
            user_data=text or b"",
        )
        return b"\0" + encode_submit(submit)
    except ValueError:  # TpduError among them
        raise AtError("CMS", _INVALID_TEXT) from None


def stored(message: Stored, charset: str) -> tuple[str, str]:
    """What AT+CMGR tells of a stored message after its name, and the line of its text."""
    status = f'"{STATUS_TEXTS[message.status]}"'
    try:
        _, tpdu = split_smsc(message.octets)
        if message.status >= STO_UNSENT:
            submit = decode_submit(tpdu)
            number = quoted(number_text(submit.destination), charset)
            return f"{status},{number},", _text(submit, charset)
        if kind_of(tpdu) == "status_report":
            return f"{status},{_report(decode_status_report(tpdu), tpdu[0], charset)}", ""
        deliver = decode_deliver(tpdu)
    except TpduError:
        raise AtError("CMS", 320) from None  # "memory failure"
    number = quoted(number_text(deliver.source), charset)
    return f'{status},{number},,"{_time(deliver.sent_at_s)}"', _text(deliver, charset)


def handed_over(name: str, octets: bytes, charset: str) -> str:
    """The lines of +CMT or +CDS."""
    _, tpdu = split_smsc(octets)
    try:
        if name == "+CDS":
            return f"{name}: {_report(decode_status_report(tpdu), tpdu[0], charset)}"
        deliver = decode_deliver(tpdu)
    except TpduError:
        return f"{name}: ,"
    number = quoted(number_text(deliver.source), charset)
    return f'{name}: {number},,"{_time(deliver.sent_at_s)}"\r\n{_text(deliver, charset)}'


def _report(report: StatusReport, first_octet: int, charset: str) -> str:
    number = quoted(number_text(report.recipient), charset)
    toda = type_of_address(report.recipient)
    sent, discharged = _time(report.sent_at_s), _time(report.discharged_at_s)
    return (
        f'{first_octet},{report.reference},{number},{toda},"{sent}","{discharged}",{report.status}'
    )


def _time(at_s: float | None) -> str:
    """As AT+CMGR writes times: in quarters of an hour from UTC."""
    at = datetime.fromtimestamp(at_s or 0, UTC)
    return f"{at:%y/%m/%d,%H:%M:%S}+00"


def _text(message: Submit | Deliver, charset: str) -> str:
    """The text; hex where it is no text, and of a UCS-2 one, as modems do."""
    alphabet = alphabet_of(message.data_coding)
    if alphabet is not Alphabet.GSM7 or message.udhi:
        return message.user_data.hex().upper()
    return in_charset(decode_gsm(message.user_data), charset)


def split_header(message: Submit | Deliver) -> tuple[bytes, bytes]:
    """The user data header with its length, b"" without one, and the text behind it."""
    end = header_octets(message.user_data, message.udhi)
    return message.user_data[:end], message.user_data[end:]


def printable_text(message: Submit | Deliver) -> str | None:
    """The text for people, without its header; None: it is binary."""
    return decode_text(split_header(message)[1], message.data_coding)
