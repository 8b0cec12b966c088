"""The hot path's two statements: charge a batch, settle a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from proxy.store.arrays import numbers, texts
from proxy.store.ids import IdMint
from proxy.store.sql import load

REASONS: Final = {
    1: "account_disabled",
    2: "insufficient_credits",
    3: "over_rate",
    4: "daily_cap",
    5: "monthly_cap",
    6: "daily_messages",
    7: "account_expired",
}
"""Why charge_batch refuses a message, by its numbers."""


class Charged(NamedTuple):
    """What became of a batch; the messages are grouped by account."""

    messages: list[Any]
    balances: list[int | None]
    """The balance after each message, in micro-credits; None: it was not charged."""
    available: dict[int, int]
    """What each account has left to spend, in micro-credits."""
    refusals: list[int | None] | None
    """Per message a key of REASONS, or None; None: none was refused."""
    repeats: list[int | None] | None
    """Per message the id of the one it repeats, or None; None: nothing was repeated."""
    upstreams: list[int | None] | None
    """Per message the upstream that all its parts take; None: for none is that fixed."""


async def charge(connection: Any, mint: IdMint, messages: Iterable[Any]) -> Charged:
    """Charge messages (as proxy.flow.message has them) in order of arrival, within each account.

    Their ids are minted here, before the write.
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
    queued = [(at, m) for at, m in enumerate(ordered, 1) if m.queue is not None]
    row = await connection.fetchrow(
        load("charge_queued" if queued else "charge"),
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
        numbers([m.price_id for m in ordered]),
        numbers([m.esm_class for m in ordered]),
        numbers([m.data_coding for m in ordered]),
        numbers([m.registered_delivery for m in ordered]),
        *_retries(ordered),
        *_parts(ordered),
        *(queue_arguments([m for _, m in queued], [at for at, _ in queued]) if queued else ()),
    )
    balances, available, refusals, repeats, upstreams = row[:5]
    by_id = {a: left for a, left in zip(account_ids, available, strict=True) if left is not None}
    return Charged(ordered, balances, by_id, refusals, repeats, upstreams)


def _retries(messages: list[Any]) -> tuple[str | None]:
    """The parameter for accounts that may repeat; None when the batch has none of them."""
    hashes = [m.retry_hash for m in messages]
    return (numbers(hashes) if any(hashes) else None,)


def _parts(messages: list[Any]) -> tuple[str | None, ...]:
    """The parameters for parts of accounts that send all or none; None when there are none."""
    if not any(m.part is not None and m.account.rules.all_parts for m in messages):
        return (None,) * 4
    keys, numbers_, totals, upstreams = [], [], [], []
    for m in messages:
        wanted = m.part is not None and m.account.rules.all_parts
        keys.append(m.part_key if wanted else "")
        numbers_.append(m.part.part if wanted else 0)
        totals.append(m.part.total if wanted else 0)
        bound = [u.id for u in m.upstreams if u.bound] if wanted else []
        upstreams.append((bound or [m.upstreams[0].id])[0] if wanted else 0)
    return texts(keys), numbers(numbers_), numbers(totals), numbers(upstreams)


def queue_arguments(messages: list[Any], positions: list[int]) -> tuple[Any, ...]:
    """The parameters of put_in_queue, but the last."""
    return (
        positions,
        [m.id for m in messages],
        [m.account.id for m in messages],
        [m.queue.line for m in messages],
        [m.queue.route for m in messages],
        [m.queue.due_at_s for m in messages],
        [m.queue.expires_at_s for m in messages],
        [m.command_id for m in messages],
        [m.body for m in messages],
        [m.price_micro for m in messages],
        [",".join(map(str, m.prices_micro)) for m in messages],
        [m.service for m in messages],
        [m.asked for m in messages],
    )


class Hold:
    """A message that is only known by its row, in the place of the flow's Message."""

    __slots__ = ("account", "asked", "id")

    def __init__(self, message_id: int, account_id: int) -> None:
        self.id = message_id
        self.asked = -1
        self.account = _AccountId(account_id)


class _AccountId(NamedTuple):
    id: int


class Settlement:
    """How one hold ends, or that it is in doubt."""

    __slots__ = (
        "back_micro",
        "body",
        "cost_micro",
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
        cost_micro: int | None = None,
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
        """Gives back all of the price, or back_micro of it (which may be nothing)."""
        self.back_micro = back_micro
        self.cost_micro = cost_micro
        """What the upstream takes for it, where that is known."""
        self.in_doubt = in_doubt
        self.late = late
        """The message was in doubt before, and its client has been answered."""
        # Some of its words may be the upstream's.
        self.reason = reason and reason.replace("\0", "?")

    @property
    def withdrawn(self) -> bool:
        """No upstream had it: released, or charged on submit, without an answer."""
        return self.released and self.upstream_id is None


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
    released: list[int] = await connection.fetchval(
        load("settle"), *settle_arguments(mint, settlements, late_resolution)
    )
    return set(released)


def settle_arguments(
    mint: IdMint, settlements: list[Settlement], late_resolution: str = "late answer"
) -> tuple[Any, ...]:
    """The parameters of settle_batch."""
    charged = [s for s in settlements if not s.released and not s.in_doubt]
    late: list[Settlement] = []
    back: list[Settlement] = []
    doubt: list[Settlement] = []
    if len(charged) != len(settlements):
        back = [s for s in settlements if s.released]
        doubt = [s for s in settlements if s.in_doubt]
    late = [s for s in settlements if s.late]
    return (
        numbers([s.message.id for s in charged]),
        numbers([s.message.account.id for s in charged]),
        numbers([s.upstream_id or 0 for s in charged]),
        texts([s.smsc_message_id for s in charged]),
        texts([s.receipt_key or "" for s in charged]),
        numbers([s.message.asked for s in charged]),
        numbers([-1 if s.cost_micro is None else s.cost_micro for s in charged]),
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


async def release(connection: Any, mint: IdMint, due: list[tuple[int, int]]) -> set[int]:
    """Give back what stands in release_due: (account_id, message_id).  Repeatable.

    Returns the ids of the messages whose credit was given back by this call.
    """
    released: list[int] = await connection.fetchval(
        "SELECT release_batch($1::bigint[], $2::bigint[], $3::bigint[])",
        [message_id for _, message_id in due],
        [account_id for account_id, _ in due],
        mint.mint(len(due)),
    )
    return set(released)
