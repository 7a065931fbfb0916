"""Promises that bound: requests and tokens per minute, tokens per day and month. Time is an argument."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta

from policies.model.routing import TenantShare
from serving.gateway.errors import BudgetSpent, RateLimited
from serving.ledger import UsageRecord, day_of

MINUTE_MS = 60_000
LONGEST_MONTH = 31
_DAY, _MONTH = len("2026-11-23"), len("2026-11")
_SECOND_MS = 1_000


@dataclass(slots=True)
class Bucket:
    """Fills evenly to ``per_minute`` within a minute; a burst may take all that is in it."""

    per_minute: int
    filled_at_ms: int
    level_units: int = field(init=False)
    """In sixty-thousandths, so that each millisecond adds a whole number."""

    def __post_init__(self) -> None:
        self.level_units = self.per_minute * MINUTE_MS

    def refill(self, now_ms: int) -> None:
        """Add what has come since the last time."""
        passed = max(0, now_ms - self.filled_at_ms)
        self.level_units = min(self.per_minute * MINUTE_MS, self.level_units + passed * self.per_minute)
        self.filled_at_ms = max(now_ms, self.filled_at_ms)

    def has(self, amount: int) -> bool:
        """Whether the amount may be taken; one larger than the bucket may once it is full."""
        return self.level_units >= min(amount, self.per_minute) * MINUTE_MS

    def take(self, amount: int) -> None:
        """Take the amount; the level may fall below zero when an answer was longer than expected."""
        self.level_units -= amount * MINUTE_MS

    def left(self) -> int:
        """Return what may be taken now."""
        return max(0, self.level_units // MINUTE_MS)

    def wait_ms(self, amount: int) -> int:
        """Return the time until ``has`` is true."""
        missing = min(amount, self.per_minute) * MINUTE_MS - self.level_units
        return 0 if missing <= 0 else -(-missing // max(1, self.per_minute))


@dataclass(slots=True)
class _Account:
    share: TenantShare
    requests: Bucket | None
    tokens: Bucket | None
    day: str = ""
    of_day: int = 0
    month: str = ""
    of_month: int = 0


class Limits:
    """The accounts of the tenants that have limits."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._spent: dict[tuple[str, str], int] = {}
        """Tokens by tenant and day or month, as the ledger knows them from before."""
        self._inside: dict[str, int] = {}
        """Tokens expected of the requests admitted and not settled, by tenant."""

    def apply(self, shares: Iterable[TenantShare], now_ms: int) -> None:
        """Put the shares in force; a bucket whose size stays keeps its level."""
        before, self._accounts = self._accounts, {}
        for share in shares:
            old = before.get(str(share.tenant))
            self._accounts[str(share.tenant)] = _Account(
                share=share,
                requests=_bucket(share.requests_per_minute, old.requests if old else None, now_ms),
                tokens=_bucket(share.tokens_per_minute, old.tokens if old else None, now_ms),
            )

    def remember(self, records: Iterable[UsageRecord]) -> None:
        """Count what was used before this process started."""
        for record in records:
            self._spend(record.tenant, record.prompt_tokens + record.completion_tokens, record.at_ms)

    def admit(self, tenant: str, cost: int, now_ms: int) -> None:
        """Take one request and its expected tokens. Raises ``RateLimited`` or ``BudgetSpent``, taking nothing."""
        account = self._accounts.get(tenant)
        if account is None:
            return
        self._require_budget(account, now_ms)
        for bucket, amount, what in ((account.requests, 1, "requests"), (account.tokens, cost, "tokens")):
            if bucket is not None:
                bucket.refill(now_ms)
                _require(bucket, amount, what)
        for bucket, amount in ((account.requests, 1), (account.tokens, cost)):
            if bucket is not None:
                bucket.take(amount)
        self._inside[tenant] = self._inside.get(tenant, 0) + cost

    def settle(self, tenant: str, expected: int, used: int, now_ms: int) -> None:
        """Charge the tokens really used instead of those expected."""
        self._inside[tenant] = max(0, self._inside.get(tenant, 0) - expected)
        account = self._accounts.get(tenant)
        if account is not None and account.tokens is not None:
            account.tokens.take(used - expected)
        self._spend(tenant, used, now_ms)

    def headers(self, tenant: str, now_ms: int) -> list[tuple[bytes, bytes]]:
        """Return OpenAI's ``x-ratelimit-*`` headers; none for a tenant without limits."""
        account = self._accounts.get(tenant)
        found: list[tuple[bytes, bytes]] = []
        for bucket, what in ((account.requests, b"requests"), (account.tokens, b"tokens")) if account else ():
            if bucket is not None:
                bucket.refill(now_ms)
                found += [
                    (b"x-ratelimit-limit-" + what, b"%d" % bucket.per_minute),
                    (b"x-ratelimit-remaining-" + what, b"%d" % bucket.left()),
                    (b"x-ratelimit-reset-" + what, b"%dms" % bucket.wait_ms(bucket.per_minute)),
                ]
        return found

    def _require_budget(self, account: _Account, now_ms: int) -> None:
        day, tenant = day_of(now_ms), str(account.share.tenant)
        for budget, period, name in (
            (account.share.tokens_per_day, day, "day"),
            (account.share.tokens_per_month, day[:_MONTH], "month"),
        ):
            taken = self._spent.get((tenant, period), 0) + self._inside.get(tenant, 0)
            if budget is not None and taken >= budget:
                said = f"The tokens of your tenant for this {name} ({budget}) are used up; the next begins "
                raise BudgetSpent(f"{said}{_next(period)}, 00:00 UTC.")

    def _spend(self, tenant: str, tokens: int, at_ms: int) -> None:
        day = day_of(at_ms)
        for period in (day, day[:_MONTH]):
            self._spent[tenant, period] = self._spent.get((tenant, period), 0) + tokens


def _next(period: str) -> str:
    """Return the first day after a day or a month, such as ``2026-12-01``."""
    first = date.fromisoformat(period if len(period) == _DAY else f"{period}-01")
    if len(period) == _DAY:
        return str(first + timedelta(days=1))
    return str((first + timedelta(days=LONGEST_MONTH)).replace(day=1))


def _bucket(per_minute: int | None, before: Bucket | None, now_ms: int) -> Bucket | None:
    if per_minute is None:
        return None
    return before if before is not None and before.per_minute == per_minute else Bucket(per_minute, now_ms)


def _require(bucket: Bucket, amount: int, what: str) -> None:
    if not bucket.has(amount):
        wait_s = -(-bucket.wait_ms(amount) // _SECOND_MS)
        error = RateLimited(
            f"Rate limit reached for {what}: {bucket.per_minute} per minute. Please try again in {wait_s}s.",
            retry_after_s=max(1, wait_s),
        )
        error.kind = what
        raise error
