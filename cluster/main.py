"""The control plane as a process: the only place that builds adapters and ties them to each other."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cluster.api.access import Gate
from cluster.api.parts import Parts
from cluster.api.serve import server
from cluster.api.view import View
from cluster.canaries import conclude
from cluster.catalogue import Catalogue
from cluster.clock import SystemClock
from cluster.collecting import collect_seldom
from cluster.completion import is_empty
from cluster.journal.approvals import SqliteApprovals
from cluster.journal.audit import ChainWatch
from cluster.journal.carrying import carry_over, refuse_unreadable
from cluster.journal.history import History
from cluster.journal.ledger import SqliteLedger
from cluster.journal.registry import Caps, SqliteRegistry
from cluster.journal.sqlite import Retention, SqliteJournal
from cluster.journal.store import Store
from cluster.journal.trust import Trust
from cluster.leadership import LEADERSHIPS, Alone, Leadership, alone
from cluster.loop import Loop, Turn, run
from cluster.metrics import Metrics
from cluster.observe.telemetry.export import Names, TelemetryCollector
from cluster.observe.telemetry.observer import TelemetryObserver
from cluster.observe.telemetry.receiver import ANY_NODE, Receiver, digest_of
from cluster.ports import Actuator, Clock, Ledger, Observer, Registry
from cluster.refusals import Refusal, StaleGeneration
from cluster.settings import SettingInvalid, Settings, from_environment
from cluster.standby import standby
from cluster.tracing import Tracer
from cluster.turn_spans import spans
from cluster.usage import UsageBook
from policies.model.decision import Decision
from policies.model.workload import Claim

log = logging.getLogger("partage")

CANNOT_START = 1
LOST_LEADERSHIP = 3
LEADERSHIP_LOOK_S = 0.2
"""Pause between two looks while the lease cannot be renewed: nothing is decided meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """The two ports through which the world is seen and changed."""

    observer: Observer
    actuator: Actuator


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What the adapters may stand on."""

    settings: Settings
    clock: Clock
    journal: SqliteJournal
    ledger: Ledger
    registry: Registry


def local(kept: Kept) -> Adapters:
    """Return the adapters for Ray clusters on this machine."""
    from importlib import import_module

    adapters = import_module("cluster.embedded.adapters").adapters
    observer, actuator = adapters(kept.settings, kept.clock, kept.journal, kept.ledger, kept.registry)
    return Adapters(observer=observer, actuator=actuator)


def simulated(kept: Kept) -> Adapters:
    """Return the adapters for a simulated platform in real time: drills and tests need no Ray."""
    from cluster.sim.actuator import SimActuator
    from cluster.sim.observer import SimObserver
    from cluster.sim.world import World

    world = World()
    world.add_node("simulated", kept.settings.simulated_devices)
    return Adapters(
        observer=SimObserver(world, kept.ledger, kept.clock), actuator=SimActuator(world, kept.ledger, kept.clock)
    )


def kubernetes(kept: Kept) -> Adapters:
    """Return the adapters for a Kubernetes cluster with KubeRay."""
    from cluster.kubernetes.adapters import adapters

    observer, actuator = adapters(kept.settings, kept.clock, kept.journal, kept.ledger, kept.registry)
    return Adapters(observer=observer, actuator=actuator)


def with_telemetry(observer: Observer, metrics: Metrics, settings: Settings, clock: Clock) -> Receiver | None:
    """Show the readings of devices among the metrics, where there are any; return where node agents report, if they do.

    Raises ``SettingInvalid`` for an unknown choice of metric names or a token that cannot be read.
    """
    if not isinstance(observer, TelemetryObserver):
        return None
    try:
        names = Names(settings.metric_names)
    except ValueError as error:
        choices = " or ".join(Names)
        raise SettingInvalid("PARTAGE_METRIC_NAMES", settings.metric_names, choices) from error
    metrics.registry.register(TelemetryCollector(observer.store, clock, names))
    if not settings.agent_token_file:
        return None
    try:
        token = Path(settings.agent_token_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingInvalid("PARTAGE_AGENT_TOKEN_FILE", settings.agent_token_file, "a readable file") from error
    if not token:
        raise SettingInvalid("PARTAGE_AGENT_TOKEN_FILE", settings.agent_token_file, "a file with a token in it")
    return Receiver(store=observer.store, clock=clock, tokens={digest_of(token): ANY_NODE}, names=names)


class Companion(Protocol):
    """Runs beside the loop and hears of every decision."""

    def start(self) -> None:
        """Begin."""
        ...

    def publish(self, decision: Decision, claims: Sequence[Claim]) -> None:
        """Take note of a decision on these claims."""
        ...

    def stop(self) -> None:
        """End."""
        ...


def custom_resources(parts: Parts) -> Companion:
    """Return the controller of Claims and Tenants in a Kubernetes cluster."""
    from cluster.kubernetes.adapters import controller

    return controller(parts)


COMPANIONS: dict[str, tuple[Callable[[Parts], Companion], ...]] = {"kubernetes": (custom_resources,)}
"""What else runs on a platform."""
PLATFORMS: dict[str, Callable[[Kept], Adapters]] = {"local": local, "simulated": simulated, "kubernetes": kubernetes}
"""Where the control plane can run."""


def open_store(settings: Settings) -> Store:
    """Return the journal's store: PostgreSQL where a connection string is given, else a file of this machine."""
    if not settings.database_file:
        return Store(settings.journal, busy_timeout_ms=settings.busy_timeout_ms)
    from cluster.journal.postgres import PostgresStore

    conninfo = Path(settings.database_file).read_text(encoding="utf-8").strip()
    return PostgresStore(conninfo, busy_timeout_ms=settings.busy_timeout_ms)


class ControlPlane:
    """Loop and API over one journal."""

    def __init__(self, settings: Settings, platform: str, leadership: Leadership | None = None) -> None:
        self._settings = settings
        self._leadership = leadership or Alone()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self.lost_leadership = False
        clock = SystemClock()
        self._metrics = metrics = Metrics()
        store = open_store(settings)
        store.timed = metrics.record_write
        retention = Retention(
            decisions=settings.decisions_kept, snapshots=settings.snapshots_kept, bytes=settings.history_bytes
        )
        self._journal = SqliteJournal(store, clock, retention)
        caps = Caps(claims_per_tenant=settings.claims_per_tenant, keys_per_tenant=settings.keys_per_tenant)
        registry, ledger = SqliteRegistry(store, clock, caps), SqliteLedger(store, clock)
        self._take_over(SqliteApprovals(store, clock), ledger, registry)
        metrics.latest.proofs = ledger.proofs
        metrics.leader.set(1)
        self._chain = ChainWatch()
        self._tracer = Tracer(settings.otlp_url) if settings.otlp_url else None
        self._view = View(clock, metrics)
        kept = Kept(settings=settings, clock=clock, journal=self._journal, ledger=ledger, registry=registry)
        adapters = PLATFORMS[platform](kept)
        readings = None
        if isinstance(adapters.observer, TelemetryObserver):
            readings = adapters.observer.store
            adapters.observer.follow(Trust(store, registry))
        telemetry = with_telemetry(adapters.observer, metrics, settings, clock)
        self._loop = Loop(adapters.observer, adapters.actuator, self._journal, clock)
        self._parts = Parts(
            settings=settings,
            clock=clock,
            store=store,
            journal=self._journal,
            registry=registry,
            ledger=ledger,
            history=History(store),
            view=self._view,
            metrics=metrics,
            gate=Gate(settings, registry, clock),
            wake=self._wake.set,
            models=Catalogue(settings.home / "catalogue.json"),
            tracer=self._tracer,
            usage=UsageBook(settings.home / "ledger").rows,
            readings=readings,
            telemetry=telemetry,
        )
        self._companions = tuple(make(self._parts) for make in COMPANIONS.get(platform, ()))

    def _take_over(self, approvals: SqliteApprovals, ledger: Ledger, registry: Registry) -> None:
        """Lead from here on; first see that all can be read that an earlier process, or another release, recorded."""
        refuse_unreadable(self._journal, ledger, registry, approvals)
        self._leadership.led(self._journal.lead(self._leadership.newest))
        carry_over(self._journal, registry)

    def run(self) -> int:
        """Serve until SIGTERM; return the exit status. The turn under way is finished, what runs keeps running."""
        self._server = server(self._parts)
        thread = threading.Thread(target=self._turns, name="loop")
        thread.start()
        for companion in self._companions:
            companion.start()
        try:
            self._server.run()
        finally:
            for companion in self._companions:
                companion.stop()
            self._stopping.set()
            self._wake.set()
            thread.join()
            self._leadership.resign()
            self._parts.store.close()
            if self._tracer is not None:
                self._tracer.close()
        return LOST_LEADERSHIP if self.lost_leadership else 0

    def _turns(self) -> None:
        run(self._loop, publish=self._publish, hold=self._hold, rest=self._rest)
        self._server.should_exit = True

    def _publish(self, turn: Turn) -> None:
        for companion in self._companions:
            companion.publish(turn.decision, turn.snapshot.claims)
        if not self._journal.adopted() and is_empty(turn.snapshot):
            self._journal.adopt("control-plane")
        for violation in turn.violations:
            log.error("plan %s refused: %s", turn.plan.id, violation)
        if conclude(turn.snapshot, self._parts.registry):
            self._wake.set()
        self._view.publish(turn, self._journal.policy())
        if self._tracer is not None:
            self._tracer.record(*spans(turn, self._parts.clock.now_ms()))
        self._chain.look(self._parts.store)
        self._metrics.chain_intact.set(int(self._chain.intact))

    def _hold(self, error: Exception) -> bool:
        self._view.hold(error)
        self.lost_leadership = isinstance(error, StaleGeneration)
        return not self.lost_leadership

    def _rest(self) -> bool:
        self._wake.wait(self._settings.tick_ms / 1000)
        self._wake.clear()
        while not self._leadership.may_act() and not self._stopping.is_set():
            if self._leadership.lost:
                self.lost_leadership = True
                return False
            self._stopping.wait(LEADERSHIP_LOOK_S)
        return not self._stopping.is_set()


def lead_and_run(settings: Settings, platform: str) -> int:
    """Wait for leadership, alive but not ready, then run; return the exit status."""
    leadership = LEADERSHIPS.get(platform, alone)(settings, SystemClock())
    if platform in LEADERSHIPS:
        signal.signal(signal.SIGTERM, lambda *_: leadership.stop())
        with standby(settings.api_host, settings.api_port):
            if not leadership.campaign():
                return 0
        log.info("this control plane leads")
    leadership.keep()
    try:
        return ControlPlane(settings, platform, leadership).run()
    finally:
        leadership.resign()


def main(arguments: list[str] | None = None) -> int:
    """Run the control plane; the exit status says why it ended."""
    parser = argparse.ArgumentParser(prog="python -m cluster.main", description=__doc__)
    parser.add_argument("--platform", choices=sorted(PLATFORMS), default="local")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    collect_seldom()
    try:
        return lead_and_run(from_environment(), chosen.platform)
    except (Refusal, SettingInvalid) as refusal:
        log.error("cannot start (%s): %s", refusal.code, refusal)  # noqa: TRY400  # a refusal explains itself
        return CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
