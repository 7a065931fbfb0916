"""The account of one request while it runs; becomes its line in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from policies.model.routing import KeyRecord
from serving.gateway.counting import Count, answer_tokens, by_rule_for, prompt_tokens
from serving.gateway.errors import ApiError
from serving.gateway.request import Request
from serving.ledger import UsageRecord

CLIENT_WENT = 499
ANSWERED = 200
PERMILLE = 1_000


@dataclass(slots=True, kw_only=True)
class Tally:
    """Filled in as the request moves on."""

    at_ms: int
    request_id: str
    key: KeyRecord
    request: Request
    affinity: str = ""
    claim: str = ""
    model: str = ""
    """The one that answers: not an alias, and the fallback's if that answers."""
    group: str = ""
    variant: str = ""
    class_name: str = "0"
    status: int = CLIENT_WENT
    """Stays so unless somebody learns better."""
    error: str = ""
    is_admitted: bool = False
    """Whether the tenant's limits were charged with the expected tokens."""
    leased_at_ms: int = 0
    first_at_ms: int = 0
    slot_gpu_millis: int = 0
    """Thousandths of a device that one slot of the group stands for, in thousandths again."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    content_mac: str = ""
    is_counted: bool = False
    """Whether the engine counted the tokens; otherwise they are none, or were counted here."""
    counting: Callable[[str], Count] = by_rule_for

    @property
    def tokens(self) -> int:
        """Tokens taken so far."""
        return self.prompt_tokens + self.completion_tokens

    def estimate(self, sent: list[bytes]) -> None:
        """Count here what the engine read, and what the client was sent before the answer broke off."""
        count = self.counting(self.model)
        self.prompt_tokens, self.completion_tokens = prompt_tokens(self.request, count), answer_tokens(sent, count)

    def fail(self, error: ApiError) -> None:
        """Note what the tenant was told."""
        self.status, self.error = error.status, error.ledger_code or ""

    def record(self, now_ms: int) -> UsageRecord:
        """Return the line for the ledger."""
        inside_ms = max(0, now_ms - self.leased_at_ms) if self.leased_at_ms else 0
        return UsageRecord(
            at_ms=self.at_ms,
            request_id=self.request_id,
            tenant=str(self.key.tenant),
            key_prefix=self.key.prefix,
            operation=self.request.operation,
            model=self.model,  # empty for a name that is no model's: that is whatever a client wrote
            claim=self.claim,
            variant=self.variant,
            group=self.group,
            status=self.status,
            error=self.error,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            queued_ms=max(0, (self.leased_at_ms or now_ms) - self.at_ms),
            first_ms=max(0, self.first_at_ms - self.at_ms) if self.first_at_ms else 0,
            total_ms=max(0, now_ms - self.at_ms),
            gpu_ms=inside_ms * self.slot_gpu_millis // (PERMILLE * PERMILLE),
            content_mac=self.content_mac,
            is_estimated=not self.is_counted and self.tokens > 0,
        )
