"""What Prometheus reads: counts and durations since the start, and the gauges of the latest turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from cluster.gauges import deficits, gauges
from cluster.loop import Turn
from cluster.moves import STAGES, Move
from policies.model.plan import ActionOutcome, OutcomeStatus, StopGroup
from policies.model.policy import Policy
from policies.model.proof import ScrubProof

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
STAGE_SECONDS = (0.5, 1, 2, 3, 5, 8, 13, 21, 34, 55, 90, 120, 300)
STALE = "stale_generation"


class Metrics:
    """One registry of our own, so that tests and processes never share counts."""

    def __init__(self) -> None:
        made = self.registry = CollectorRegistry()
        self._turns = Histogram("partage_turn_seconds", "A whole turn.", buckets=SECONDS, registry=made)
        self._decisions = Histogram("partage_decision_seconds", "Decide and plan.", buckets=SECONDS, registry=made)
        self._observations = Histogram("partage_observe_seconds", "Observe.", buckets=SECONDS, registry=made)
        self._writes = Histogram("partage_journal_write_seconds", "One write.", buckets=SECONDS, registry=made)
        self._failures = Counter("partage_turn_failures", "Turns not taken.", ["code"], registry=made)
        self._violations = Counter("partage_plan_violations", "Objections to a plan.", ["rule"], registry=made)
        self._fencing = Counter("partage_fencing_refusals", "Older leaders refused.", registry=made)
        self._actions = Counter("partage_actions", "Actions by outcome.", ["domain", "kind", "status"], registry=made)
        self._evictions = Counter(
            "partage_evictions", "Groups that lost their place.", ["domain", "reason"], registry=made
        )
        self._lost = Counter("partage_in_flight_lost", "Requests cut by a drain deadline.", ["domain"], registry=made)
        self._reclaims = Counter(
            "partage_reclaims", "Devices brought to a domain.", ["domain", "tenant", "outcome"], registry=made
        )
        self._reclaim_seconds = Histogram(
            "partage_reclaim_seconds",
            "From decision to answer.",
            ["domain", "tenant"],
            buckets=STAGE_SECONDS,
            registry=made,
        )
        self._stages = Histogram(
            "partage_reclaim_stage_seconds", "Each stage.", ["domain", "stage"], buckets=STAGE_SECONDS, registry=made
        )
        self.leader = Gauge("partage_leader", "1 while this process leads.", registry=made)
        self.chain_intact = Gauge("partage_audit_chain_intact", "1 while the audit log holds.", registry=made)
        self.latest = Latest()
        made.register(self.latest)

    def record(self, turn: Turn, policy: Policy, ended: Iterable[Move]) -> None:
        """Count what the turn did and show what it saw."""
        self.latest.show(turn, policy)
        self._begin(policy)
        self._observations.observe(turn.observe_ms / 1000)
        self._decisions.observe(turn.decide_ms / 1000)
        self._turns.observe(turn.total_ms / 1000)
        for violation in turn.violations:
            self._violations.labels(violation.rule).inc()
        for result in turn.outcome.results if turn.outcome else ():
            self._count_action(result)
        self._count_evictions(turn)
        for move in ended:
            self._time_move(move, policy)

    def record_failure(self, code: str) -> None:
        """Count a turn that could not be taken."""
        self._failures.labels(code).inc()
        if code == STALE:
            self._fencing.inc()
            self.leader.set(0)

    def record_write(self, seconds: float) -> None:
        """Count a write to the journal."""
        self._writes.observe(seconds)

    def text(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _begin(self, policy: Policy) -> None:
        """Let every series that is known beforehand exist from zero: Prometheus does not see a first increment."""
        for tenant in policy.tenants:
            for outcome in ("in_time", "late"):
                self._reclaims.labels(tenant.domain, tenant.id, outcome)
            self._reclaim_seconds.labels(tenant.domain, tenant.id)
            self._lost.labels(tenant.domain)
            for stage in STAGES:
                self._stages.labels(tenant.domain, stage)

    def _count_action(self, result: ActionOutcome) -> None:
        domain = str(getattr(result.action, "domain", None) or getattr(result.action, "to_domain", ""))
        self._actions.labels(domain, result.action.kind, result.status.value).inc()
        if result.status is OutcomeStatus.REFUSED and "fencing generation" in result.detail:
            self._fencing.inc()
        if isinstance(result.action, StopGroup) and result.status is OutcomeStatus.ACCEPTED:
            self._lost.labels(domain).inc(result.action.in_flight_lost)

    def _count_evictions(self, turn: Turn) -> None:
        stopping = {action.group: action.domain for action in turn.plan.actions if action.kind == "stop_group"}
        for eviction in turn.decision.evictions if turn.outcome else ():
            if eviction.group in stopping:
                self._evictions.labels(stopping[eviction.group], eviction.reason.value).inc()

    def _time_move(self, move: Move, policy: Policy) -> None:
        deadlines = {str(tenant.id): tenant.reclaim_deadline_s * 1000 for tenant in policy.tenants}
        outcome = "in_time" if move.duration_ms <= deadlines.get(move.tenant, 0) else "late"
        self._reclaims.labels(move.to_domain, move.tenant, outcome).inc()
        self._reclaim_seconds.labels(move.to_domain, move.tenant).observe(move.duration_ms / 1000)
        for before, after in pairwise(move.stages):
            self._stages.labels(move.to_domain, after.name).observe((after.at_ms - before.at_ms) / 1000)


class Latest(Collector):
    """The latest turn's gauges, and the proofs of the ledger."""

    def __init__(self) -> None:
        self._shown: tuple[Turn, Policy] | None = None
        self._deficit_since_ms: dict[str, int] = {}
        self.proofs: Callable[[], tuple[ScrubProof, ...]] = tuple

    def show(self, turn: Turn, policy: Policy) -> None:
        """Show this turn from now on."""
        below = {tenant for tenant, _ in deficits(turn, policy)}
        now = turn.decision.decided_at_ms
        self._deficit_since_ms = {tenant: self._deficit_since_ms.get(tenant, now) for tenant in below}
        self._shown = (turn, policy)

    def collect(self) -> Iterator[Metric]:
        """Yield every gauge; none of a turn before the first."""
        yield self._scrubs()
        if self._shown is not None:
            yield from gauges(*self._shown, self._deficit_since_ms)

    def _scrubs(self) -> Metric:
        labels = ["from_domain", "to_domain", "result", "simulated"]
        family = CounterMetricFamily("partage_scrubs", "Scrubs ever recorded in the ledger.", labels=labels)
        counts: dict[tuple[str, ...], int] = {}
        for proof in self.proofs():
            result = "passed" if proof.passed else "failed"
            key: tuple[str, ...] = (
                proof.from_domain.value,
                proof.to_domain.value,
                result,
                str(proof.simulated).lower(),
            )
            counts[key] = counts.get(key, 0) + 1
        for key, count in sorted(counts.items()):
            family.add_metric(list(key), count)
        return family
