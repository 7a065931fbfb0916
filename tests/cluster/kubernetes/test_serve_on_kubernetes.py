"""F17, F18, F19: the domain's configuration is kept in the RayService and comes back whole, however Ray dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random  # noqa: TID251 - seeded

import pytest
import yaml

from cluster.actuate.kubernetes.serve import PodServeDomain, ServeOnKubernetes, ServiceDashboard
from cluster.actuate.routing import promises
from cluster.actuate.serve_domain import DomainEnd, EngineRoom
from cluster.embedded.processes import ProcessFolder
from cluster.kubernetes.api import Api, Connection
from cluster.kubernetes.kinds import FENCING, RAY_SERVICES
from cluster.ray_rest import RayUnreadable
from cluster.serve_apps import EngineLimits
from cluster.sim.clock import VirtualClock
from cluster.sim.journal import MemoryLedger, Shared
from policies.model.catalogue import Model, Variant
from policies.model.naming import group_id, worker_id
from policies.model.plan import OutcomeStatus, Plan, StartGroup
from policies.model.units import ClaimId, DeviceId, ModelId, SecurityDomain, VariantId
from tests.cluster.kubernetes.fake_ray import FakeRay
from tests.contract.apiserver.server import FakeApiServer
from tests.contract.kubernetes.conftest import ray_crds

CIVIL = SecurityDomain.CIVIL
GPU = DeviceId("GPU-1")
WORKER = worker_id(CIVIL, (GPU,))
CLAIM = ClaimId("civil/justice:chat")
GROUP = group_id(CLAIM, WORKER, 0)
SMALL = Model(
    id=ModelId("small"),
    context_tokens=2048,
    variants=(Variant(id=VariantId("q4"), engine="synthetic", precision="q4", weights="", weights_mib=0),),
)


class Bench:
    """One domain's Ray and RayService, and what writes them."""

    def __init__(self, tmp_path: Path) -> None:
        self.server, self.ray, self.clock = FakeApiServer(), FakeRay(), VirtualClock()
        self.api = Api(Connection.to(self.server.url), self.clock, Random(1))  # noqa: S311 - jitter
        crd = next(crd for crd in ray_crds() if crd["spec"]["names"]["plural"] == "rayservices")
        self.server.store.create(self.server.store.resources[_CRDS], None, crd, _write())
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "civil"}}
        self.server.store.create(self.server.store.resources["", "v1", "namespaces"], None, namespace, _write())
        template = {"spec": {"containers": [{"name": "head", "image": "x/y:1"}]}}
        spec = {"rayClusterConfig": {"headGroupSpec": {"rayStartParams": {}, "template": template}}}
        self.api.create(RAY_SERVICES, "civil", {"metadata": {"name": "civil"}, "spec": spec})
        self.ledger = MemoryLedger(Shared(), self.clock)
        self.ledger.bind(WORKER, CIVIL, (GPU,), 1)
        self.ray.nodes = [{"node_id": "ab12", "state": "ALIVE", "labels": {}, "node_ip": "10.0.0.7"}]
        self.fencing = 1
        self.serve = self._serve(tmp_path)

    def _serve(self, tmp_path: Path) -> ServeOnKubernetes:
        dashboard = ServiceDashboard(self.ray.url, "t", 2, self.api, ("civil", "civil"), lambda: self.fencing)
        domain = PodServeDomain(
            end=DomainEnd(
                domain=CIVIL, dashboard=dashboard, gateway_host="127.0.0.1", gateway_port=8000, gateway_files={}
            ),
            engines=EngineRoom(models=lambda: (SMALL,), cache=tmp_path, limits=EngineLimits()),
            ledger=self.ledger,
            processes=ProcessFolder(records=tmp_path, logs=tmp_path, environment={}),
            promised=lambda which: promises(which, None, (), (), simulated=True),
            clock=self.clock,
            addresses=lambda worker: "10.0.0.7" if worker == WORKER else "",
        )
        return ServeOnKubernetes(domains=(domain,), clock=self.clock, ledger=self.ledger)

    def execute(self, *actions: StartGroup):
        plan = Plan(id="p", snapshot_generation=1, fencing_generation=self.fencing, decided_at_ms=0, actions=actions)
        return self.serve.execute(plan).results

    def kept(self) -> dict:
        text = self.api.get(RAY_SERVICES, "civil", "civil")["spec"].get("serveConfigV2", "{}")
        return yaml.safe_load(text)

    def operator_puts(self) -> None:
        """Do what KubeRay does when it finds no application, or has restarted."""
        self.ray.handle("PUT", "/api/serve/applications/", self.kept())

    def close(self) -> None:
        self.ray.close()
        self.server.close()


_CRDS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")


def _write():
    from tests.contract.apiserver.store import Write

    return Write()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def start_group() -> StartGroup:
    return StartGroup(
        domain=CIVIL,
        group=GROUP,
        claim=CLAIM,
        worker=WORKER,
        model=ModelId("small"),
        variant=VariantId("q4"),
        devices=(GPU,),
        gpu_millis=1000,
        memory_mib=0,
        replicas=2,
        concurrency=1,
        reason="test",
    )


def names(config: dict) -> list[str]:
    return [app["name"] for app in config.get("applications", ())]


def test_what_is_put_to_ray_is_what_the_rayservice_keeps(bench: Bench) -> None:
    (outcome,) = bench.execute(start_group())
    assert outcome.status is OutcomeStatus.ACCEPTED, outcome.detail
    assert names(bench.kept()) == ["gateway", GROUP]
    assert bench.kept() == bench.ray.puts[-1]
    engine = bench.kept()["applications"][1]
    assert engine["route_prefix"] is None
    assert engine["deployments"][0]["ray_actor_options"]["label_selector"] == {"ray.io/node-id": "ab12"}


def test_an_operator_that_restarts_puts_the_same_and_deletes_nothing(bench: Bench) -> None:
    bench.execute(start_group())
    before = bench.ray.config
    bench.operator_puts()
    assert bench.ray.config == before


def test_f17_a_head_that_lost_everything_gets_the_whole_configuration_back_once(bench: Bench) -> None:
    bench.execute(start_group())
    bench.ray.die()
    bench.operator_puts()
    assert names(bench.ray.config) == ["gateway", GROUP]
    (outcome,) = bench.execute(start_group())
    assert outcome.status is OutcomeStatus.ACCEPTED
    assert names(bench.ray.config) == ["gateway", GROUP]


def test_f18_while_ray_recovers_actions_are_frozen_not_failed(bench: Bench) -> None:
    bench.execute()
    bench.ray.refuse = 503
    (outcome,) = bench.execute(start_group())
    assert (outcome.status, outcome.detail.split(":")[0]) == (OutcomeStatus.REFUSED, "ray_frozen")
    bench.ray.refuse = 0
    (outcome,) = bench.execute(start_group())
    assert outcome.status is OutcomeStatus.ACCEPTED
    assert names(bench.ray.config) == ["gateway", GROUP]


def test_f19_a_configuration_applied_by_half_is_put_again_whole(bench: Bench) -> None:
    bench.execute()
    bench.ray.apply_half = True
    bench.execute(start_group())
    assert names(bench.ray.config) == ["gateway"]
    bench.ray.apply_half = False
    bench.execute(start_group())
    assert names(bench.ray.config) == ["gateway", GROUP]
    assert names(bench.kept()) == ["gateway", GROUP]


def test_a_stale_leader_reaches_neither_the_rayservice_nor_ray(bench: Bench) -> None:
    bench.fencing = 5
    bench.execute()
    assert bench.api.get(RAY_SERVICES, "civil", "civil")["metadata"]["annotations"][FENCING] == "5"
    puts = len(bench.ray.puts)
    bench.fencing = 4
    (outcome,) = bench.execute(start_group())
    assert (outcome.status, "stale_generation" in outcome.detail) == (OutcomeStatus.REFUSED, True)
    assert len(bench.ray.puts) == puts
    assert names(bench.kept()) == ["gateway"]


def test_a_worker_carries_its_group_until_ray_no_longer_lists_it(bench: Bench) -> None:
    assert bench.serve.carried(CIVIL, WORKER) == ()
    bench.execute(start_group())
    assert bench.serve.carried(CIVIL, WORKER) == (GROUP,)
    bench.ray.refuse = 503
    with pytest.raises(RayUnreadable):
        bench.serve.carried(CIVIL, WORKER)


def test_what_does_not_differ_is_not_written(bench: Bench) -> None:
    bench.execute(start_group())
    version = bench.api.get(RAY_SERVICES, "civil", "civil")["metadata"]["resourceVersion"]
    puts = len(bench.ray.puts)
    for _ in range(3):
        bench.execute()
    assert bench.api.get(RAY_SERVICES, "civil", "civil")["metadata"]["resourceVersion"] == version
    assert len(bench.ray.puts) == puts
