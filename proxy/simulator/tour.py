"""`run --tour`: the main job, done once in front of whoever just started the proxy.

A client binds over SMPP, sends until its credit is used up, is refused, gets a top-up, and is
served again; then the credit log and the audit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from proxy.credit.money import MICRO, text_from_micro
from proxy.simulator.client import SendResult, send
from proxy.smpp.vocabulary import status_name
from proxy.store import accounts, credit, history
from proxy.store.audit import audit
from proxy.store.database import Database
from proxy.store.ids import COMMAND_NODE, IdMint

ACCOUNT: Final = "tour"
_CREDITS_MICRO: Final = 2 * MICRO
_RECEIPT_WAIT_S: Final = 5.0


class _Tour:
    def __init__(self, database: Database, host: str, port: int) -> None:
        self._pool = database.pool
        self._host = host
        self._port = port
        self._mint = IdMint(COMMAND_NODE)

    async def balance_micro(self) -> int:
        sql = "SELECT balance_micro FROM account WHERE name = $1"
        return int(await self._pool.fetchval(sql, ACCOUNT))

    async def send(self, text: str, *, receipt: bool = False) -> None:
        results = await send(
            self._host,
            self._port,
            ACCOUNT,
            ACCOUNT,
            source="12345",
            destination="447700900123",
            text=text,
            wait_receipt_s=_RECEIPT_WAIT_S if receipt else 0.0,
        )
        for result in results:
            _say(f"  submit_sm      -> {_outcome(result)}")
        _say(f"  balance        {text_from_micro(await self.balance_micro())} credits")

    async def add(self, amount_micro: int, note: str) -> None:
        async with self._pool.acquire() as connection:
            await credit.add_credit(
                connection, ACCOUNT, amount_micro, note=note, by="tour", mint=self._mint
            )

    async def prepare(self) -> None:
        """The account, with the credit that the tour starts with (also the second time)."""
        async with self._pool.acquire() as connection:
            await accounts.create(connection, ACCOUNT, password=ACCOUNT, by="tour", mint=self._mint)
        difference = _CREDITS_MICRO - await self.balance_micro()
        if difference:
            await self.add(difference, "for the tour")


def _outcome(result: SendResult) -> str:
    if result.status:
        return f"refused: {status_name(result.status)} (0x{result.status:08X})"
    receipt = f", receipt {result.receipt}" if result.receipt else ""
    return f"accepted as {result.message_id}{receipt}"


def _say(line: str) -> None:
    print(line, flush=True)


async def walk(database: Database, host: str, port: int, data_dir: Path | None) -> None:
    """Walk through it; takes about a second."""
    tour = _Tour(database, host, port)
    await tour.prepare()
    _say(f"\nThe tour: account {ACCOUNT} has {text_from_micro(_CREDITS_MICRO)} credits.")
    _say("1. A message is charged, forwarded, and its receipt comes back:")
    await tour.send("Hello", receipt=True)
    _say("2. The last credit is used:")
    await tour.send("Hello again")
    _say("3. The account is empty; nothing goes out:")
    await tour.send("Is anybody there?")
    _say("4. Five credits are added; service again, at once, and a long text in two parts:")
    await tour.add(5 * MICRO, "top-up")
    await tour.send("A text of more than 160 characters travels in parts. " * 4)
    _say("5. The credit log, newest first:")
    async with database.pool.acquire() as connection:
        for row in await history.credit_log(connection, ACCOUNT, limit=6):
            _say(
                f"  {row['at']:%H:%M:%S} {row['by'] or '':10} {row['operation']:7}"
                f" {row['change']:>6} -> {row['balance']}"
            )
        findings = await audit(connection)
    _say("6. The audit: " + ("the books balance." if not findings else f"{findings}"))
    async with database.pool.acquire() as connection:
        demo = await history.account(connection, "demo")
    kept = f"What happened is kept in {data_dir}; remove it to start anew.\n" if data_dir else ""
    left = f" with {demo['balance']} credits" if demo else ""
    _say(
        f"\n{kept}"
        f"Now you. From another terminal, account demo (password demo){left}:\n"
        f"  .venv/bin/smpp-proxy send --to 447700900123 --text hello --receipt\n"
        f"  .venv/bin/smpp-proxy account show demo\n"
        f"  .venv/bin/smpp-proxy credit add demo 50 --note 'paid in cash'\n"
        f"or point any SMPP client at {host}:{port}. Ctrl-C stops.\n"
    )
