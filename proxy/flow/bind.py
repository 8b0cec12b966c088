"""Step 1: who is this, and may it come in."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from proxy.credit.rules import Rules
from proxy.credit.tariff import Tariff
from proxy.flow.message import Account, EsmeSession
from proxy.routing.throttle import Throttle
from proxy.smpp import vocabulary as smpp
from proxy.store import accounts, tariffs
from proxy.store.accounts import LoginRow
from proxy.store.database import UNREACHABLE
from proxy.store.passwords import verify_password
from proxy.telemetry import metrics

log = structlog.get_logger()

_SLOW_DOWN_S = (0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Delay of the answer to the n-th failure in a row from one address."""
_ADDRESSES_MAX = 10_000
_VERIFIED_MAX = 10_000
_HASHING_MAX = 2
"""How many passwords are verified at once; each takes 19 MiB and a core for a while."""


class Bound(NamedTuple):
    """The answer to a bind: a status, and who it is when that is ESME_ROK."""

    status: int
    account: Account | None = None
    login_id: int = 0


class Registry:
    """The accounts that have sessions on this proxy, with their rules and tariffs."""

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.wakes = 0
        """How often this proxy heard that somebody got credit."""
        self.changes = 0
        """How often it heard that rules or prices changed."""
        self._tariffs: dict[int, Tariff] = {}

    async def enter(self, pool: Any, login: LoginRow) -> Account:
        """The account of a login, with its newest rules.  May have to load its tariff."""
        tariff = self._tariffs.get(login.rules.tariff_id)
        if tariff is None:
            tariff = await tariffs.load_tariff(pool, login.rules.tariff_id)
            self._tariffs[tariff.id] = tariff
        account = self.accounts.get(login.account_id)
        if account is None:
            account = self.accounts[login.account_id] = Account(
                login.account_id, login.account_name, login.rules, tariff
            )
            account.throttle = _throttle(login.rules)
        else:
            if account.rules.rate != login.rules.rate:
                account.throttle = _throttle(login.rules)
            account.rules = login.rules
            account.tariff = tariff
        return account

    def forget_if_empty(self, account: Account) -> None:
        """An account without sessions is not remembered."""
        if not account.sessions:
            self.accounts.pop(account.id, None)

    def wake(self, account_id: int) -> None:
        """An account got credit: what it submits is asked of the database again."""
        self.wakes += 1
        account = self.accounts.get(account_id)
        if account is not None:
            account.dry_micro = None

    async def recheck_dry(self, pool: Any) -> None:
        """Wake accounts that have credit again; a notification may be lost."""
        dry = [account.id for account in self.accounts.values() if account.dry_micro is not None]
        if not dry:
            return
        for account_id, available_micro in await accounts.available(pool, dry):
            account = self.accounts.get(account_id)
            if account is not None and available_micro > (account.dry_micro or 0):
                self.wake(account_id)

    async def refresh(self, pool: Any, account_ids: list[int]) -> None:
        """Read rules and prices again; sessions of a disabled account or of a lost login end."""
        await self._refresh_tariffs(pool)
        known = [a for a in account_ids if a in self.accounts]
        if not known:
            return
        logins = await accounts.logins_of_accounts(pool, known)
        valid = {login.login_id: login for login in logins}
        for login in logins:
            if login.account_id in self.accounts:
                account = await self.enter(pool, login)
                account.dry_micro = None  # its credit limit may be another
                self.forget_if_empty(account)  # the last session may have left meanwhile
        for account_id in known:
            account_now = self.accounts.get(account_id)
            for session in list(account_now.sessions) if account_now else ():
                login_now = valid.get(session.login_id)
                if login_now is None or not login_now.enabled:
                    session.unbind("the account is disabled")

    async def _refresh_tariffs(self, pool: Any) -> None:
        used = {account.rules.tariff_id for account in self.accounts.values()}
        for tariff_id in self._tariffs.keys() - used:
            del self._tariffs[tariff_id]
        versions = await tariffs.versions(pool, sorted(self._tariffs))
        for tariff_id, version in versions.items():
            if self._tariffs[tariff_id].version != version:
                tariff = await tariffs.load_tariff(pool, tariff_id)
                self._tariffs[tariff_id] = tariff
                for account in self.accounts.values():
                    if account.tariff.id == tariff_id:
                        account.tariff = tariff


def _throttle(rules: Rules) -> Throttle | None:
    """A second's worth may come at once, as clients send; the database counts over all proxies."""
    if rules.rate is None:
        return None
    return Throttle(rules.rate, time.monotonic(), burst=max(1.0, rules.rate))


class Bind:
    """Authenticates without blocking the event loop, and slows down who guesses."""

    def __init__(
        self,
        pool: Callable[[], Any],
        registry: Registry,
        record_event: Callable[..., None],
        look_again: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._registry = registry
        self._record_event = record_event
        self._look_again = look_again
        self._hashing = asyncio.Semaphore(_HASHING_MAX)
        self._failures: OrderedDict[str, int] = OrderedDict()
        # A password that was right is not hashed again: a reconnecting client with many binds
        # would cost a core otherwise.  Kept as a keyed digest, under the hash it was right for.
        self._key = secrets.token_bytes(32)
        self._verified: OrderedDict[str, bytes] = OrderedDict()

    async def authenticate(self, system_id: str, password: str, peer_address: str) -> Bound:
        """Whom a bind request is from, or the status that refuses it.

        0x0F for an unknown system_id, 0x0E for a wrong password, 0x0D for an account that is
        disabled or has all its binds, 0x08 when the database can't be asked.
        """
        changes = self._registry.changes
        try:
            login = await accounts.find_login(self._pool(), system_id)
        except UNREACHABLE:
            metrics.BINDS.labels("ledger_unreachable").inc()
            return Bound(smpp.ESME_RSYSERR)
        if login is None:
            await self._failed(peer_address)
            return self._refuse(smpp.ESME_RINVSYSID, "unknown system_id", system_id, peer_address)
        if not await self._password_is_right(login, password):
            await self._failed(peer_address)
            return self._refuse(
                smpp.ESME_RINVPASWD, "wrong password", system_id, peer_address, login
            )
        self._failures.pop(peer_address, None)
        if not login.enabled:
            return self._refuse(
                smpp.ESME_RBINDFAIL, "the account is disabled", system_id, peer_address, login
            )
        try:
            account = await self._registry.enter(self._pool(), login)
        except UNREACHABLE:
            metrics.BINDS.labels("ledger_unreachable").inc()
            return Bound(smpp.ESME_RSYSERR)
        except LookupError:  # its tariff was another one and was removed, a moment ago
            return self._refuse(
                smpp.ESME_RSYSERR, "its tariff is gone", system_id, peer_address, login
            )
        if changes != self._registry.changes:  # while the password was verified
            self._look_again()
        if len(account.sessions) >= account.rules.max_binds:
            self._registry.forget_if_empty(account)
            return self._refuse(
                smpp.ESME_RBINDFAIL, "all binds are in use", system_id, peer_address, login
            )
        return Bound(smpp.ESME_ROK, account, login.login_id)

    def abandoned(self, bound: Bound) -> None:
        """The client left before it was told."""
        if bound.account is not None:
            self._registry.forget_if_empty(bound.account)

    def entered(self, session: EsmeSession, bind_type: str, peer_address: str) -> None:
        """The session was told that it is bound."""
        session.account.sessions.add(session)
        # Another bind of the account that failed meanwhile may have had it forgotten.
        self._registry.accounts.setdefault(session.account.id, session.account)
        metrics.BINDS.labels("ok").inc()
        self._record_event(
            "bound",
            f"{session.system_id} bound as {bind_type} from {peer_address}",
            account_id=session.account.id,
        )

    def left(self, session: EsmeSession, reason: str) -> None:
        """A bound session ended."""
        account = session.account
        account.sessions.discard(session)
        self._record_event(
            "unbound", f"{session.system_id} unbound: {reason}", account_id=account.id
        )
        self._registry.forget_if_empty(account)

    def _refuse(
        self, status: int, reason: str, system_id: str, peer: str, login: LoginRow | None = None
    ) -> Bound:
        metrics.BINDS.labels("refused").inc()
        # An unknown system_id is the peer's text: not part of the event, which is counted.
        name = system_id if login else "unknown system_id"
        what = reason if login else "no such login"
        self._record_event(
            "bind_refused",
            f"Bind of {name} from {peer} refused: {what}",
            severity="warning",
            account_id=login.account_id if login else 0,
        )
        return Bound(status)

    async def _password_is_right(self, login: LoginRow, password: str) -> bool:
        digest = hashlib.blake2b(password.encode("latin-1"), key=self._key).digest()
        if self._known(login, digest):
            return True
        async with self._hashing:
            if self._known(login, digest):  # by another bind that was before this one
                return True
            right = await asyncio.to_thread(verify_password, login.password_hash, password)
        if right:
            self._verified[login.password_hash] = digest
            if len(self._verified) > _VERIFIED_MAX:
                self._verified.popitem(last=False)
        return right

    def _known(self, login: LoginRow, digest: bytes) -> bool:
        known = self._verified.get(login.password_hash)
        return known is not None and secrets.compare_digest(known, digest)

    async def _failed(self, peer_address: str) -> None:
        """Each failure in a row from an address makes it wait longer for its answer."""
        failures = self._failures.pop(peer_address, 0) + 1
        self._failures[peer_address] = failures
        if len(self._failures) > _ADDRESSES_MAX:
            self._failures.popitem(last=False)
        await asyncio.sleep(_SLOW_DOWN_S[min(failures, len(_SLOW_DOWN_S) - 1)])
