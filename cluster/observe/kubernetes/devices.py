"""Devices of the nodes: from the agent's report, else from DRA slices. A device without a UUID is not known: a gap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cluster.observe.kubernetes.quantities import mebibytes
from cluster.observe.telemetry.flavors import flavor_of
from policies.model.inventory import Device, DeviceHealth, Flavor
from policies.model.proof import DeviceRecord
from policies.model.snapshot import Gap, GapKind
from policies.model.units import DeviceId, NodeId

Object = dict[str, Any]
NO_REPORT = "no_agent_report"
STALE_REPORT = "stale"
UNATTRIBUTED = "foreign_pod_not_attributed"
GPU_RESOURCES = ("nvidia.com/gpu", "nvidia.com/mig-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of the devices."""

    flavors: tuple[Flavor, ...]
    devices: tuple[Device, ...]
    holders: tuple[tuple[DeviceId, str], ...]
    """Device and the pod (``namespace/name``) that the kubelet gave it to."""
    gaps: tuple[Gap, ...]


def in_nouns(
    reports: tuple[Object, ...], slices: tuple[Object, ...], nodes: tuple[Object, ...], max_age_ms: int, now_ms: int
) -> Seen:
    """Return every device that is known by UUID, sorted; what only its count is known of is a gap."""
    reported = {obj["metadata"]["name"]: obj.get("status") or {} for obj in reports}
    flavors: dict[str, Flavor] = {}
    devices: list[Device] = []
    holders: list[tuple[DeviceId, str]] = []
    gaps: list[Gap] = []
    for node in nodes:
        name = NodeId(node["metadata"]["name"])
        status = reported.get(name) or {}
        facts = status.get("devices") or _sliced(slices, name)
        for fact in facts:
            flavor = flavor_of(fact["model"], int(fact["memoryMiB"]), fact.get("migProfile"))
            flavors[flavor.id] = flavor
            devices.append(_device(fact, name, flavor))
            if fact.get("pod"):
                holders.append((DeviceId(fact["uuid"]), fact["pod"]))
        gaps += _gaps(name, status, node, [fact["uuid"] for fact in facts], max_age_ms, now_ms)
    return Seen(
        flavors=tuple(flavors[key] for key in sorted(flavors)),
        devices=tuple(sorted(devices, key=lambda device: device.id)),
        holders=tuple(sorted(holders)),
        gaps=tuple(gaps),
    )


def with_records(devices: tuple[Device, ...], records: tuple[DeviceRecord, ...]) -> tuple[Device, ...]:
    """Return the devices with what the ledger says of domain and scrub."""
    known = {record.device: record for record in records}
    return tuple(
        replace(device, domain=known[device.id].domain, scrub=known[device.id].scrub) if device.id in known else device
        for device in devices
    )


def with_foreign(
    seen: Seen, pods: tuple[Object, ...], ours: frozenset[str], now_ms: int
) -> tuple[tuple[Device, ...], tuple[Gap, ...]]:
    """Return the devices, those that pods of others hold being SUSPECT: they are no capacity for new work.

    Where such a pod asks for devices and the agent has not said which it got, every device of its node without a
    holder is SUSPECT, and the node has a gap.
    """
    holder = dict(seen.holders)
    foreign = {device for device, pod in holder.items() if pod not in ours}
    gaps = []
    for pod in pods:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        node = (pod.get("spec") or {}).get("nodeName")
        if name in ours or not node or not wants_devices(pod) or name in holder.values():
            continue
        foreign |= {device.id for device in seen.devices if device.node == node and device.id not in holder}
        gaps.append(Gap(kind=GapKind.DEVICE, subject=node, cause=UNATTRIBUTED, since_ms=now_ms))
    devices = tuple(
        replace(device, health=DeviceHealth.SUSPECT)
        if device.id in foreign and device.health is DeviceHealth.HEALTHY
        else device
        for device in seen.devices
    )
    return devices, tuple(gaps)


def wants_devices(pod: Object) -> bool:
    """Return whether the pod asks for GPUs or MIG instances and has not ended."""
    if (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}:
        return False
    limits = [
        (each.get("resources") or {}).get("limits") or {} for each in (pod.get("spec") or {}).get("containers", ())
    ]
    return any(name.startswith(GPU_RESOURCES) for limit in limits for name in limit)


def _device(fact: Object, node: NodeId, flavor: Flavor) -> Device:
    return Device(
        id=DeviceId(fact["uuid"]),
        node=node,
        flavor=flavor.id,
        gpu=DeviceId(fact.get("gpu") or fact["uuid"]),
        memory_mib=int(fact["memoryMiB"]),
        health=DeviceHealth(fact.get("health", DeviceHealth.HEALTHY)),
        simulated=bool(fact.get("simulated")),
        island=fact.get("island") or "",
    )


def _gaps(node: NodeId, status: Object, obj: Object, devices: list[str], max_age_ms: int, now_ms: int) -> list[Gap]:
    at = int(status.get("observedAtMs") or 0)
    if status and now_ms - at > max_age_ms:
        return [Gap(kind=GapKind.DEVICE, subject=device, cause=STALE_REPORT, since_ms=at) for device in devices]
    if not status and _capacity(obj):
        return [Gap(kind=GapKind.NODE, subject=node, cause=NO_REPORT, since_ms=0)]
    return []


def _capacity(obj: Object) -> int:
    """Return how many devices the device plugin, or GPU feature discovery, counts on the node."""
    capacity = (obj.get("status") or {}).get("capacity") or {}
    counted = sum(int(count) for name, count in capacity.items() if name.startswith(GPU_RESOURCES))
    label = (obj["metadata"].get("labels") or {}).get("nvidia.com/gpu.count", "0")
    return counted or (int(label) if label.isdigit() else 0)


def _sliced(slices: tuple[Object, ...], node: NodeId) -> list[Object]:
    """Return the devices that the DRA driver publishes for the node, in the words of the agent's report."""
    newest: dict[str, int] = {}
    for each in slices:
        pool = each["spec"]["pool"]
        newest[pool["name"]] = max(newest.get(pool["name"], 0), int(pool["generation"]))
    return [
        fact
        for each in slices
        if each["spec"].get("nodeName") == node
        and each["spec"].get("driver") == "gpu.nvidia.com"
        and int(each["spec"]["pool"]["generation"]) == newest[each["spec"]["pool"]["name"]]
        for device in each["spec"].get("devices") or ()
        if (fact := _slice_fact(device))
    ]


def _slice_fact(device: Object) -> Object | None:
    attributes = {name.rsplit("/", 1)[-1]: value for name, value in (device.get("attributes") or {}).items()}
    uuid = attributes.get("uuid", {}).get("string")
    if not uuid:
        return None
    memory = ((device.get("capacity") or {}).get("memory") or {}).get("value", "0")
    return {
        "uuid": uuid,
        "gpu": attributes.get("parentUUID", {}).get("string", uuid),
        "model": attributes.get("productName", {}).get("string", "GPU"),
        "memoryMiB": mebibytes(memory),
        "migProfile": attributes.get("profile", {}).get("string"),
        "health": DeviceHealth.SUSPECT if device.get("taints") else DeviceHealth.HEALTHY,
    }
