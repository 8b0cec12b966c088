"""The audit: does what the database holds keep the promises?

Every check but one is one set-based query over whole tables (hash joins, partition by
partition); "seal" reads the ledger day by day and hashes it (seals.py).  All of them see the same
snapshot, so the answer is right while traffic flows.

Two things need no check.  "All accounts together sum to zero" holds by construction: a ledger
row is both sides of its entry, the customer's account and the counter-account.  And the running
balance of a row is not checked against the row before it: ids are minted before the account is
locked, so the order of ids is not the order in which the rows were written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from asyncpg import Connection

from proxy.store.seals import verify_seals
from proxy.store.sql import load

CHECKS: Final = (
    "balance",
    "overdraft",
    "use",
    "outcome",
    "refund",
    "doubt",
    "sweep",
    "delivery",
    "key",
    "grant",
    "reserved",
    "plan",
    "awaiting",
    "used",
    "price",
    "queue",
    "seal",
)
"""The checks in order; each but SEAL is the query audit_NAME, which says what must hold."""

SEAL: Final = "seal"

WHOLE_LEDGER: Final = "all accounts"
"""Stands for the account in what is found about sealed days; no account can have this name."""

FINDINGS_MAX: Final = 100
"""How many findings of one check are reported."""

TIMEOUT_S: Final = 3600.0
"""What one check may take; the statement_timeout of the pool is meant for short statements."""

_PLANNER: Final = (
    "SET LOCAL enable_partitionwise_join = on",
    "SET LOCAL work_mem = '256MB'",
    "SET LOCAL statement_timeout = 0",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as promised."""

    check: str
    """One of CHECKS."""
    account: str
    """Its name, or WHOLE_LEDGER."""
    detail: str
    """One sentence for people."""


async def audit(conn: Connection) -> list[Finding]:
    """Run every check; an empty list means that the books balance."""
    findings: list[Finding] = []
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        for setting in _PLANNER:
            await conn.execute(setting)
        for check in CHECKS:
            if check == SEAL:
                details = await verify_seals(conn, FINDINGS_MAX)
                findings += [Finding(check, WHOLE_LEDGER, detail) for detail in details]
                continue
            rows = await conn.fetch(load(f"audit_{check}"), FINDINGS_MAX, timeout=TIMEOUT_S)
            findings += [Finding(check, row["account"], row["detail"]) for row in rows]
    return findings
