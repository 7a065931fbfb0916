"""Which GPUs of a node are close to one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pynvml

from cluster.observe.telemetry.gate import Gate
from policies.model.telemetry import DeviceFacts, Missing
from policies.model.units import DeviceId

LEVELS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "board",
    pynvml.NVML_TOPOLOGY_SINGLE: "pcie_switch",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "pcie_switches",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "host_bridge",
    pynvml.NVML_TOPOLOGY_NODE: "numa_node",
    pynvml.NVML_TOPOLOGY_SYSTEM: "system",
}


def peers(facts: list[DeviceFacts], handles: dict[DeviceId, Any]) -> tuple[DeviceFacts, ...]:
    """Return the facts with each whole GPU's peers and how they are linked, sorted; a link not seen is left out."""
    whole = [fact for fact in facts if fact.mig_profile is None]
    links = {
        (one.device, other.device): _link(Gate(), handles[one.device], handles[other.device])
        for position, one in enumerate(whole)
        for other in whole[position + 1 :]
    }
    return tuple(replace(fact, peers=_peers_of(fact.device, links)) for fact in facts)


def islands(facts: Sequence[DeviceFacts]) -> dict[DeviceId, str]:
    """Return, for each whole GPU that NVLink joins to another, the name of its island: the lowest UUID on it.

    An island is all that is reached from one GPU to the next over NVLink; behind an NVSwitch that is the whole host. A
    GPU that MIG has divided is on none: its instances do not use NVLink.
    """
    links = {
        fact.device: [other for other, link in fact.peers if link == "nvlink"] for fact in facts if not fact.mig_enabled
    }
    found: dict[DeviceId, str] = {}
    for first in sorted(links):
        reached, ahead = set[DeviceId](), [first] if first not in found else []
        while ahead:
            one = ahead.pop()
            reached.add(one)
            ahead += [other for other in links[one] if other in links and other not in reached]
        found.update(dict.fromkeys(reached, str(first)) if len(reached) > 1 else {})
    return found


def _peers_of(device: DeviceId, links: dict[tuple[DeviceId, DeviceId], str | None]) -> tuple[tuple[DeviceId, str], ...]:
    found = [
        (other if one == device else one, link)
        for (one, other), link in links.items()
        if link is not None and device in (one, other)
    ]
    return tuple(sorted(found))


def _link(gate: Gate, one: Any, other: Any) -> str | None:
    nvlink = gate.ask(pynvml.nvmlDeviceGetP2PStatus, one, other, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
    if nvlink == pynvml.NVML_P2P_STATUS_OK:
        return "nvlink"
    level = gate.ask(pynvml.nvmlDeviceGetTopologyCommonAncestor, one, other)
    return None if isinstance(level, Missing) else LEVELS.get(level)
