"""What happens to credits, in its simplest form: one account, one change at a time, no database.

Every credit is moved when it is spent, so that the grants always say what is left of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RELEASING = frozenset({"EXPIRED", "DELETED", "UNDELIV", "REJECTD"})
CHARGING = frozenset({"DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "REJECTD"})


@dataclass
class Grant:
    """Credit that expires."""

    expires_at: int
    left: int


@dataclass
class Message:
    """One message that was charged."""

    account: Account
    price: int
    pieces: list[tuple[int, Grant, int]]
    """What it took of grants: (the how-manieth credit of grants ever spent, of which, how much)."""
    awaits_receipt: bool
    state: str = "held"
    due: bool = False
    """A receipt said that it is released; its credit comes back in a moment."""

    @property
    def is_open(self) -> bool:
        """It has no outcome."""
        return self.state in {"held", "in_doubt"}

    def charge(self, by_policy: bool = False) -> None:
        """The upstream took it."""
        if self.is_open:
            self.state = "accepted" if self.awaits_receipt and not by_policy else "charged"

    def doubt(self) -> None:
        """Nobody knows."""
        if self.is_open:
            self.state = "in_doubt"

    def receipt(self, state: str) -> None:
        """The upstream says what became of it."""
        if self.state == "accepted" and state in self.account.releasing:
            self.due = True
        elif self.state == "accepted" and state in CHARGING:
            self.state = "charged"


@dataclass
class Long:
    """A message of several parts, of an account that sends all or none."""

    expires_at: int
    refused: bool
    reserved: int
    seen: set[int]


@dataclass
class Account:
    """Who pays.  Amounts in micro-credits, times in whole hours."""

    limit: int = 0
    cap: int | None = None
    """Of credits a day."""
    messages: int | None = None
    """Of messages a day."""
    releasing: frozenset[str] = RELEASING
    own: int = 0
    """What does not expire; less than nothing: a debt."""
    grants: list[Grant] = field(default_factory=list)
    spent_of_grants: int = 0
    used: int = 0
    day_base: int = 0
    sent_today: int = 0
    longs: dict[str, Long] = field(default_factory=dict)
    retries: dict[int, Message] = field(default_factory=dict)
    paid_in: int = 0
    expired: int = 0

    @property
    def granted(self) -> int:
        """Of the balance, what expires one day."""
        return sum(grant.left for grant in self.grants)

    @property
    def balance(self) -> int:
        """All it has."""
        return self.own + self.granted

    @property
    def reserved(self) -> int:
        """For parts that are still to come."""
        return sum(long.reserved for long in self.longs.values())

    @property
    def free(self) -> int:
        """What it has left to spend."""
        return self.balance + self.limit - self.reserved

    @property
    def sent_out(self) -> bool:
        """Its messages of the day are used up."""
        return self.messages is not None and self.sent_today >= self.messages

    @property
    def lasting(self) -> list[Grant]:
        """The grants with something left; what expires first is spent first."""
        return sorted((g for g in self.grants if g.left), key=lambda grant: grant.expires_at)

    def _take(self, amount: int) -> list[tuple[int, Grant, int]]:
        pieces = []
        for grant in self.lasting:
            if part := min(grant.left, amount):
                pieces.append((self.spent_of_grants, grant, part))
                grant.left, amount = grant.left - part, amount - part
                self.spent_of_grants += part
        self.own -= amount
        return pieces

    def add(self, amount: int) -> None:
        """Credit that does not expire."""
        self.own += amount
        self.paid_in += amount

    def remove(self, amount: int) -> bool:
        """What does not expire goes first.  Down to the floor, whatever is reserved."""
        if amount > self.balance + self.limit:
            return False
        of_grants = min(self.granted, max(amount - self.own, 0))
        self._take(of_grants)
        self.own -= amount - of_grants
        self.paid_in -= amount
        return True

    def grant(self, amount: int, expires_at: int) -> None:
        """Credit that expires, except for what pays a debt."""
        pays = min(amount, max(-self.own, 0))
        self.own += pays
        self.grants.append(Grant(expires_at, amount - pays))
        self.paid_in += amount

    def free_reservations(self, now: int) -> None:
        """Parts that stopped coming."""
        self.longs = {key: long for key, long in self.longs.items() if long.expires_at > now}

    def expire(self, now: int) -> None:
        """What is due leaves."""
        for grant in self.grants:
            if grant.expires_at <= now:
                self.expired += grant.left
                grant.left = 0

    def submit(
        self, price: int, awaits_receipt: bool = False, retry: int = 0, fresh: bool = False
    ) -> Message | str:
        """Charged, or why not; or the message that this one repeats, unless it is fresh."""
        first = self.retries.get(retry)
        if first is not None and first.state != "released" and not fresh:
            return first
        charged = self._charge(price, price, 1, awaits_receipt)
        if retry and isinstance(charged, Message):
            self.retries[retry] = charged
        return charged

    def submit_part(self, price: int, key: str, part: int, parts: int, now: int) -> Message | str:
        """The first part that comes reserves the others; once one is refused, so are these."""
        if self.sent_out:
            return "daily_messages"
        long = self.longs.get(key)
        known = long is not None and long.expires_at > now
        if long is None or not known or (part in long.seen and (part == 1 or long.refused)):
            self.longs.pop(key, None)
            charged = self._charge(price, price * parts, parts)
            refused = isinstance(charged, str)
            self.longs[key] = Long(now + 1, refused, 0 if refused else price * (parts - 1), {part})
            return charged
        if long.refused:
            long.seen.add(part)
            return "insufficient_credits"
        drawn = 0 if part in long.seen else min(price, long.reserved)
        long.reserved -= drawn
        charged = self._charge(price, price)
        if isinstance(charged, str):
            long.reserved += drawn
        else:
            long.seen.add(part)
            long.expires_at = now + 1
        return charged

    def _charge(
        self, price: int, needed: int, number: int = 1, awaits_receipt: bool = False
    ) -> Message | str:
        if self.sent_out:
            return "daily_messages"
        if self.cap is not None and self.used - self.day_base + self.reserved + needed > self.cap:
            return "daily_cap"
        if needed > self.free:
            return "insufficient_credits"
        if self.messages is not None and self.sent_today + number > self.messages:
            return "daily_messages"
        self.used += price
        self.sent_today += 1
        return Message(self, price, self._take(price), awaits_receipt)

    def midnight(self) -> None:
        """A new day for the caps."""
        self.day_base, self.sent_today = self.used, 0

    def give_back(self, messages: list[tuple[Message, int]]) -> None:
        """What was taken of grants last comes back first; debts are paid before that."""
        pieces = []
        for message, back in messages:
            message.state = "released" if back == message.price else "charged"
            self.used -= back
            of_grants = min(back, sum(part for _, _, part in message.pieces))
            self.own += back - of_grants
            for at, grant, part in reversed(message.pieces):
                pieces.append((at, grant, min(part, of_grants)))
                of_grants -= min(part, of_grants)
        room = sum(part for _, _, part in pieces)
        pays = min(room, max(-self.own, 0))
        self.own += pays
        room -= pays
        for _, grant, part in sorted(pieces, key=lambda piece: -piece[0]):
            grant.left += min(part, room)
            room -= min(part, room)
