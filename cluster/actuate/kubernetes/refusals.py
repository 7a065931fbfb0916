"""What the Kubernetes actuator does not do, and why."""

from __future__ import annotations

from cluster.refusals import Refusal
from policies.model.units import DeviceId, NodeId, SecurityDomain, WorkerId

FROZEN = "ray_frozen"
"""The domain's Ray does not take changes now, such as while its control store recovers: tried again, nothing failed."""


class NoActiveCluster(Refusal):
    """The domain has no RayCluster that serves; the operator is making, upgrading or suspending it."""

    code = "no_active_cluster"

    def __init__(self, domain: SecurityDomain, namespace: str) -> None:
        super().__init__(domain, namespace)
        self.domain, self.namespace = domain, namespace

    def __str__(self) -> str:
        return (
            f"{self.domain} has no active RayCluster in namespace {self.namespace}; "
            "`kubectl get rayservice,raycluster` there says what the operator waits for"
        )


class NoWorkerGroup(Refusal):
    """No worker group of the RayCluster fits the node's pool and the number of devices."""

    code = "no_worker_group"

    def __init__(self, pool: str, devices: int) -> None:
        super().__init__(pool, devices)
        self.pool, self.devices = pool, devices

    def __str__(self) -> str:
        return (
            f"no worker group serves pool {self.pool!r} with {self.devices} devices per worker; "
            "add the number to devicesPerWorker of that pool in the chart's values"
        )


class NodeUnsafe(Refusal):
    """A free device of the node failed its scrub, and the device plugin could hand it out."""

    code = "node_unsafe"

    def __init__(self, node: NodeId, device: DeviceId) -> None:
        super().__init__(node, device)
        self.node, self.device = node, device

    def __str__(self) -> str:
        return (
            f"device {self.device} of node {self.node} is not proved clean and the device plugin could hand it out; "
            "have a person examine it, or take it out of the device plugin's list"
        )


class NodeStarting(Refusal):
    """A worker starts on the node; which of the free devices it gets is not known yet."""

    code = "node_starting"

    def __init__(self, node: NodeId, worker: WorkerId) -> None:
        super().__init__(node, worker)
        self.node, self.worker = node, worker

    def __str__(self) -> str:
        return (
            f"worker {self.worker} starts on node {self.node} and may be given this device; it is scrubbed after that"
        )


class WorkerEnding(Refusal):
    """A pod of this worker is still being stopped."""

    code = "worker_ending"

    def __init__(self, worker: WorkerId) -> None:
        super().__init__(worker)
        self.worker = worker

    def __str__(self) -> str:
        return f"a pod of worker {self.worker} is still ending; it can start again once that is gone"


class Contended(Refusal):
    """The object changed under every try to write it."""

    code = "contended"

    def __init__(self, what: str, tries: int) -> None:
        super().__init__(what, tries)
        self.what, self.tries = what, tries

    def __str__(self) -> str:
        return f"{self.what} changed under each of {self.tries} writes; the next turn decides again"
