"""Least privilege: what the chart grants is enough for everything that the platform asks, and it asks for all of it."""

from __future__ import annotations

from dataclasses import replace
from random import Random  # noqa: TID251 - seeded

import pytest

from cluster.clock import SystemClock
from cluster.kubernetes.api import Api, Connection
from cluster.kubernetes.controller import Controller
from cluster.kubernetes.election import Election
from cluster.kubernetes.kinds import CLAIMS, NODE_DEVICES, PODS
from cluster.kubernetes.reporter import Eyes, Reporter
from cluster.sim.clock import VirtualClock
from policies.model.decision import ClaimState, Reason
from policies.model.units import NodeId
from tests.contract.apiserver.server import FakeApiServer
from tests.helm.chart import of_kind, rendered

from .conftest import Served, install, make_namespace
from .stand_in import Machine
from .test_controller import Desk, until
from .world import CIVIL, DEFENCE, World, install_services, scrub, start, stop

CONTROL_PLANE = ("partage", "partage-control-plane")
AGENT = ("partage-agent", "partage-agent")
Right = tuple[str, str, str, str]
"""Verb, group, resource with subresource, namespace; the empty namespace means all of them."""


def rights(account: tuple[str, str]) -> set[Right]:
    """Return what the chart grants to the service account."""
    objects = rendered("default")
    roles = {
        (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o
        for o in of_kind(objects, "Role", "ClusterRole")
    }
    found: set[Right] = set()
    for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        if not any((s["namespace"], s["name"]) == account for s in binding["subjects"]):
            continue
        place = binding["metadata"].get("namespace", "")
        role = roles[binding["roleRef"]["kind"], place, binding["roleRef"]["name"]]
        found |= {
            (verb, group, resource, place)
            for rule in role["rules"]
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
    return found


def asked(server: FakeApiServer, agent: str) -> set[Right]:
    return {
        (r.verb, r.group, f"{r.resource}/{r.subresource}" if r.subresource else r.resource, r.namespace or "")
        for r in server.requests
        if r.agent == agent
    }


def lacking(wanted: set[Right], granted: set[Right]) -> set[Right]:
    return {right for right in wanted if right not in granted and (*right[:3], "") not in granted}


def as_agent(server: FakeApiServer, name: str) -> Api:
    connection = Connection.to(server.url)
    connection.client.user_agent = f"{name}/1"
    return Api(connection, SystemClock(), Random(1))  # noqa: S311 - jitter


@pytest.fixture(scope="module")
def server():
    server = FakeApiServer()
    everyone = Served(server.url, "", None, server).api()
    install(everyone)
    for namespace in ("partage", "partage-defence", "partage-civil"):
        make_namespace(everyone, namespace)
    labels = {"app.kubernetes.io/component": "control-plane", "partage.lu/role": "standby"}
    pod = {"metadata": {"name": "cp-0", "labels": labels}, "spec": {"containers": [{"name": "c", "image": "x/y:1"}]}}
    everyone.create(PODS, "partage", pod)
    world = World(everyone, (Machine("n1", ("GPU-1", "GPU-2")),), "partage")
    install_services(world)
    ours = World(as_agent(server, "control-plane"), (), "partage")
    world.ledger = ours.ledger
    ours.machines, ours.kuberay = world.machines, world.kuberay
    election = Election(ours.api, VirtualClock(), "partage", "partage-control-plane", "cp-0")
    assert election.campaign()
    election.attempt()
    for mirror in ours.mirrors.all():
        mirror.turn()
    ours.until_ready(start(CIVIL, "n1", "GPU-1"))
    ours.execute(stop(CIVIL, "GPU-1"))
    ours.step(3)
    ours.execute(scrub("n1", "GPU-1", CIVIL, DEFENCE))
    ours.step(2)
    ours.until_ready(start(DEFENCE, "n1", "GPU-1"))
    election.resign()
    yield server
    server.close()


def test_the_control_plane_needs_no_right_that_the_chart_does_not_grant(server: FakeApiServer) -> None:
    wanted = asked(server, "control-plane")
    assert ("patch", "ray.io", "rayclusters", "partage-defence") in wanted, "the scenario did not happen"
    assert lacking(wanted, rights(CONTROL_PLANE)) == set()


def test_the_controller_of_claims_needs_no_right_that_the_chart_does_not_grant() -> None:
    server = FakeApiServer()
    served = Served(server.url, "", None, server)
    install(served.api())
    desk = Desk(served, make_namespace(served.api(), "justice"))
    desk.controller = Controller(replace(desk.controller._office, api=as_agent(server, "office")))
    desk.controller.start()
    desk.tenant()
    desk.claim()
    until(desk.ids)
    desk.decide(Reason(claim=desk.id(), state=ClaimState.SERVED, code=None, sentence="Served.", granted_replicas=1))
    desk.api.delete(CLAIMS, desk.namespace, "chat")
    until(lambda: not desk.api.list_all(CLAIMS)[0])
    desk.controller.stop()
    wanted = asked(server, "kopf") | asked(server, "office")
    server.close()
    assert ("watch", "partage.lu", "claims", "") in wanted, "the scenario did not happen"
    assert lacking(wanted, rights(CONTROL_PLANE)) == set()
    granted = {right for right in rights(CONTROL_PLANE) if right[2].split("/")[0] in {"claims", "tenants", "events"}}
    assert {right[:3] for right in granted} - {right[:3] for right in wanted} == set()


def test_the_agent_needs_no_right_that_the_chart_does_not_grant(server: FakeApiServer) -> None:
    fact = {"uuid": "GPU-9", "model": "NVIDIA H100 80GB HBM3", "memoryMiB": 81000}
    eyes = Eyes(devices=lambda: ("1", [fact]), holders=dict, open_device=lambda _: None)
    api = as_agent(server, "agent")
    Reporter(api=api, clock=SystemClock(), node=NodeId("n9"), eyes=eyes).round()
    assert api.get(NODE_DEVICES, None, "n9")["status"]["count"] == 1
    wanted = asked(server, "agent")
    assert wanted == rights(AGENT)


def test_the_leader_is_known_by_its_label_and_hands_the_lease_over(server: FakeApiServer) -> None:
    everyone = Served(server.url, "", None, server).api()
    assert everyone.get(PODS, "partage", "cp-0")["metadata"]["labels"]["partage.lu/role"] == "leader"


def test_the_control_plane_reaches_no_secret_and_writes_no_node() -> None:
    granted = rights(CONTROL_PLANE)
    assert not [right for right in granted if right[2].startswith("secrets")]
    assert {verb for verb, _, resource, _ in granted if resource == "nodes"} == {"get", "list", "watch"}
