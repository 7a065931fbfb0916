"""Two control planes over PostgreSQL and a cluster: one dies in the middle of a move, the other finishes it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from cluster.clock import SystemClock
from cluster.journal.ledger import SqliteLedger
from cluster.journal.postgres import PostgresStore
from cluster.journal.registry import SqliteRegistry
from cluster.kubernetes.kinds import FENCING, LEASES, NODE_DEVICES, RAY_SERVICES
from cluster.kubernetes.refusals import Absent
from cluster.serve_apps import GATEWAY_APP
from policies.documents.document import parse_policy
from policies.model.catalogue import Model, Variant
from policies.model.codec import to_plain
from policies.model.proof import ScrubProof
from policies.model.routing import GatewayLoad
from policies.model.units import ClaimId, ModelId, SecurityDomain, TenantId, VariantId
from policies.model.workload import Claim, ClaimKind, Shape
from tests.ray_dashboard import TOKEN, FakeRay, running

from .conftest import Served, install, make_namespace
from .stand_in import Machine
from .world import CIVIL, DEFENCE, World, install_services

pytestmark = [pytest.mark.system, pytest.mark.timeout(280)]
ROOT = Path(__file__).parents[3]
PATIENCE_S = 90
LEASE_MS = 3_000
LONG_MS = 100_000
"""Longer than the test waits for anything."""
SHIPPED_MS = 15_000
MODEL = Model(
    id=ModelId("small"),
    context_tokens=2048,
    variants=(Variant(id=VariantId("q4"), engine="synthetic", precision="q4", weights="", weights_mib=0),),
)


def claim(tenant: str, name: str, replicas: int) -> Claim:
    """Return a claim of so many replicas of a whole device each."""
    shape = Shape(flavors=("H100-80GB",), gpu_millis=1000, memory_mib=40_960, variant=VariantId("q4"))
    return Claim(
        id=ClaimId(f"{tenant}:{name}"),
        tenant=TenantId(tenant),
        kind=ClaimKind.SERVING,
        model=MODEL.id,
        priority_class="critical" if tenant.startswith("defence") else "standard",
        min_replicas=1,
        desired_replicas=replicas,
        max_replicas=4,
        ladder=(shape,),
    )


@dataclass
class Site:
    """A cluster of stand-ins, a database, and control planes as processes."""

    world: World
    rays: dict[SecurityDomain, FakeRay]
    url: str
    database: str
    folder: Path
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    owners: dict[str, list[str]] = field(default_factory=dict)
    """Namespaces that each device was given to, in order."""

    def start(self, name: str, lease_ms: int = LEASE_MS) -> None:
        """Start a control plane of this name; it leads or waits."""
        home = self.folder / name
        (home / "secrets").mkdir(parents=True, exist_ok=True)
        for secret in ("operator.token", *(f"{d}.{p}" for d in SecurityDomain for p in ("ray", "control", "pepper"))):
            (home / "secrets" / secret).write_text(TOKEN)
        (home / "catalogue.json").write_text(json.dumps([to_plain(MODEL)]))
        (home / "conninfo").write_text(self.database)
        self.ports[name] = _free_port()
        environment = {
            **os.environ,  # noqa: TID251 - a child needs it
            "PYTHONPATH": str(ROOT),
            "PARTAGE_HOME": str(home),
            "PARTAGE_API_PORT": str(self.ports[name]),
            "PARTAGE_DATABASE_FILE": str(home / "conninfo"),
            "PARTAGE_IDENTITY": name,
            "PARTAGE_LEASE_MS": str(lease_ms),
            "PARTAGE_SPARE_PODS": "0",
        }
        rays = json.dumps({str(domain): ray.url for domain, ray in self.rays.items()})
        program = [sys.executable, "-m", "tests.contract.kubernetes.replica", self.url, rays]
        with (home / "log").open("a") as log:
            self.processes[name] = subprocess.Popen(program, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def step(self) -> None:
        """Let the operator, the kubelets, the agents and both Rays act once."""
        self.world.kuberay.step()
        self.world.machines.step()
        for device, pod in self.world.machines.given.items():
            seen = self.owners.setdefault(device, [])
            if (owner := pod.split("/")[0]) not in seen[-1:]:
                seen.append(owner)
        for domain, ray in self.rays.items():
            pods = [pod for pod in self.world.pods(domain) if pod.get("status", {}).get("podIP")]
            ray.nodes = {f"ray-{pod['metadata']['name']}": {} for pod in pods}
            ray.addresses = {f"ray-{pod['metadata']['name']}": pod["status"]["podIP"] for pod in pods}
            ray.settle()

    def until(self, holds: Callable[[], bool], what: str) -> float:
        """Step until it holds; return the seconds that took."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > PATIENCE_S:
                logs = "\n".join((self.folder / name / "log").read_text()[-3000:] for name in self.processes)
                raise AssertionError(f"never came true: {what}\n{logs}")
            self.step()
            time.sleep(0.1)  # noqa: TID251 - other processes are waited for
        return time.monotonic() - began

    def holder(self) -> str:
        try:
            return str(self.world.api.get(LEASES, "partage", "partage-control-plane")["spec"].get("holderIdentity"))
        except Absent:
            return ""

    def groups(self, domain: SecurityDomain) -> int:
        """Return how many groups of the domain run."""
        apps = self.rays[domain].apps.items()
        return sum(name != GATEWAY_APP and app.status == "RUNNING" for name, app in apps)

    def scrubs_asked(self) -> int:
        reports = self.world.api.list_all(NODE_DEVICES)[0]
        return sum(len((report.get("spec") or {}).get("scrubs") or ()) for report in reports)

    def waits(self, name: str) -> bool:
        """Return whether the control plane answers as one that does not lead."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.ports[name]}/livez", trust_env=False)
        except httpx.HTTPError:
            return False
        return "standby" in answer.text

    def fencing(self, domain: SecurityDomain) -> int:
        service = self.world.api.get(RAY_SERVICES, f"partage-{domain}", str(domain))
        return int((service["metadata"].get("annotations") or {}).get(FENCING, 0))

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _load(domain: SecurityDomain, ray: FakeRay) -> Callable[[], dict]:
    """Return a gateway that has the newest routing table in force and no traffic."""

    def load() -> dict:
        gateway = ray.apps.get(GATEWAY_APP)
        table = (gateway.config["deployments"][0].get("user_config") or {}) if gateway else {}
        now_ms = SystemClock().now_ms()
        seen = GatewayLoad(domain=domain, generation=table.get("generation", 0), observed_at_ms=now_ms)
        return dict(to_plain(seen))

    return load


@pytest.fixture
def site(fake: Served, database: str, tmp_path: Path) -> Iterator[Site]:
    api = fake.api()
    fake.fake.token = None
    install(api)
    for namespace in ("partage", "partage-defence", "partage-civil"):
        make_namespace(api, namespace)
    world = World(api, (Machine("n1", ("GPU-1", "GPU-2")), Machine("n2", ("GPU-3", "GPU-4"))), "partage")
    install_services(world)
    with ExitStack() as stack:
        rays = {domain: stack.enter_context(running(FakeRay())) for domain in SecurityDomain}
        for domain, ray in rays.items():
            ray.load = _load(domain, ray)
        site = Site(world=world, rays=rays, url=fake.url, database=database, folder=tmp_path)
        stack.callback(site.close)
        yield site


def test_f24_the_other_control_plane_finishes_the_move_of_one_that_was_killed_in_it(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, store = SystemClock(), PostgresStore(site.database, busy_timeout_ms=5_000)
    registry, ledger = SqliteRegistry(store, clock), SqliteLedger(store, clock)
    registry.put_policy(parse_policy((ROOT / "policies/profiles/default.yaml").read_text()))
    registry.put_claim(claim("civil/justice", "chat", 3), expected_generation=None)
    triage = registry.put_claim(claim("defence/cyber", "triage", 1), expected_generation=None)
    site.start("a")
    site.until(lambda: site.holder() == "a", "a leads")
    site.start("b")
    site.until(lambda: site.waits("b"), "b waits")
    site.until(lambda: (site.groups(DEFENCE), site.groups(CIVIL)) == (1, 3), "civil has borrowed a device")
    began_with, known = site.fencing(DEFENCE), len(ledger.proofs())

    registry.put_claim(claim("defence/cyber", "triage", 2), expected_generation=triage.generation)
    site.until(lambda: site.scrubs_asked() > 0, "civil's worker is gone and its device is to be scrubbed")
    site.processes["a"].kill()
    site.processes["a"].wait()
    assert site.groups(DEFENCE) == 1, "the move was not over when its leader died"
    without = site.until(lambda: site.holder() == "b", "b leads")
    took = site.until(lambda: (site.groups(DEFENCE), site.groups(CIVIL)) == (2, 2), "the move is finished")
    assert site.fencing(DEFENCE) > began_with
    _once_and_over_a_proof(site, ledger.proofs()[known:])

    site.start("a", lease_ms=LONG_MS)
    site.until(lambda: site.waits("a"), "a is back and waits")
    site.processes["b"].send_signal(signal.SIGTERM)
    site.until(lambda: site.holder() == "a", "a leads long before it could have taken the lease")
    assert site.processes["b"].wait(60) == 0
    generation = site.fencing(CIVIL)
    registry.put_claim(claim("civil/justice", "more", 1), expected_generation=None)
    site.until(lambda: site.fencing(CIVIL) > generation, "a writes as a newer leadership than b")

    site.start("b", lease_ms=SHIPPED_MS)
    site.until(lambda: site.waits("b"), "b is back and waits")
    site.processes["a"].send_signal(signal.SIGTERM)
    handed = site.until(lambda: site.holder() == "b", "b leads again")
    store.close()
    with capsys.disabled():
        sys.stdout.write(
            f"\nkilled: {without:.1f} s without a leader (lease {LEASE_MS} ms), move finished {took:.1f} s later; "
            f"SIGTERM: {handed:.1f} s to the other (lease {SHIPPED_MS} ms)\n"
        )


def _once_and_over_a_proof(site: Site, proofs: tuple[ScrubProof, ...]) -> None:
    """Assert that one device changed domain, once, and that it was scrubbed once for that, by whichever leader."""
    moved = {device: owners for device, owners in site.owners.items() if len(owners) > 1}
    assert list(moved.values()) == [["partage-civil", "partage-defence"]]
    assert [(proof.device, proof.passed) for proof in proofs] == [(device, True) for device in moved]
