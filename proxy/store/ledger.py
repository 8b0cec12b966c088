"""The hot path's two statements: charge a batch, settle a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from proxy.store.arrays import numbers, texts
from proxy.store.ids import IdMint
from proxy.store.sql import load


async def charge(
    connection: Any, mint: IdMint, messages: Iterable[Any]
) -> tuple[list[Any], list[int | None], set[int]]:
    """Charge messages (as proxy.flow.message has them) in order of arrival, within each account.

    Their ids are minted here, before the write.

    Returns the messages grouped by account, the balance after each of them (micro-credits, None:
    refused, not enough credit), and the ids of accounts that are disabled or gone.
    """
    by_account: dict[int, list[Any]] = {}
    for message in messages:
        account_id = message.account.id
        group = by_account.get(account_id)
        if group is None:
            by_account[account_id] = [message]
        else:
            group.append(message)
    # Accounts ascending: two proxies lock them in the same order.
    account_ids = sorted(by_account)
    sizes = [len(by_account[account_id]) for account_id in account_ids]
    if len(account_ids) == 1:
        ordered = by_account[account_ids[0]]
        message_accounts = account_ids * len(ordered)
    else:
        ordered = [m for account_id in account_ids for m in by_account[account_id]]
        message_accounts = [m.account.id for m in ordered]
    ids = mint.mint(len(ordered))
    for message, message_id in zip(ordered, ids, strict=True):
        message.id = message_id
    row = await connection.fetchrow(
        load("charge"),
        account_ids,
        sizes,
        numbers(ids),
        numbers(message_accounts),
        numbers([m.login_id for m in ordered]),
        numbers([m.command_id for m in ordered]),
        texts([m.source_addr for m in ordered]),
        texts([m.destination_addr for m in ordered]),
        numbers([m.segments for m in ordered]),
        numbers([m.price_micro for m in ordered]),
        numbers([m.esm_class for m in ordered]),
        numbers([m.data_coding for m in ordered]),
        numbers([m.registered_delivery for m in ordered]),
    )
    unusable = {a for a, usable in zip(account_ids, row[1], strict=True) if not usable}
    return ordered, row[0], unusable


class Hold:
    """A message that is only known by its row, in the place of the flow's Message."""

    __slots__ = ("account", "id")

    def __init__(self, message_id: int, account_id: int) -> None:
        self.id = message_id
        self.account = _AccountId(account_id)


class _AccountId(NamedTuple):
    id: int


class Settlement:
    """How one hold ends, or that it is in doubt."""

    __slots__ = (
        "back_micro",
        "body",
        "in_doubt",
        "late",
        "message",
        "reason",
        "receipt_key",
        "released",
        "smsc_message_id",
        "status",
        "upstream_id",
    )

    def __init__(
        self,
        message: Any,
        upstream_id: int | None,
        status: int,
        *,
        smsc_message_id: str = "",
        receipt_key: str | None = None,
        body: bytes = b"",
        released: bool = False,
        back_micro: int | None = None,
        in_doubt: bool = False,
        late: bool = False,
        reason: str | None = None,
    ) -> None:
        self.message = message
        self.upstream_id = upstream_id
        self.status = status
        """The command_status that the client gets."""
        self.smsc_message_id = smsc_message_id
        self.receipt_key = receipt_key
        self.body = body
        """The body of the upstream's response."""
        self.released = released
        """Gives back all of the price, or back_micro of it."""
        self.back_micro = back_micro
        self.in_doubt = in_doubt
        self.late = late
        """The message was in doubt before, and its client has been answered."""
        self.reason = reason


async def settle(
    connection: Any,
    mint: IdMint,
    settlements: list[Settlement],
    late_resolution: str = "late answer",
) -> set[int]:
    """Ends holds.  Repeatable: a message that has an outcome keeps it.

    `late_resolution` is noted where one was in doubt.

    Returns the ids of the messages whose credit was given back by this call.
    """
    charged = [s for s in settlements if not s.released and not s.in_doubt]
    late: list[Settlement] = []
    back: list[Settlement] = []
    doubt: list[Settlement] = []
    if len(charged) != len(settlements):
        back = [s for s in settlements if s.released]
        doubt = [s for s in settlements if s.in_doubt]
    late = [s for s in settlements if s.late]
    released: list[int] = await connection.fetchval(
        load("settle"),
        numbers([s.message.id for s in charged]),
        numbers([s.message.account.id for s in charged]),
        numbers([s.upstream_id or 0 for s in charged]),
        texts([s.smsc_message_id for s in charged]),
        texts([s.receipt_key or "" for s in charged]),
        [s.message.id for s in back],
        [s.message.account.id for s in back],
        [s.upstream_id for s in back],
        [s.smsc_message_id for s in back],
        [s.receipt_key for s in back],
        [s.status for s in back],
        [s.back_micro for s in back],
        mint.mint(len(back)),
        [s.reason for s in back],
        [s.message.id for s in doubt],
        [s.message.account.id for s in doubt],
        [s.upstream_id for s in doubt],
        [s.reason for s in doubt],
        [s.message.id for s in late],
        [s.message.account.id for s in late],
        late_resolution,
    )
    return set(released)
