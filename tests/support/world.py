"""Several accounts and proxies on a real database, and the same in the model, step by step.

Time is moved by moving what is due: an hour passes when everything in the database is an hour
older.  A proxy is a connection and a node.
"""

from __future__ import annotations

import asyncio
import copy
from datetime import UTC, datetime, timedelta
from itertools import count
from time import time_ns
from types import SimpleNamespace
from typing import Any, NamedTuple

import asyncpg
import pytest
from support.messages import bare_message
from support.model import RELEASING, Account, Message

from proxy.credit.account_keys import AccountChanges
from proxy.flow.message import FRESH
from proxy.smpp.vocabulary import DELIVER_SM
from proxy.store import account_values, deliveries, ledger, sweeps
from proxy.store.accounts import Changed
from proxy.store.audit import audit
from proxy.store.credit import Added, Exists, add_credit
from proxy.store.deliveries import Incoming
from proxy.store.grants import expire_due
from proxy.store.ids import COMMAND_NODE, IdMint
from proxy.store.ledger import REASONS, Settlement
from proxy.store.outcomes import Refused

AGE_S = 100.0
"""The proxies' clocks are this much behind, so that all they did is old enough for a sweep."""
PATIENT_S, IMPATIENT_S = 86400, 50
UPSTREAM = 1
STATES = {"ENROUTE": 1, "DELIVRD": 2, "EXPIRED": 3, "UNDELIV": 5, "UNKNOWN": 7, "REJECTD": 8}
REFUSED = 0x66
_numbers = count(1)


class Kind(NamedTuple):
    """The rules of one account."""

    charge_on: str = "accept"
    limit: int = 0
    cap: int | None = None
    messages: int | None = None
    all_parts: bool = False
    retry_safe: bool = False
    releasing: frozenset[str] = RELEASING
    patience_s: int = PATIENT_S
    overdue: str = "charge"


class Item(NamedTuple):
    """A message to submit: of which account, at which price, and what part or repetition it is."""

    account: int
    price: int | str
    """In micro-credits, or "all" that is left, or one "more"."""
    part: int
    parts: int
    reference: int
    retry: int
    """Which text it has: 0 to 3; also which receipts it asks for."""


class Pair(NamedTuple):
    """An account in the database, and the same in the model."""

    id: int
    name: str
    kind: Kind
    model: Account


class Sent(NamedTuple):
    """A message that was charged."""

    sent: Any
    model: Message
    kind: Kind


class Again:
    """Mints the ids of an earlier batch again."""

    def __init__(self, messages: list[Any]) -> None:
        self._ids = [m.id for m in messages]

    def mint(self, _: int) -> list[int]:
        """The same as then."""
        return self._ids


class World:
    """Does each thing to the database and to the model."""

    def __init__(self, proxies: list[tuple[Any, IdMint]]) -> None:
        self.proxies = proxies
        self.conn = proxies[0][0]
        self.command_mint = IdMint(COMMAND_NODE)
        self.accounts: list[Pair] = []
        self.messages: list[Sent] = []
        self.batches: list[list[tuple[Any, Item]]] = []
        self.hour = 0

    async def open_account(self, kind: Kind) -> None:
        """Noon is not far away there, so that no day ends during the test."""
        name = f"model{next(_numbers)}"
        ahead = 12 - datetime.now(UTC).hour
        account_id = await self.conn.fetchval(
            "INSERT INTO account (name, charge_on, credit_limit_micro, daily_cap_micro, all_parts,"
            " retry_safe_s, delivery_release, delivery_max_age_s, delivery_overdue, timezone,"
            " daily_messages) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id",
            name, kind.charge_on, kind.limit, kind.cap, kind.all_parts, 3600 * kind.retry_safe,
            list(kind.releasing), kind.patience_s, kind.overdue, f"Etc/GMT{-ahead:+d}",
            kind.messages,
        )  # fmt: skip
        model = Account(kind.limit, kind.cap, kind.messages, kind.releasing)
        self.accounts.append(Pair(account_id, name, kind, model))

    def account(self, which: int) -> Pair:
        """One of them."""
        return self.accounts[which % len(self.accounts)]

    # --------------------------------------------------------------- what people do

    async def add(self, which: int, amount: int, hours: int | None = None) -> None:
        """Add credit, which expires in some hours or never."""
        account = self.account(which)
        account.model.expire(self.hour)
        if hours is None:
            account.model.add(amount)
        else:
            account.model.grant(amount, self.hour + hours)
        outcome = await self._credit(account, amount, hours)
        assert isinstance(outcome, Added)
        assert outcome.balance_micro == account.model.balance

    async def add_once(self, which: int, amount: int) -> None:
        """A top-up that is retried."""
        key = f"key {next(_numbers)}"
        account = self.account(which)
        account.model.expire(self.hour)
        account.model.add(amount)
        assert isinstance(await self._credit(account, amount, None, key=key), Added)
        assert isinstance(await self._credit(account, amount, None, key=key), Exists)

    async def remove(self, which: int, amount: int | str) -> None:
        """Remove credit; never below the floor."""
        account = self.account(which)
        account.model.expire(self.hour)
        most = account.model.balance + account.model.limit
        wanted = _amount(amount, most)
        removed = account.model.remove(wanted)
        assert removed == (wanted <= most)
        outcome = await self._credit(account, -wanted, None)
        assert isinstance(outcome, Added if removed else Refused)

    async def _credit(
        self, account: Pair, amount: int, hours: int | None, key: str | None = None
    ) -> Added | Exists | Refused:
        expires_at = None
        if hours is not None:  # half an hour before the full one, which the model counts
            expires_at = datetime.now(UTC) + timedelta(hours=hours, minutes=-30)
        return await add_credit(
            self.conn, account.name, amount,
            by="test", key=key, mint=self.command_mint, expires_at=expires_at,
        )  # fmt: skip

    async def limit(self, which: int, limit: int) -> None:
        """Change the credit limit; not below what is owed."""
        account = self.account(which)
        changes = AccountChanges({"credit_limit_micro": limit})
        outcome = await account_values.set_values(self.conn, account.name, changes, by="test")
        possible = account.model.balance >= -limit
        assert isinstance(outcome, Changed) == possible
        if possible:
            account.model.limit = limit

    async def wait(self, hours: int) -> None:
        """Time passes."""
        self.hour += hours
        ids, ago = [a.id for a in self.accounts], timedelta(hours=hours)
        for sql in (
            "UPDATE credit_grant SET expires_at = expires_at - $2::interval WHERE account_id",
            "UPDATE account SET next_expiry_at = next_expiry_at - $2::interval WHERE id",
            "UPDATE long_message SET expires_at = expires_at - $2::interval WHERE account_id",
        ):
            await self.conn.execute(f"{sql} = ANY ($1)", ids, ago)

    async def midnight(self, which: int) -> None:
        """A new day for the cap.  Not while something may come back to the day before."""
        account = self.account(which)
        if any(m.model.account is account.model and _may_come_back(m) for m in self.messages):
            return
        await self.conn.execute("UPDATE account SET day_ends_at = now() WHERE id = $1", account.id)
        account.model.midnight()

    # ------------------------------------------------------------------- submitting

    async def submit(self, proxy: int, items: list[Item]) -> None:
        """One batch."""
        conn, mint = self.proxies[proxy]
        expected = self._expect(items, self.accounts)
        sent = [one for one, *_ in expected]
        charged = await ledger.charge(conn, mint, sent)
        assert {id(m) for m in charged.messages} == {id(m) for m in sent}
        at = {id(m): n for n, m in enumerate(charged.messages)}
        for (one, outcome, balance), item in zip(expected, items, strict=True):
            n = at[id(one)]
            repeated = charged.repeats and charged.repeats[n]
            if isinstance(outcome, str):
                assert charged.balances[n] is None and not repeated
                assert charged.refusals is not None
                assert REASONS[charged.refusals[n]] == outcome
            elif any(m.model is outcome for m in self.messages):
                [first] = [m.sent.id for m in self.messages if m.model is outcome]
                assert charged.balances[n] is None and repeated == first
            else:
                assert charged.balances[n] == balance and not repeated
                assert charged.refusals is None or charged.refusals[n] is None
                self.messages.append(Sent(one, outcome, self.account(item.account).kind))
        for account in self.accounts:
            if account.id in charged.available:
                assert charged.available[account.id] == account.model.free
        self.batches.append([(m, i) for (m, *_), i in zip(expected, items, strict=True)
                             if any(x.sent is m for x in self.messages)])  # fmt: skip

    def _expect(
        self, items: list[Item], accounts: list[Pair]
    ) -> list[tuple[Any, Message | str, int]]:
        """What becomes of a batch by the model, and the balances; in order of arrival."""
        for item in items:
            accounts[item.account % len(accounts)].model.expire(self.hour)
        expected: list[tuple[Any, Message | str, int]] = []
        for item in items:
            account = accounts[item.account % len(accounts)]
            price = _amount(item.price, account.model.free)
            long, retry = account.kind.all_parts and item.parts > 1, 0
            outcome: Message | str
            asked = -1
            if long:
                price = item.reference  # what the model reserves for the others is right then
                outcome = account.model.submit_part(
                    price, str(item.reference), item.part, item.parts, self.hour
                )
            else:
                asked = min(item.retry, 2) if account.kind.charge_on == "delivery" else -1
                retry = 2 * item.retry if account.kind.retry_safe else 0
                if retry == 6:  # the text of 2 again, and no retry for certain
                    retry = 2 | FRESH
                fresh = retry % 2 == 1
                outcome = account.model.submit(price, asked >= 0, retry & ~FRESH, fresh)
            message = bare_message(
                account.id, price, retry_hash=retry, asked=asked,
                registered_delivery=max(asked, 0), destination_addr=str(next(_numbers)),
                part=SimpleNamespace(part=item.part, total=item.parts) if long else None,
                part_key=str(item.reference),
                upstreams=[SimpleNamespace(id=UPSTREAM, bound=True)],
            )  # fmt: skip
            message.account.rules.all_parts = account.kind.all_parts
            expected.append((message, outcome, account.model.balance))
        return expected

    async def repeat(self, proxy: int, which: int) -> None:
        """The same batch again, with the ids of the first time: nothing is taken twice."""
        batches = [batch for batch in self.batches if batch]
        if not batches:
            return
        batch = batches[which % len(batches)]
        by_account = sorted((m for m, _ in batch), key=lambda m: m.account.id)
        accounts = copy.deepcopy(self.accounts)
        for item in {item for _, item in batch}:
            accounts[item.account % len(accounts)].model.expire(self.hour)
        again = [copy.copy(m) for m in by_account]
        for message in again:
            message.retry_hash = 0
            message.part = None
        conn, _ = self.proxies[proxy]
        fits = False
        for message in again:
            account = next(a for a in accounts if a.id == message.account.id)
            fits |= isinstance(account.model.submit(message.price_micro), Message)
        if fits:
            with pytest.raises(asyncpg.UniqueViolationError):
                await ledger.charge(conn, Again(by_account), again)  # type: ignore[arg-type]
        else:
            charged = await ledger.charge(conn, Again(by_account), again)  # type: ignore[arg-type]
            assert set(charged.balances) == {None}
            for item in {item for _, item in batch}:
                self.account(item.account).model.expire(self.hour)

    async def give_up(self, proxy: int, items: list[Item]) -> None:
        """The client was told that the ledger is away; the charge comes through afterwards."""
        conn, mint = self.proxies[proxy]
        expected = self._expect(items, copy.deepcopy(self.accounts))
        sent = sorted((one for one, *_ in expected), key=lambda m: m.account.id)
        for one, message_id in zip(sent, mint.mint(len(sent)), strict=True):
            one.id = message_id
        ends = [Settlement(m, None, 8, released=True, late=True, reason="lost") for m in sent]
        assert await ledger.settle(conn, mint, ends) == set()
        other, _ = self.proxies[(proxy + 1) % len(self.proxies)]
        with pytest.raises(asyncpg.QueryCanceledError):
            await ledger.charge(other, Again(sent), sent)  # type: ignore[arg-type]

    # --------------------------------------------------------------------- answers

    async def settle(self, proxy: int, answers: list[tuple[int, str, bool]], times: str) -> None:
        """Answers of an upstream, some of them late or for the second time."""
        ends: dict[int, tuple[Sent, str, bool]] = {}
        for which, answer, late in answers if self.messages else []:
            one = self.messages[which % len(self.messages)]
            ends.setdefault(one.sent.id, (one, answer, late))
        settlements, back = [], []
        for one, answer, late in ends.values():
            settlements.append(_settlement(one, answer, late))
            if answer == "accept":
                one.model.charge()
            elif answer == "doubt":
                one.model.doubt()
            elif one.model.is_open:
                micro = settlements[-1].back_micro
                back.append((one, one.model.price if micro is None else micro))
        self._give_back(back)
        released = {one.sent.id for one, _ in back}
        conn, mint = self.proxies[proxy]
        other, other_mint = self.proxies[(proxy + 1) % len(self.proxies)]
        calls = [ledger.settle(conn, mint, settlements * (1 + (times == "twice in one")))]
        if times in {"twice", "at once"}:
            calls.append(ledger.settle(other, other_mint, settlements))
        if times == "at once":
            outcomes = await asyncio.gather(*calls)
        else:
            outcomes = [await call for call in calls]
        assert sorted(i for ids in outcomes for i in ids) == sorted(released)
        # The sweep's part, for what it had put in doubt before these answers came.
        await sweeps.close_answered_doubts(conn)

    def _give_back(self, back: list[tuple[Sent, int]]) -> None:
        for account in self.accounts:
            of_it = [(m.model, n) for m, n in back if m.model.account is account.model]
            account.model.give_back(of_it)

    async def receipts(self, proxy: int, reports: list[tuple[int, str]], release: bool) -> None:
        """Receipts, some of them twice; what they release comes back now or later."""
        taken = [m for m in self.messages if m.model.state not in {"held", "in_doubt"}]
        conn, mint = self.proxies[proxy]
        items, expected = [], []
        for which, state in reports if taken else []:
            items.append(_receipt(taken[which % len(taken)], state))
            expected.append((taken[which % len(taken)], state))
        kept = await deliveries.keep(conn, mint, items, [], time_ns() / 1e9)
        # Of one batch those that charge count, whichever came first.
        for one, state in sorted(expected, key=lambda e: e[1] in e[0].kind.releasing):
            one.model.receipt(state)
        due = [(k.account_id, k.message_id) for k in kept.values() if k.release_due]
        if release:
            await self._release(proxy, due, {message_id for _, message_id in due})

    async def _release(self, proxy: int, due: list[Any], these: set[int]) -> None:
        conn, mint = self.proxies[proxy]
        released = await ledger.release(conn, mint, due + due[:1])
        back = [m for m in self.messages
                if m.sent.id in these and m.model.due and m.model.state == "accepted"]  # fmt: skip
        for one in self.messages:
            one.model.due &= one.sent.id not in these
        self._give_back([(one, one.model.price) for one in back])
        ours = {m.sent.id for m in self.messages}
        assert released & ours == {one.sent.id for one in back}

    async def receipt_of_doubt(self, which: int) -> None:
        """A receipt whose response never came."""
        doubts = [m for m in self.messages if m.model.state == "in_doubt"]
        if doubts:
            one = doubts[which % len(doubts)]
            found = await deliveries.resolve_doubt_by_receipt(self.conn, _receipt(one, "DELIVRD"))
            assert found == (one.sent.account.id, one.sent.id)
            one.model.charge()

    # ----------------------------------------------------------------- on a clock

    async def expire(self, proxy: int) -> None:
        """What is due leaves."""
        for account in self.accounts:
            account.model.expire(self.hour)
        await expire_due(self.proxies[proxy][0], datetime.now(UTC))

    async def lost_holds(self, proxy: int) -> None:
        """The sweep finds what no proxy came back for."""
        for one in self.messages:
            one.model.doubt()
        await sweeps.lost_holds(self.proxies[proxy][0], AGE_S - sweeps._MARGIN_S)

    async def policy(self, proxy: int, policy: str) -> None:
        """What is in doubt for too long."""
        conn, mint = self.proxies[proxy]
        doubts = [m for m in self.messages if m.model.state == "in_doubt"]
        back = [m for m in doubts if policy == "release" and m.kind.charge_on != "submit"]
        self._give_back([(one, one.model.price) for one in back])
        for one in doubts:
            one.model.charge(by_policy=True)
        await sweeps.close_answered_doubts(conn)
        await sweeps.resolve_old_doubts(conn, mint, policy, 0.0)

    async def sweep(self, proxy: int) -> None:
        """Receipts that did not come in time, releases that a crash left, reservations."""
        due = await sweeps.overdue_receipts(self.proxies[proxy][0])
        for one in self.messages:
            if one.model.state == "accepted" and one.kind.patience_s < AGE_S:
                if one.kind.overdue == "release":
                    one.model.due = True
                elif not one.model.due:
                    one.model.state = "charged"
        await self._release(proxy, due, {m.sent.id for m in self.messages})
        await sweeps.free_reservations(self.proxies[proxy][0])
        for account in self.accounts:
            account.model.free_reservations(self.hour)

    # ---------------------------------------------------------------------- checks

    async def check(self) -> None:
        """Every account has what it has in the model."""
        rows = await self.conn.fetch(_ACCOUNTS_SQL, [a.id for a in self.accounts])
        for row, account in zip(rows, self.accounts, strict=True):
            model = account.model
            assert model.balance >= -model.limit
            assert dict(row) == {
                "balance": model.balance,
                "granted": model.granted,
                "reserved": model.reserved,
                "used": model.used,
                "grants": [grant.left for grant in model.lasting],
            }, account.kind

    async def check_views(self) -> None:
        """The ledger and what people see: every message is in the state of the model."""
        rows = await self.conn.fetch(_VIEWS_SQL, [a.id for a in self.accounts])
        for row, account in zip(rows, self.accounts, strict=True):
            model = account.model
            held = [m.model.price for m in self.messages
                    if m.model.account is model and _may_come_back(m)]  # fmt: skip
            assert dict(row) == {
                "held": sum(held),
                "paid_in": model.paid_in,
                "sold": model.used,
                "expired": model.expired,
            }, account.kind
        states = await self.conn.fetch(
            "SELECT id, state FROM v_message WHERE account = ANY ($1)",
            [a.name for a in self.accounts],
        )
        assert {r["id"]: r["state"] for r in states} == {
            m.sent.id: m.model.state for m in self.messages
        }

    async def assert_books_balance(self) -> None:
        """The audit finds nothing."""
        await sweeps.close_answered_doubts(self.conn)
        assert await audit(self.conn) == []
        assert await self.conn.fetchval(
            "SELECT (SELECT sum(balance_micro) FROM account) - sum(amount_micro) FROM ledger"
        ) in {0, None}


_ACCOUNTS_SQL = """
SELECT a.balance_micro AS balance, a.granted_micro AS granted, a.reserved_micro AS reserved,
       a.used_micro AS used,
       array(SELECT g.left_micro FROM live_grants(a.id) g WHERE g.left_micro > 0
             ORDER BY g.expires_at, g.id) AS grants
FROM account a WHERE a.id = ANY ($1) ORDER BY a.id
"""
_VIEWS_SQL = """
SELECT (v.held * 1000000)::bigint AS held, l.*
FROM v_account v
LEFT JOIN LATERAL (
    SELECT coalesce(sum(amount_micro) FILTER (WHERE counter = 'paid_in'), 0)::bigint AS paid_in,
           coalesce(-sum(amount_micro) FILTER (WHERE counter = 'sold'), 0)::bigint AS sold,
           coalesce(-sum(amount_micro) FILTER (WHERE counter = 'expired'), 0)::bigint AS expired
    FROM ledger WHERE account_id = v.id) l ON true
WHERE v.id = ANY ($1) ORDER BY v.id
"""


def _amount(wanted: int | str, most: int) -> int:
    if isinstance(wanted, int):
        return wanted
    return max(most + (wanted == "more"), 1)


def _may_come_back(one: Sent) -> bool:
    return one.model.state in {"held", "in_doubt", "accepted"}


def _settlement(one: Sent, answer: str, late: bool) -> Settlement:
    values: dict[str, Any] = {"late": late}
    if answer == "accept":
        return Settlement(one.sent, UPSTREAM, 0, smsc_message_id=f"s{one.sent.id}", **values)
    if answer == "doubt":
        return Settlement(one.sent, UPSTREAM, 0xFF, in_doubt=True, reason="silence")
    if answer == "some":  # of the destinations of a submit_multi
        values["back_micro"] = one.model.price // 2
    elif answer == "refuse" and one.kind.charge_on == "submit":
        values["back_micro"] = 0
    return Settlement(one.sent, UPSTREAM, REFUSED, released=True, reason=answer, **values)


def _receipt(one: Sent, state: str) -> Incoming:
    item = Incoming(None, UPSTREAM, DELIVER_SM, 1, b"body")
    item.key, item.message_state = f"s{one.sent.id}", STATES[state]
    item.source_addr, item.destination_addr = one.sent.destination_addr, one.sent.source_addr
    return item
