"""Messages from phones as SMPP's deliver_sm."""

from __future__ import annotations

from typing import Final

from proxy.gsm.address import (
    NPI_ISDN,
    NPI_UNKNOWN,
    TON_ALPHANUMERIC,
    TON_INTERNATIONAL,
    TON_UNKNOWN,
    Number,
)
from proxy.gsm.alphabet import Alphabet, alphabet_of
from proxy.gsm.reassembly import Reassembly, Whole
from proxy.gsm.tpdu import Deliver
from proxy.smpp import vocabulary as smpp
from proxy.smpp.own_deliveries import Address, message_body

__all__ = ["Reassembly", "Whole", "deliver_sm_of", "smpp_data_coding"]

_ESM_REPLY_PATH: Final = 0x80
_OF_ALPHABET: Final = {Alphabet.GSM7: 0x00, Alphabet.OCTETS: 0x04, Alphabet.UCS2: 0x08}


def deliver_sm_of(deliver: Deliver, destination: str) -> bytes:
    """The body of a deliver_sm (SMPP 3.4 section 4.6.1) for a message from a phone.

    Args:
        deliver: one short message, or a whole one from `Reassembly`: a text of more than 254
            octets goes into message_payload.
        destination: the SIM's own number; with a leading "+" it is international.

    Raises TlvError for user data of more than 65,535 octets, which neither of them makes.
    """
    esm_class = smpp.ESM_UDHI * deliver.udhi | _ESM_REPLY_PATH * deliver.reply_path
    return message_body(
        _source(deliver.source),
        _destination(destination),
        esm_class=esm_class,
        protocol_id=deliver.protocol_id,
        data_coding=smpp_data_coding(deliver.data_coding),
        text=deliver.user_data,
    )


def smpp_data_coding(dcs: int) -> int:
    """The data_coding (SMPP 3.4 section 5.2.19) that says what a TP-DCS says.

    SMPP has the groups 11xx of 3GPP TS 23.038 (message waiting, message class) as they are.  A
    class in the general groups moves to 1111, which has no UCS-2: such a text keeps its alphabet
    and loses its class.  Compressed data keeps its DCS, since no data_coding says that.
    """
    if dcs >= 0xC0:
        return dcs
    alphabet = alphabet_of(dcs)
    if dcs < 0x80:
        if dcs & 0x20:
            return dcs
        if dcs & 0x10 and alphabet is not Alphabet.UCS2:
            return 0xF0 | (0x04 if alphabet is Alphabet.OCTETS else 0) | dcs & 0x03
    return _OF_ALPHABET[alphabet]


def _source(number: Number) -> Address:
    return Address(number.ton, number.npi, number.digits.encode("latin-1", "replace"))


def _destination(number: str) -> Address:
    international = number.startswith("+")
    digits = number.removeprefix("+")
    ton = TON_INTERNATIONAL if international else TON_UNKNOWN
    npi = NPI_ISDN
    if not (digits.isascii() and digits.isdecimal()):
        ton, npi = TON_ALPHANUMERIC if digits else TON_UNKNOWN, NPI_UNKNOWN
    return Address(ton, npi, digits.encode("latin-1", "replace"))
