"""1,000 nodes, 8,000 GPUs, 200 RayClusters: what observing, deciding and acting cost.

`python -m tests.benchmarks.bench_kubernetes`. Observing and deciding are measured in CPU seconds.
Objects have the sizes and fields that the agent, KubeRay and the kubelet give them; the API server is the fake, whose
own time is part of the wall time of acting. Rates per minute follow from measured sizes and the stated periods.
"""

from __future__ import annotations

import argparse
import json
import resource
import tracemalloc
from random import Random  # noqa: TID251 - seeded
from time import perf_counter, process_time
from typing import Any

from cluster.actuate.kubernetes.actuator import KubernetesActuator
from cluster.clock import SystemClock
from cluster.kubernetes.api import Api, Connection
from cluster.kubernetes.mirror import Copy
from cluster.observe.kubernetes import devices, nodes, workers
from cluster.observe.kubernetes.mirrors import node_in_brief, pod_in_brief
from cluster.sim.journal import MemoryLedger, Shared
from policies.decide import decide
from policies.model.decision import Placement
from policies.model.inventory import Group, GroupState, UsageState
from policies.model.memory import Memory
from policies.model.naming import worker_id
from policies.model.plan import Plan, StartWorker, StopWorker
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.tenancy import PriorityClass, Quota, Tenant
from policies.model.units import ClaimId, DeviceId, ModelId, NodeId, TenantId
from policies.model.workload import Claim, ClaimKind, Shape
from policies.planning import plan as plan_moves
from tests.benchmarks.kubernetes_site import (
    CIVIL,
    DEFENCE,
    FLAVOR,
    NODE_STATUS_PER_MINUTE,
    REPORTS_PER_MINUTE,
    Object,
    Site,
    gpu,
    node_objects,
    other_pods,
    report_objects,
    size,
    worker_pods,
)
from tests.contract.apiserver.server import FakeApiServer
from tests.contract.apiserver.store import Write
from tests.contract.kubernetes.stand_in import ray_service
from tests.contract.kubernetes.world import NoServe


def observe(site: Site, now_ms: int) -> dict[str, Any]:
    """Fill the copies, look once, and say what that took."""
    sources = {
        "nodes": (node_objects(site), node_in_brief),
        "reports": (report_objects(site, now_ms), None),
        "pods": (worker_pods(site) + other_pods(site), pod_in_brief),
    }
    listed = {name: sum(size(obj) for obj in found) for name, (found, _) in sources.items()}
    event = {name: listed[name] // len(found) for name, (found, _) in sources.items()}
    tracemalloc.start()
    copies = {}
    for name, (found, keep) in sources.items():
        copies[name] = Copy(keep) if keep else Copy()
        copies[name].replace(json.loads(json.dumps(found)), "1")
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    sources.clear()
    began = process_time()
    snapshot = look(copies, now_ms)
    took = process_time() - began
    return {
        "snapshot": snapshot,
        "first_list_mib": round(sum(listed.values()) / 2**20, 1),
        "copies_mib": round(kept / 2**20, 1),
        "observe_cpu_s": round(took, 3),
        "watch_mib_per_minute": round(
            (event["reports"] * REPORTS_PER_MINUTE + event["nodes"] * NODE_STATUS_PER_MINUTE) * site.nodes / 2**20, 2
        ),
        "bytes_per_event": event,
    }


def look(copies: dict[str, Copy], now_ms: int) -> Snapshot:
    node_copies, pods = copies["nodes"].objects(), copies["pods"].objects()
    found, away = nodes.in_nouns(node_copies, nodes.NodeRules(), now_ms)
    seen = devices.in_nouns(copies["reports"].objects(), (), node_copies, 180_000, now_ms)
    domains = {"partage-defence": DEFENCE, "partage-civil": CIVIL}
    staff = workers.in_nouns(pods, domains, seen.holders, frozenset())
    ours = frozenset(workers.full_name(pod) for pod in pods if workers.is_worker(pod))
    known, foreign = devices.with_foreign(seen, pods, ours, now_ms)
    return Snapshot(
        generation=1,
        observed_at_ms=now_ms,
        flavors=seen.flavors,
        nodes=found,
        devices=known,
        workers=tuple(worker for worker, _ in staff),
        gaps=away + seen.gaps + foreign,
    )


def policy_and_claims(site: Site) -> tuple[Policy, tuple[Claim, ...]]:
    leaves = [
        (domain, TenantId(f"{domain}/t{n:03d}")) for domain in (DEFENCE, CIVIL) for n in range(site.clusters // 2)
    ]
    share = site.gpus * 1000 // len(leaves)
    tenants = [Tenant(id=TenantId(str(domain)), domain=domain) for domain in (DEFENCE, CIVIL)] + [
        Tenant(
            id=path,
            domain=domain,
            parent=TenantId(str(domain)),
            quotas=(Quota(flavor=FLAVOR, nominal_millis=share),),
        )
        for domain, path in leaves
    ]
    each = max(1, site.gpus // site.claims)
    claims = tuple(
        Claim(
            id=ClaimId(f"{leaves[n % len(leaves)][1]}:c{n:04d}"),
            tenant=leaves[n % len(leaves)][1],
            kind=ClaimKind.SERVING,
            model=ModelId("small"),
            ladder=(Shape(flavors=(FLAVOR,)),),
            min_replicas=1,
            desired_replicas=each,
            max_replicas=each,
        )
        for n in range(site.claims)
    )
    return Policy(
        revision="bench", tenants=tuple(tenants), priority_classes=(PriorityClass(name="standard", value=0),)
    ), claims


def decide_once(site: Site, snapshot: Snapshot, now_ms: int) -> dict[str, Any]:
    from dataclasses import replace

    policy, claims = policy_and_claims(site)
    asked = replace(snapshot, claims=tuple(sorted(claims, key=lambda claim: claim.id)))
    began = process_time()
    decision = decide(asked, policy, Memory(), now_ms)
    decided = process_time()
    actions = len(plan_moves(asked, decision, policy, 1).actions)
    planned = process_time()
    steady = replace(
        asked, groups=tuple(sorted((_running(p) for p in decision.placements), key=lambda group: group.id))
    )
    again = decide(steady, policy, decision.memory, now_ms + 1000)
    return {
        "decide_all_new_cpu_s": round(decided - began, 2),
        "plan_cpu_s": round(planned - decided, 2),
        "decide_steady_cpu_s": round(process_time() - planned, 2),
        "placements": len(decision.placements),
        "actions": actions,
        "evictions_when_steady": len(again.evictions),
    }


def _running(placement: Placement) -> Group:
    return Group(
        id=placement.group,
        claim=placement.claim,
        worker=placement.worker,
        rung=placement.rung,
        variant=placement.variant,
        devices=placement.devices,
        replicas=placement.replicas,
        running=placement.replicas,
        state=GroupState.RUNNING,
        routed=True,
        in_flight=1,
        usage=UsageState.ACTIVE,
    )


def act(site: Site, moves: int) -> dict[str, Any]:
    """Stop ``moves`` workers of one domain and start as many of the other in one plan; counts every request."""
    server, clock = FakeApiServer(), SystemClock()
    crd = {"ray.io": ("rayclusters", "rayservices"), "partage.lu": ("nodedevices",)}
    from tests.contract.apiserver.kinds import Resource

    names = {"rayclusters": "RayCluster", "rayservices": "RayService", "nodedevices": "NodeDevices"}
    for group, plurals in crd.items():
        version = "v1" if group == "ray.io" else "v1alpha1"
        for plural in plurals:
            kind = Resource(group, version, plural, names[plural], plural != "nodedevices", status=False)
            server.store.resources[group, version, plural] = kind
    _fill(server, site, moves)
    api = Api(Connection.to(server.url), clock, Random(1))  # noqa: S311 - jitter
    ledger = MemoryLedger(Shared(), clock)
    actuator = KubernetesActuator(api, NoServe(), ledger, clock, {d: f"partage-{d}" for d in (DEFENCE, CIVIL)}, 0)
    server.requests.clear()
    began = perf_counter()
    results = actuator.execute(_moves(site, moves)).results
    took = perf_counter() - began
    writes = [request for request in server.requests if request.verb not in {"get", "list", "watch"}]
    server.close()
    assert all(result.status.value == "accepted" for result in results), results[:3]
    return {
        "moves": moves,
        "requests": len(server.requests),
        "writes": len(writes),
        "write_bytes": sum(request.bytes_in for request in writes),
        "act_s": round(took, 2),
    }


def _fill(server: FakeApiServer, site: Site, moves: int) -> None:
    store = server.store
    resources = store.resources

    def put(kind: tuple[str, str, str], namespace: str | None, obj: Object) -> None:
        body = {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k not in {"resourceVersion", "uid"}}}
        body["metadata"]["managedFields"] = []
        store.create(resources[kind], namespace, body, Write())

    for domain in (DEFENCE, CIVIL):
        put(("", "v1", "namespaces"), None, {"metadata": {"name": f"partage-{domain}"}})
        service = ray_service(str(domain))
        status = {"activeServiceStatus": {"rayClusterName": f"{domain}-000"}}
        put(("ray.io", "v1", "rayservices"), f"partage-{domain}", {**service, "status": status})
        cluster = {"metadata": {"name": f"{domain}-000"}, "spec": service["spec"]["rayClusterConfig"]}
        put(("ray.io", "v1", "rayclusters"), f"partage-{domain}", cluster)
    for obj in node_objects(site):
        put(("", "v1", "nodes"), None, obj)
    for obj in report_objects(site, 0):
        put(("partage.lu", "v1alpha1", "nodedevices"), None, obj)
    for pod in worker_pods(site):
        pod["metadata"]["labels"]["ray.io/cluster"] = f"{pod['metadata']['namespace'].removeprefix('partage-')}-000"
        put(("", "v1", "pods"), pod["metadata"]["namespace"], pod)
    for number in range(moves):
        spare = ray_service("civil")["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]
        labels = {"ray.io/cluster": "civil-000", "ray.io/group": "h100-1x", "ray.io/node-type": "worker"}
        put(
            ("", "v1", "pods"),
            "partage-civil",
            {"metadata": {"name": f"spare-{number}", "labels": labels}, "spec": spare["spec"]},
        )


def _moves(site: Site, moves: int) -> Plan:
    stops = []
    starts = []
    for number in range(moves):
        device = DeviceId(gpu(number * 2 % site.nodes, 0))
        stops.append(
            StopWorker(domain=DEFENCE, worker=worker_id(DEFENCE, (device,)), devices=(device,), reason="bench")
        )
        free = DeviceId(f"{gpu(number * 2 % site.nodes, 0)}-new")
        node = NodeId(f"n{number * 2 % site.nodes:04d}")
        starts.append(
            StartWorker(domain=CIVIL, worker=worker_id(CIVIL, (free,)), node=node, devices=(free,), reason="bench")
        )
    return Plan(id="bench", snapshot_generation=1, fencing_generation=1, decided_at_ms=0, actions=(*stops, *starts))


def measure(site: Site, moves: int) -> dict[str, Any]:
    now_ms = SystemClock().now_ms()
    seen = observe(site, now_ms)
    snapshot = seen.pop("snapshot")
    return {
        "nodes": site.nodes,
        "gpus": site.gpus,
        "ray_clusters": site.clusters,
        "workers": len(snapshot.workers),
        **seen,
        **decide_once(site, snapshot, now_ms),
        **act(site, moves),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--moves", type=int, default=50)
    chosen = parser.parse_args()
    print(json.dumps(measure(Site(nodes=chosen.nodes), chosen.moves), indent=1))
