"""The destinations of a submit_multi, one behind the other (SMPP 3.4 section 4.5.1.1)."""

from __future__ import annotations

from typing import NamedTuple

from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import MULTI_ADDRESS, MULTI_HEAD, PduError

_SME_ADDRESS = 1


class Address(NamedTuple):
    """An address with what kind it is (sections 5.2.5 to 5.2.9)."""

    ton: int
    npi: int
    addr: bytes


def multi_destinations(body: bytes) -> tuple[list[Address], int]:
    """The destinations of a submit_multi, in order, and where its esm_class is.

    Raises PduError, also for distribution lists.
    """
    head, at = MULTI_HEAD.split(body)
    destinations: list[Address] = []
    for _ in range(head[4][0]):
        if body[at : at + 1] != bytes((_SME_ADDRESS,)):
            raise PduError(smpp.ESME_RINVDESTFLAG, "dest_flag")
        (ton, npi, addr), length = MULTI_ADDRESS.split(body[at + 1 : at + 24])
        destinations.append(Address(ton[0], npi[0], addr))
        at += 1 + length
    return destinations, at
