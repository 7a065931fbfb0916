"""The kinds that the platform reads and writes, and the names that it puts on them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource of the API."""

    group: str
    version: str
    plural: str
    name: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What objects of this kind carry as ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """Return the path of the collection or object; without a namespace, that of all namespaces."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{base}{place}/{self.plural}{tail}"


NODES = Kind("", "v1", "nodes", "Node", namespaced=False)
PODS = Kind("", "v1", "pods", "Pod")
EVENTS = Kind("", "v1", "events", "Event")
LEASES = Kind("coordination.k8s.io", "v1", "leases", "Lease")
RESOURCE_SLICES = Kind("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", namespaced=False)
RAY_CLUSTERS = Kind("ray.io", "v1", "rayclusters", "RayCluster")
RAY_SERVICES = Kind("ray.io", "v1", "rayservices", "RayService")
CLAIMS = Kind("partage.lu", "v1alpha1", "claims", "Claim")
TENANTS = Kind("partage.lu", "v1alpha1", "tenants", "Tenant", namespaced=False)
NODE_DEVICES = Kind("partage.lu", "v1alpha1", "nodedevices", "NodeDevices", namespaced=False)

MANAGER = "partage"
"""Field manager of every write."""
FENCING = "partage.lu/fencing-generation"
"""Annotation: leadership under which the object was last written; an older one is refused."""
WORKER = "partage.lu/worker"
"""Annotation of a pod: the Worker that it is. Without it the pod is a spare that holds nothing."""
DEVICES = "partage.lu/devices"
"""Annotation of a pod: devices that the Worker was planned on, comma-separated."""
POOL = "partage.lu/pool"
"""Label of nodes and of worker groups."""
DEVICES_PER_WORKER = "partage.lu/devices-per-worker"
"""Label of worker groups."""
GATE = "partage.lu/placement"
"""Scheduling gate: holds a worker's pod back until its node is chosen."""
RAY_CLUSTER_LABEL = "ray.io/cluster"
RAY_GROUP_LABEL = "ray.io/group"
RAY_NODE_TYPE_LABEL = "ray.io/node-type"
HOSTNAME = "kubernetes.io/hostname"
