"""Messages in the durable queue, put there as the charge puts them."""

from __future__ import annotations

import time
from typing import Any

from support.messages import MICRO, bare_message
from support.submissions import body_of

from proxy.store import ledger, queue
from proxy.store.ids import IdMint
from proxy.store.queue import Claimed, Place, Postponed

NODE = 7
_mint = IdMint(NODE)


async def account(conn: Any, name: str = "shop", credits: int = 1000) -> int:
    """An account with credits, paid in."""
    account_id = await conn.fetchval(
        "INSERT INTO account (name, balance_micro) VALUES ($1, $2) RETURNING id",
        name,
        credits * MICRO,
    )
    await conn.execute(
        "INSERT INTO ledger (id, account_id, operation, counter, amount_micro, balance_micro)"
        " VALUES ($3, $1, 'add', 'paid_in', $2, $2)",
        account_id,
        credits * MICRO,
        _mint.mint(1)[0],
    )
    return int(account_id)


async def enqueue(
    conn: Any,
    account_id: int,
    *numbers: str,
    route: str = "modems",
    due_in_s: float = 0,
    registered_delivery: int = 0,
) -> list[int]:
    """One message to each of the numbers, a credit each; returns their ids."""
    now_s = time.time()
    messages = [
        bare_message(
            account_id,
            source_addr="447700900999",
            destination_addr=number,
            registered_delivery=registered_delivery,
            queue=Place(
                route,
                queue.line_of(number),
                now_s + due_in_s if due_in_s else 0.0,
                now_s + due_in_s + 600,
            ),
            body=body_of(
                text=b"hello",
                registered_delivery=registered_delivery,
                destinations=((1, 1, number.encode()),),
            ),
        )
        for number in numbers
    ]
    await ledger.charge(conn, _mint, messages)
    return [message.id for message in messages]


async def claim(conn: Any, route: str = "modems", limit: int = 100) -> list[Claimed]:
    """A proxy takes the first message of each line."""
    return await queue.claim(conn, NODE, {route: limit})


async def put_off(conn: Any, claimed: list[Claimed], status: int = 0x58) -> None:
    """The upstream refused them for now: they wait for a minute."""
    postponed = []
    for one in claimed:
        message = bare_message(
            one.account_id, queue=Place(one.route, one.line, one.due_s, one.expires_s, one.attempts)
        )
        message.id = one.id
        postponed.append(Postponed(message, "it is busy", status))
    await queue.work(conn, _mint, [], postponed, retry_min_s=60, retry_max_s=60)
