"""Nodes: what they offer, whether they may receive work, and since when they cannot be reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.kinds import HOSTNAME, POOL
from cluster.observe.kubernetes.quantities import epoch_ms, mebibytes, millis
from policies.model.inventory import Node
from policies.model.snapshot import Gap, GapKind
from policies.model.units import NodeId

Object = dict[str, Any]

LABELS = {
    "partage.lu/rack": "rack",
    "topology.kubernetes.io/zone": "zone",
    "nvidia.com/gpu.clique": "nvlink",
    POOL: "pool",
    HOSTNAME: "hostname",
    "nvidia.com/gpu.product": "gpu_product",
    "nvidia.com/mig.strategy": "mig_strategy",
    "nvidia.com/mig.config.state": "mig_config_state",
}
"""Kubernetes labels that the platform reads, and what it calls them."""
RACK_LABELS = (
    "partage.lu/rack", "topology.kubernetes.io/rack", "network.topology.nvidia.com/leaf", "fabric.topograph.run/tier-0",
)  # fmt: skip
"""Labels that name a node's rack or leaf switch, the last two set by Topograph; the first that is set counts."""
OWN_TAINTS = ("partage.lu/", "nvidia.com/gpu")
"""Taints that our workers tolerate."""
NOT_READY = "node_not_ready"
MIG_STATE = "nvidia.com/mig.config.state"
MIG_CHANGING = "mig_changing"
"""The MIG manager is dividing the node's GPUs anew: what is on it now will not be there soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRules:
    """How long a node must be well, or away, before it counts as either."""

    settle_ms: int = 60_000
    """A node that came back receives nothing before it has been ready this long: flapping causes no moves."""
    grace_ms: int = 300_000
    """A node that cannot be reached keeps its workers this long before they count as lost."""


def in_nouns(objects: tuple[Object, ...], rules: NodeRules, now_ms: int) -> tuple[tuple[Node, ...], tuple[Gap, ...]]:
    """Return nodes sorted by name, and a gap for each that cannot be reached."""
    nodes = tuple(_node(obj, rules, now_ms) for obj in objects)
    gaps = tuple(
        Gap(kind=GapKind.NODE, subject=obj["metadata"]["name"], cause=NOT_READY, since_ms=_ready(obj)[1])
        for obj in objects
        if not _ready(obj)[0]
    )
    dividing = tuple(
        Gap(kind=GapKind.NODE, subject=obj["metadata"]["name"], cause=MIG_CHANGING, since_ms=now_ms)
        for obj in objects
        if (obj["metadata"].get("labels") or {}).get(MIG_STATE) in {"pending", "rebooting"}
    )
    return tuple(sorted(nodes, key=lambda node: node.id)), gaps + dividing


def lost(objects: tuple[Object, ...], rules: NodeRules, now_ms: int) -> frozenset[NodeId]:
    """Return the nodes that have been away for longer than the grace."""
    return frozenset(
        NodeId(obj["metadata"]["name"])
        for obj in objects
        if not _ready(obj)[0] and now_ms - _ready(obj)[1] >= rules.grace_ms
    )


def unreachable(objects: tuple[Object, ...]) -> frozenset[NodeId]:
    """Return the nodes that are not ready."""
    return frozenset(NodeId(obj["metadata"]["name"]) for obj in objects if not _ready(obj)[0])


def _node(obj: Object, rules: NodeRules, now_ms: int) -> Node:
    spec, allocatable = obj.get("spec") or {}, (obj.get("status") or {}).get("allocatable") or {}
    given = obj["metadata"].get("labels") or {}
    labels = given.items()
    ready, since = _ready(obj)
    return Node(
        id=NodeId(obj["metadata"]["name"]),
        cpu_millis=millis(allocatable.get("cpu", 0)),
        memory_mib=mebibytes(allocatable.get("memory", 0)),
        labels=tuple(sorted((LABELS[name], value) for name, value in labels if name in LABELS)),
        taints=tuple(sorted(_taint(taint) for taint in spec.get("taints") or ())),
        schedulable=ready and now_ms - since >= rules.settle_ms and not _is_closed(spec),
        rack=next((given[name] for name in RACK_LABELS if given.get(name)), ""),
    )


def _ready(obj: Object) -> tuple[bool, int]:
    """Return whether the node is ready, and since when it is or is not."""
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition["type"] == "Ready":
            return condition["status"] == "True", epoch_ms(condition.get("lastTransitionTime", ""))
    return False, epoch_ms(obj["metadata"].get("creationTimestamp", ""))


def _is_closed(spec: Object) -> bool:
    foreign = (taint for taint in spec.get("taints") or () if not taint["key"].startswith(OWN_TAINTS))
    return bool(spec.get("unschedulable")) or any(taint.get("effect") != "PreferNoSchedule" for taint in foreign)


def _taint(taint: Object) -> str:
    return f"{taint['key']}={taint.get('value', '')}:{taint.get('effect', '')}"
