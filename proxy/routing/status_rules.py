"""What is done about a carrier's refusal: told to the client, tried here again, or tried elsewhere.

A response with a command_status other than ESME_ROK says that the carrier did not take the
message (SMPP 3.4 section 3.2), so it may go out again without becoming two.  Silence is no such
answer: what was written and not answered is never sent twice, whatever a rule says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast

from proxy.smpp import vocabulary as smpp

Rule = Literal["pass", "retry", "next"]

THROTTLING: Final = frozenset({smpp.ESME_RTHROTTLED, smpp.ESME_RMSGQFUL})
"""Too fast, or its queue is full: the carrier takes the same message in a moment."""

ABOUT_CARRIER: Final = frozenset(
    {smpp.ESME_RINVBNDSTS, smpp.ESME_RSYSERR, smpp.ESME_RBINDFAIL, smpp.ESME_RX_T_APPN}
)
"""The carrier or our link to it can't now; nothing is said of the message.

ESME_RSYSERR and ESME_RX_T_APPN are troubles of its own.  ESME_RINVBNDSTS and ESME_RBINDFAIL
as answers to a message mean that it takes our bound link for an unbound one.
"""


class Rules:
    """The rule of each command_status (section 5.1.3), for one upstream.

    Without a rule of the operator's:

    - ESME_RTHROTTLED and ESME_RMSGQFUL: "retry".  The upstream slows down meanwhile.
    - what says that the carrier can't now (`ABOUT_CARRIER`): "next".
      For a carrier that answers so and sends the message all the same, set it to "pass".
    - everything else: "pass".  A bad address or a forbidden sender stays what it is, and a
      status that nobody knows (a carrier's own) may be one of these.

    A generic_nack has the rule of the status it carries.  Those of its own (section 4.3:
    ESME_RINVCMDLEN, ESME_RINVCMDID; ESME_RUNKNOWNERR for one without) are "pass": a carrier that
    could not read a PDU will not read the same octets a second time, and one that lost its place
    in the stream may name the sequence number of another message, which it did take.
    """

    __slots__ = ("_rules",)

    def __init__(self, on_status: Mapping[str, str]) -> None:
        """`on_status` is an upstream's: "0x58" or "88" to "pass", "retry" or "next".

        Raises ValueError for anything else; the configuration has looked before.
        """
        self._rules: dict[int, Rule] = dict.fromkeys(THROTTLING, "retry")
        self._rules.update(dict.fromkeys(ABOUT_CARRIER, "next"))
        for key, rule in on_status.items():
            if rule not in ("pass", "retry", "next"):
                raise ValueError(f'"{rule}" is not pass, retry or next')
            status = int(key, 16 if key[:2].lower() == "0x" else 10)
            self._rules[status] = cast(Rule, rule)

    def rule(self, status: int) -> Rule:
        """What is done about this command_status, which is not ESME_ROK."""
        return self._rules.get(status, "pass")
