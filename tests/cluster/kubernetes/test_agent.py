"""The node's agent: what the kubelet says, what is reported, and scrubs that are asked for once and proved once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random  # noqa: TID251 - seeded

import grpc
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.actuate.kubernetes import scrubs
from cluster.actuate.scrub import ScrubPolicy, SimulatedDevice
from cluster.kubernetes.api import Api, Connection
from cluster.kubernetes.kinds import NODE_DEVICES
from cluster.kubernetes.pod_resources import METHOD, KubeletSilent, devices_in, holders
from cluster.kubernetes.reporter import Eyes, Reporter
from cluster.sim.clock import VirtualClock
from cluster.sim.journal import MemoryLedger, Shared
from policies.model.inventory import ScrubState
from policies.model.units import DeviceId, NodeId, SecurityDomain, WorkerId
from tests.contract.apiserver.server import FakeApiServer
from tests.contract.apiserver.store import Write

CRDS = Path(__file__).parents[3] / "helm" / "partage" / "crds"
CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE
GPU = DeviceId("GPU-1")


def field(number: int, value: bytes) -> bytes:
    assert len(value) < 16384
    size = bytes([len(value)]) if len(value) < 128 else bytes([len(value) & 0x7F | 0x80, len(value) >> 7])
    return bytes([number << 3 | 2]) + size + value


def pod_entry(namespace: str, name: str, resource: str, *devices: str) -> bytes:
    listed = field(1, resource.encode()) + b"".join(field(2, device.encode()) for device in devices)
    cpu_ids = bytes([3 << 3 | 2, 2, 1, 2])
    return field(1, field(1, name.encode()) + field(2, namespace.encode()) + field(3, field(2, listed) + cpu_ids))


ANSWER = (
    pod_entry("partage-civil", "w1", "nvidia.com/gpu", "GPU-1", "GPU-2")
    + pod_entry("partage-civil", "w2", "nvidia.com/mig-3g.40gb", "MIG-7")
    + pod_entry("default", "shared", "nvidia.com/gpu", "GPU-3::1")
    + pod_entry("default", "other", "smarter-devices/fuse", "fuse-1")
)


def test_the_kubelets_answer_names_the_pod_of_each_device() -> None:
    assert dict(devices_in(ANSWER)) == {
        "GPU-1": "partage-civil/w1",
        "GPU-2": "partage-civil/w1",
        "MIG-7": "partage-civil/w2",
        "GPU-3": "default/shared",
    }


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_and_nothing_else_happens(noise: bytes) -> None:
    with contextlib.suppress(IndexError, ValueError, KeyError):
        dict(devices_in(noise))


def test_a_kubelet_is_asked_over_its_socket(tmp_path: Path) -> None:
    handler = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: ANSWER, request_deserializer=bytes, response_serializer=bytes
    )
    service, method = METHOD.strip("/").split("/")
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    socket = tmp_path / "k.sock"
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    assert holders(socket)["MIG-7"] == "partage-civil/w2"
    server.stop(0)
    with pytest.raises(KubeletSilent, match="did not say"):
        holders(tmp_path / "nothing.sock")


class Node:
    """One node's agent against an API server."""

    def __init__(self) -> None:
        self.server, self.clock = FakeApiServer(), VirtualClock()
        crd = yaml.safe_load((CRDS / "nodedevices.yaml").read_text())
        kind = self.server.store.resources["apiextensions.k8s.io", "v1", "customresourcedefinitions"]
        self.server.store.create(kind, None, crd, Write())
        self.api = Api(Connection.to(self.server.url), self.clock, Random(1))  # noqa: S311 - jitter
        self.ledger = MemoryLedger(Shared(), self.clock)
        self.seen: tuple[str, list] | None = (
            "580.1",
            [{"uuid": GPU, "gpu": GPU, "model": "NVIDIA H100 80GB HBM3", "memoryMiB": 81000, "health": "healthy"}],
        )
        self.held: dict[str, str] | None = {}
        self.device = SimulatedDevice()
        self.opened = 0
        self.reporter = self.new_reporter()

    def new_reporter(self) -> Reporter:
        eyes = Eyes(devices=lambda: self.seen, holders=lambda: self.held, open_device=self._open)
        policy = ScrubPolicy(settle_ms=0)
        return Reporter(api=self.api, clock=self.clock, node=NodeId("n1"), eyes=eyes, policy=policy)

    def _open(self, device: DeviceId) -> SimulatedDevice:
        assert device == GPU
        self.opened += 1
        return self.device

    def round(self) -> dict:
        self.reporter.round()
        self.reporter.wait()
        self.reporter.round()
        return self.api.get(NODE_DEVICES, None, "n1")

    def version(self) -> str:
        return self.api.get(NODE_DEVICES, None, "n1")["metadata"]["resourceVersion"]

    def dirty(self) -> None:
        self.ledger.bind(WorkerId("w"), CIVIL, (GPU,), 1)
        self.ledger.release(WorkerId("w"), 1)


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.server.close()


def test_the_report_says_what_is_there_and_who_holds_it(node: Node) -> None:
    node.held = {GPU: "partage-civil/w1"}
    status = node.round()["status"]
    assert (status["driver"], status["count"], status["devices"][0]["pod"]) == ("580.1", 1, "partage-civil/w1")


def test_nothing_is_written_while_nothing_changes_until_the_period_ends(node: Node) -> None:
    node.round()
    version = node.version()
    node.round()
    assert node.version() == version
    node.clock.sleep_ms(30_000)
    node.round()
    assert node.version() != version


def test_what_cannot_be_seen_is_not_reported_as_nothing(node: Node) -> None:
    node.round()
    version = node.version()
    node.clock.sleep_ms(60_000)
    node.held = None
    node.round()
    node.seen, node.held = None, {}
    node.round()
    assert node.version() == version


def test_a_scrub_is_carried_out_once_and_its_proof_reaches_the_ledger(node: Node) -> None:
    node.round()
    node.dirty()
    scrubs.ask(node.api, node.ledger, NodeId("n1"), (GPU, DEFENCE), 1)
    report = node.round()
    node.round()
    assert node.opened == 1
    scrubs.collect(node.api, node.ledger, (report,), 1)
    (proof,) = node.ledger.proofs()
    assert (proof.device, proof.from_domain, proof.to_domain, proof.passed) == (GPU, CIVIL, DEFENCE, True)
    assert node.ledger.devices()[0].scrub is ScrubState.CLEAN


def test_a_scrub_that_fails_is_proved_to_have_failed(node: Node) -> None:
    node.round()
    node.dirty()
    node.device.pids = (4711,)
    scrubs.ask(node.api, node.ledger, NodeId("n1"), (GPU, DEFENCE), 1)
    scrubs.collect(node.api, node.ledger, (node.round(),), 1)
    assert node.ledger.devices()[0].scrub is ScrubState.FAILED
    assert "4711" in node.ledger.proofs()[0].steps[-1].detail


def test_an_agent_that_restarts_does_not_scrub_again_what_it_has_proved(node: Node) -> None:
    node.round()
    node.dirty()
    scrubs.ask(node.api, node.ledger, NodeId("n1"), (GPU, DEFENCE), 1)
    node.round()
    node.reporter = node.new_reporter()
    node.round()
    assert node.opened == 1


def test_a_proof_that_answers_another_scrub_is_not_taken(node: Node) -> None:
    node.round()
    node.dirty()
    scrubs.ask(node.api, node.ledger, NodeId("n1"), (GPU, DEFENCE), 1)
    report = node.round()
    for change in ({"request": "0000"}, {"from": "defence"}, {"to": "civil"}, {"device": "GPU-9"}):
        forged = {**report, "status": {"proofs": [{**report["status"]["proofs"][0], **change}]}}
        scrubs.collect(node.api, node.ledger, (forged,), 1)
        assert node.ledger.proofs() == ()


def test_an_old_proof_does_not_clean_a_device_that_was_used_since(node: Node) -> None:
    node.round()
    node.dirty()
    scrubs.ask(node.api, node.ledger, NodeId("n1"), (GPU, DEFENCE), 1)
    old = node.round()
    scrubs.collect(node.api, node.ledger, (old,), 1)
    node.clock.sleep_ms(1000)
    node.ledger.bind(WorkerId("v"), DEFENCE, (GPU,), 1)
    node.ledger.release(WorkerId("v"), 1)
    scrubs.ask(node.api, node.ledger, NodeId("n1"), (GPU, CIVIL), 1)
    scrubs.collect(node.api, node.ledger, (old,), 1)
    assert node.ledger.devices()[0].scrub is ScrubState.SCRUBBING
