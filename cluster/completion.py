"""What the journal adds to what was observed: what is asked for, what is out of use, whether the world is ours."""

from __future__ import annotations

from dataclasses import replace

from cluster.ports import Journal
from policies.model.inventory import Cordon, Device, DeviceHealth, Node
from policies.model.snapshot import GapKind, Snapshot
from policies.model.units import SecurityDomain
from policies.wishes.outdated import without_outdated_rungs


def complete(observed: Snapshot, journal: Journal) -> Snapshot:
    """Return the snapshot that a decision is taken from.

    Claims are the journal's. What an operator took out of use counts as retired, so that it empties. While the journal
    does not account for what runs (its file was lost), every domain is ``adopting``: it holds, nothing is evicted.
    Groups that run what their claim no longer asks for stand on no rung of it.
    """
    cordons = {cordon.subject: cordon for cordon in journal.cordons()}
    known = replace(
        observed,
        claims=journal.claims(),
        reservations=journal.reservations(),
        nodes=tuple(_node(node, cordons) for node in observed.nodes) if cordons else observed.nodes,
        devices=tuple(_device(device, cordons) for device in observed.devices) if cordons else observed.devices,
        adopting=observed.adopting if journal.adopted() else tuple(SecurityDomain),
    )
    return without_outdated_rungs(known)


def is_empty(observed: Snapshot) -> bool:
    """Return whether every cluster was seen and nothing of ours runs in it: then there is nothing to adopt."""
    unseen = any(gap.kind in {GapKind.CLUSTER, GapKind.NODE} for gap in observed.gaps)
    return not (observed.workers or observed.groups or unseen)


def _node(node: Node, cordons: dict[str, Cordon]) -> Node:
    return replace(node, schedulable=False) if node.id in cordons else node


def _device(device: Device, cordons: dict[str, Cordon]) -> Device:
    out = device.id in cordons or device.gpu in cordons or device.node in cordons
    if out and device.health is DeviceHealth.HEALTHY:
        return replace(device, health=DeviceHealth.RETIRED)
    return device
