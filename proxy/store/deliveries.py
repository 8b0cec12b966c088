"""The queue towards clients: receipts and mobile-originated messages in the database."""

from __future__ import annotations

from typing import Any

from proxy.store.arrays import numbers, texts
from proxy.store.ids import IdMint, id_at_time
from proxy.store.sql import load

RECEIPT_SEARCH_S = 14 * 86400
"""How far back a receipt may look for its message."""


class Incoming:
    """A deliver_sm or data_sm from upstream that has to be kept before it is acknowledged."""

    __slots__ = (
        "account_id",
        "all_asked",
        "attempts",
        "body",
        "command_id",
        "destination_addr",
        "error",
        "id",
        "key",
        "link",
        "message_state",
        "own_sender",
        "sequence_number",
        "source_addr",
        "upstream_id",
    )

    def __init__(
        self,
        link: Any,
        upstream_id: int,
        command_id: int,
        sequence_number: int,
        body: bytes,
        all_asked: bool = False,
    ) -> None:
        self.link = link
        self.upstream_id = upstream_id
        self.command_id = command_id
        self.sequence_number = sequence_number
        self.body = body
        self.all_asked = all_asked
        """Its upstream was asked for every receipt: the client gets it if it asked too."""
        self.own_sender = False
        """Its destination_addr is not the sender of its message, but the upstream's."""
        self.key: str | None = None
        """What its message is found by; None: not a receipt."""
        self.message_state: int | None = None
        self.error: str | None = None
        self.source_addr = ""
        self.destination_addr = ""
        self.id = 0
        self.account_id: int | None = None
        """Whose it is: known from the start for an MO, found with the message for a receipt."""
        self.attempts = 0


class Kept:
    """What keeping a batch told: per item its account and message, and whether it is claimed."""

    __slots__ = ("account_id", "claimed", "message_id", "release_due", "unasked")

    def __init__(
        self,
        account_id: int,
        message_id: int | None,
        claimed: bool,
        release_due: bool = False,
        unasked: bool = False,
    ) -> None:
        self.account_id = account_id
        self.message_id = message_id
        self.claimed = claimed
        self.release_due = release_due
        """The receipt says that the message was not delivered, and its account does not pay."""
        self.unasked = unasked
        """The client did not ask for this receipt, and does not get it."""


async def keep(
    connection: Any, mint: IdMint, batch: list[Incoming], accounts_here: list[int], now: float
) -> dict[int, Kept]:
    """Insert what has an account; receipts look for their message by the upstream's id.

    Rows of `accounts_here` are claimed for this node at once.  Returns what was kept by id; a
    receipt whose message is not known (yet) is missing.
    """
    new = [item for item in batch if not item.id]  # not what is tried again
    for item, minted in zip(new, mint.mint(len(new)), strict=True):
        item.id = minted
    ended: dict[int, Kept] = {}
    if len(new) < len(batch):
        # Perhaps kept the first time, its answer lost, and brought to its client since.
        again = [item.id for item in batch]
        found = await connection.fetch(
            "SELECT id, account_id, message_id FROM delivered WHERE id = ANY ($1)", again
        )
        ended = {r["id"]: Kept(r["account_id"], r["message_id"], False) for r in found}
        batch = [item for item in batch if item.id not in ended]
    rows = await connection.fetch(
        load("keep_deliveries"),
        numbers([i.id for i in batch]),
        numbers([i.account_id or 0 for i in batch]),
        numbers([i.upstream_id for i in batch]),
        texts([i.key or "" for i in batch]),
        numbers([int(i.message_state or 0) for i in batch]),
        texts([i.error or "" for i in batch]),
        numbers([i.command_id for i in batch]),
        [i.body for i in batch],
        accounts_here,
        mint.node,
        id_at_time(now - RECEIPT_SEARCH_S),
        numbers([int(i.all_asked) for i in batch]),
    )
    kept = {
        r["id"]: Kept(
            r["account_id"], r["message_id"], r["claimed"], r["release_due"], r["unasked"]
        )
        for r in rows
    }
    return kept | ended


async def claim(
    connection: Any, account_id: int, node: int, limit: int, known: list[int] | None
) -> list[Any]:
    """Claim up to `limit` waiting rows of an account, oldest first.

    With `known`, also what this node has claimed already and what is not among these ids: the
    answer to an earlier claim was lost.
    """
    rows = await connection.fetch(load("claim_deliveries"), account_id, node, limit, known)
    return sorted(rows, key=lambda row: row["id"])


Ended = tuple[int, int, str, str, int]
"""account_id, delivery id, kind, state ('delivered', 'refused', 'later' or 'back'), status."""
ALL = 0
"""Instead of a delivery id, for 'back': all of the account's that this node has claimed."""


async def end(
    connection: Any, batch: list[Ended], node: int, retry_min_s: float, retry_max_s: float
) -> None:
    """Move rows to the history.

    'later' puts them back with a growing delay instead; 'back' leaves them at once to whoever
    has a receiver for them.
    """
    gone = [e for e in batch if e[3] not in ("later", "back")]
    later = [e for e in batch if e[3] == "later"]
    back = [e for e in batch if e[3] == "back"]
    if gone:
        await connection.execute(
            load("end_deliveries"),
            numbers([e[0] for e in gone]),
            numbers([e[1] for e in gone]),
            texts([e[3] for e in gone]),
            numbers([e[4] for e in gone]),
        )
    if later:
        await connection.execute(
            load("postpone_deliveries"),
            [e[0] for e in later],
            [e[1] for e in later],
            retry_min_s,
            retry_max_s,
        )
    if back:
        await connection.execute(
            load("give_back_deliveries"), [e[0] for e in back], [e[1] for e in back], node
        )
    everything = [e[0] for e in back if e[1] == ALL]
    if everything:
        await connection.execute(
            "UPDATE delivery SET claimed_by = NULL WHERE account_id = ANY ($1) AND claimed_by = $2",
            everything,
            node,
        )


async def resolve_doubt_by_receipt(connection: Any, item: Incoming) -> tuple[int, int] | None:
    """A receipt with an unknown id may be for a message whose response was lost.

    It is taken as such only when exactly one message in doubt went to this upstream with these
    addresses: nothing is guessed.  Returns (account_id, message_id) when that message is
    now charged.
    """
    row = await connection.fetchrow(
        load("resolve_doubt_by_receipt"),
        item.upstream_id,
        None if item.own_sender else item.destination_addr,
        item.source_addr,
        item.key,
    )
    return None if row is None else (row["account_id"], row["message_id"])
