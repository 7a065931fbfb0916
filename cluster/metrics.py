"""What Prometheus reads: the state of the latest turn, and counts and durations since the start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cluster.loop import Turn
from cluster.moves import Move
from policies.model.snapshot import Snapshot

CLAIMS_LABELLED = 2_000
"""Claims with series of their own; the sums by state count all of them."""
SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
STAGE_SECONDS = (0.5, 1, 2, 3, 5, 8, 13, 21, 34, 55, 90, 120)


class Metrics:
    """One registry of our own, so that tests and processes never share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._turns = Histogram(
            "partage_turn_seconds",
            "Duration of a turn of the control loop.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._failures = Counter(
            "partage_turn_failures", "Turns that could not be taken.", ["code"], registry=self.registry
        )
        self._refused = Counter(
            "partage_plans_refused", "Plans that the invariants refused.", ["code"], registry=self.registry
        )
        self._actions = Counter(
            "partage_actions", "Actions by what became of them.", ["kind", "status"], registry=self.registry
        )
        self._evictions = Counter(
            "partage_evictions", "Groups that lost their place.", ["reason"], registry=self.registry
        )
        self._moves = Histogram(
            "partage_move_stage_seconds",
            "Stages of a device's change of domain.",
            ["stage"],
            buckets=STAGE_SECONDS,
            registry=self.registry,
        )
        self._fencing = Gauge(
            "partage_fencing_generation", "Leadership under which this process acts.", registry=self.registry
        )
        self._latest = Latest()
        self.registry.register(self._latest)

    def record(self, turn: Turn, ended: Iterable[Move]) -> None:
        """Count what the turn did and show what it saw."""
        self._latest.turn = turn
        for stage, duration_ms in (("observe", turn.observe_ms), ("decide", turn.decide_ms), ("total", turn.total_ms)):
            self._turns.labels(stage).observe(duration_ms / 1000)
        for violation in turn.violations:
            self._refused.labels(getattr(violation, "code", "invariant")).inc()
        for result in turn.outcome.results if turn.outcome else ():
            self._actions.labels(result.action.kind, result.status.value).inc()
        if turn.outcome is not None:
            stopped = {action.group for action in turn.plan.actions if action.kind == "stop_group"}
            for eviction in turn.decision.evictions:
                if eviction.group in stopped:
                    self._evictions.labels(eviction.reason.value).inc()
        for move in ended:
            for before, after in zip(move.stages, move.stages[1:], strict=False):
                self._moves.labels(after.name).observe((after.at_ms - before.at_ms) / 1000)
            self._moves.labels("whole").observe(move.duration_ms / 1000)
        self._fencing.set(turn.plan.fencing_generation)

    def record_failure(self, code: str) -> None:
        """Count a turn that could not be taken."""
        self._failures.labels(code).inc()

    def text(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        return generate_latest(self.registry)


class Latest(Collector):
    """Gauges computed from the latest turn at the moment of reading: they can be neither stale nor left behind."""

    def __init__(self) -> None:
        self.turn: Turn | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield every gauge; none before the first turn."""
        turn = self.turn
        if turn is None:
            return
        yield from _shares(turn)
        yield from _claims(turn)
        yield from _inventory(turn.snapshot)
        yield from _gaps(turn.snapshot)


def _shares(turn: Turn) -> Iterator[Metric]:
    shares = GaugeMetricFamily(
        "partage_share_millis",
        "Thousandths of devices by tenant, flavor and kind.",
        labels=["tenant", "flavor", "kind"],
    )
    for entry in turn.decision.entitlements:
        for kind in ("guaranteed", "entitled", "held", "demand", "borrowed", "lent"):
            shares.add_metric([entry.tenant, entry.flavor, kind], getattr(entry, f"{kind}_millis"))
    yield shares


def _claims(turn: Turn) -> Iterator[Metric]:
    replicas = GaugeMetricFamily(
        "partage_claim_replicas", "Replicas granted and wanted.", labels=["tenant", "claim", "kind"]
    )
    tenants = {claim.id: claim.tenant for claim in turn.snapshot.claims}
    for reason in turn.decision.reasons[:CLAIMS_LABELLED]:
        labels = [tenants.get(reason.claim, ""), reason.claim]
        replicas.add_metric([*labels, "granted"], reason.granted_replicas)
        replicas.add_metric([*labels, "wanted"], reason.wanted_replicas)
    yield replicas
    yield _counted(
        "partage_claims",
        "Claims by state and reason.",
        ["state", "reason"],
        ((reason.state.value, reason.code.value if reason.code else "") for reason in turn.decision.reasons),
    )


def _inventory(snapshot: Snapshot) -> Iterator[Metric]:
    yield _counted(
        "partage_devices",
        "Devices by flavor, domain, health and scrub state.",
        ["flavor", "domain", "health", "scrub", "simulated"],
        (
            (d.flavor, d.domain.value if d.domain else "", d.health.value, d.scrub.value, str(d.simulated).lower())
            for d in snapshot.devices
        ),
    )
    yield _counted(
        "partage_workers",
        "Workers by domain and state.",
        ["domain", "state"],
        ((w.domain.value, w.state.value) for w in snapshot.workers),
    )
    yield _counted("partage_groups", "Groups by state.", ["state"], ((g.state.value,) for g in snapshot.groups))
    shared = GaugeMetricFamily(
        "partage_coresident_gpus", "GPUs held by two domains at once; anything but 0 is a breach."
    )
    shared.add_metric([], len(coresident(snapshot)))
    yield shared


def _gaps(snapshot: Snapshot) -> Iterator[Metric]:
    gaps = GaugeMetricFamily(
        "partage_gap_age_seconds", "How long something has not been seen; -1 if never.", labels=["kind", "subject"]
    )
    for gap in snapshot.gaps:
        age_s = (snapshot.observed_at_ms - gap.since_ms) / 1000 if gap.since_ms else -1
        gaps.add_metric([gap.kind.value, gap.subject], age_s)
    yield gaps


def coresident(snapshot: Snapshot) -> list[str]:
    """Return the physical GPUs on which workers of two domains are bound, sorted; empty is the promise."""
    gpu_of = {device.id: device.gpu for device in snapshot.devices}
    holders: dict[str, set[str]] = {}
    for worker in snapshot.workers:
        for device in worker.devices:
            holders.setdefault(gpu_of.get(device, device), set()).add(worker.domain)
    return sorted(gpu for gpu, domains in holders.items() if len(domains) > 1)


def _counted(name: str, text: str, labels: list[str], keys: Iterable[tuple[str, ...]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    counts: dict[tuple[str, ...], int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    for key, count in sorted(counts.items()):
        family.add_metric(list(key), count)
    return family
