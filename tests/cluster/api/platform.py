"""The API over a simulated platform in virtual time; the test takes the turns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from cluster.api.access import Gate
from cluster.api.app import create
from cluster.api.parts import Parts
from cluster.api.view import View
from cluster.journal.history import History
from cluster.journal.ledger import SqliteLedger
from cluster.journal.registry import Caps, SqliteRegistry
from cluster.journal.sqlite import SqliteJournal
from cluster.journal.store import Store
from cluster.loop import Loop
from cluster.metrics import Metrics
from cluster.settings import Settings, from_environment
from cluster.sim.actuator import SimActuator
from cluster.sim.clock import VirtualClock
from cluster.sim.observer import SimObserver
from cluster.sim.world import World
from policies.documents.document import parse_claims, parse_policy
from policies.model.units import SecurityDomain

OPERATOR = "operator-token"
PROFILES = Path(__file__).parents[3] / "policies" / "profiles"
TICK_MS = 400


@dataclass
class Platform:
    """A running platform, and clients for its callers."""

    parts: Parts
    loop: Loop
    clock: VirtualClock
    world: World
    client: TestClient

    def turns(self, count: int = 30) -> None:
        """Let so many turns pass."""
        for _ in range(count):
            self.clock.sleep_ms(TICK_MS)
            self.parts.view.publish(self.loop.turn(), self.parts.journal.policy())

    def call(self, method: str, path: str, token: str = OPERATOR, **more: Any) -> Any:
        """Return the response of one request."""
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **more)

    def key(self, tenant: str) -> str:
        """Return a fresh key of the tenant."""
        made = self.call("POST", "/v1/keys", json={"tenant": tenant})
        assert made.status_code == 201, made.text
        return str(made.json()["key"])


def settings_at(home: Path, **more: int) -> Settings:
    """Return settings below a folder, with every secret in place."""
    environment = {"PARTAGE_HOME": str(home), "PARTAGE_CACHE": str(home), "PARTAGE_CONFIG": str(home / "config")}
    settings = from_environment(environment | {f"PARTAGE_{name.upper()}": str(value) for name, value in more.items()})
    settings.secrets.mkdir(parents=True, exist_ok=True)
    settings.operator_token.write_text(OPERATOR)
    for domain in SecurityDomain:
        settings.secret(domain, "pepper").write_text(f"pepper of {domain}")
    return settings


def running(home: Path, **more: int) -> Platform:
    """Return a platform with the shipped policy and claims, everything served."""
    platform = empty(home, **more)
    platform.parts.registry.put_policy(parse_policy((PROFILES / "default.yaml").read_text()))
    for claim in parse_claims((PROFILES / "claims.yaml").read_text()):
        platform.parts.registry.put_claim(claim, expected_generation=None)
    platform.turns()
    return platform


def empty(home: Path, **more: int) -> Platform:
    """Return a platform of which nothing was asked yet."""
    settings, clock, world = settings_at(home, **more), VirtualClock(), World()
    world.add_node("node", 4)
    store = Store(settings.journal, busy_timeout_ms=1_000)
    journal, ledger = SqliteJournal(store, clock), SqliteLedger(store, clock)
    journal.lead()
    journal.adopt("test")
    registry = SqliteRegistry(store, clock, Caps(claims_per_tenant=settings.claims_per_tenant))
    metrics = Metrics()
    metrics.latest.proofs = ledger.proofs
    metrics.leader.set(1)
    parts = Parts(
        settings=settings,
        clock=clock,
        store=store,
        journal=journal,
        registry=registry,
        ledger=ledger,
        history=History(store),
        view=View(clock, metrics),
        metrics=metrics,
        gate=Gate(settings, registry, clock),
        wake=lambda: None,
    )
    loop = Loop(SimObserver(world, ledger, clock), SimActuator(world, ledger, clock), journal, clock)
    return Platform(parts, loop, clock, world, TestClient(create(parts), raise_server_exceptions=False))
