"""The price of isolation: capacity that lies idle because another domain holds the rest of the device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from policies.fleet.placement import Ask, Room, Slot
from policies.model.decision import Decision, Placement
from policies.model.inventory import Device, DeviceHealth, Node
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.units import WHOLE_GPU_MILLIS, DeviceId, FlavorId, NodeId, SecurityDomain


def price_of_isolation(
    snapshot: Snapshot, decision: Decision, policy: Policy
) -> dict[tuple[SecurityDomain, FlavorId], int]:
    """Return what isolation costs each domain as decided: idle millis by flavor that another domain's work keeps.

    Counted are idle parts of devices on which another domain's replicas run, as far as a waiting claim could use
    them on one of its rungs. An idle device that another domain holds is no cost: it is scrubbed and changes hands.
    Every domain and flavor of the snapshot has an entry. Cost: a look at each device for each kind of waiting shape.
    """
    rooms, waiting = _rooms(snapshot, decision), _waiting(snapshot, decision, policy)
    found = {
        (domain, flavor): 0 for domain in SecurityDomain for flavor in sorted({one.flavor for one in snapshot.devices})
    }
    for room in rooms:
        for domain, price in isolation_price([room], waiting).items():
            found[domain, room.flavor] += price
    return found


def _rooms(snapshot: Snapshot, decision: Decision) -> list[Room]:
    """Return each host and flavor as it would be, with the domain whose replicas are on each physical GPU."""
    devices = {device.id: device for device in snapshot.devices}
    taken = _taken(snapshot, decision)
    domain_of = {binding.worker: binding.domain for binding in decision.bindings}
    holder = {
        devices[one].gpu: domain_of[placement.worker]
        for placement in decision.placements if placement.worker in domain_of
        for one in placement.devices if one in devices
    }  # fmt: skip
    hosts: defaultdict[tuple[NodeId, FlavorId], list[Device]] = defaultdict(list)
    for device in snapshot.devices:
        hosts[device.node, device.flavor].append(device)
    nodes = {node.id: node for node in snapshot.nodes}
    rooms = []
    for (name, flavor), inside in sorted(hosts.items()):
        node = nodes.get(name, Node(id=name, cpu_millis=0, memory_mib=0, schedulable=False))
        slots = tuple(
            Slot(
                device=one.id, millis=WHOLE_GPU_MILLIS - taken[one.id][0], memory_mib=one.memory_mib - taken[one.id][1],
                is_healthy=one.health is DeviceHealth.HEALTHY, domain=holder.get(one.gpu),
                is_held=one.gpu in holder,
            )
            for one in inside
        )  # fmt: skip
        rooms.append(
            Room(
                node=name, flavor=flavor, cpu_millis=node.cpu_millis, memory_mib=node.memory_mib, slots=slots,
                is_open=node.schedulable,
            )
        )  # fmt: skip
    return rooms


def _taken(snapshot: Snapshot, decision: Decision) -> defaultdict[DeviceId, tuple[int, int]]:
    """Return millis and memory that the decided replicas take of each device."""
    ladders = {claim.id: claim.ladder for claim in snapshot.claims}
    taken: defaultdict[DeviceId, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for placement in decision.placements:
        shape = ladders[placement.claim][placement.rung]
        each = _replicas_on_each(placement, shape.devices)
        for one in placement.devices:
            millis, memory = taken[one]
            taken[one] = millis + shape.gpu_millis * each, memory + shape.memory_mib * each
    return taken


def _replicas_on_each(placement: Placement, devices: int) -> int:
    return max(1, placement.replicas * devices // max(1, len(placement.devices)))


def _waiting(snapshot: Snapshot, decision: Decision, policy: Policy) -> list[Ask]:
    """Return what waits, each kind once: every rung of a claim that has less than it wants."""
    domain_of = {tenant.id: tenant.domain for tenant in policy.tenants}
    lacking = {one.claim for one in decision.reasons if one.granted_replicas < one.wanted_replicas}

    def kinds() -> Iterator[Ask]:
        for claim in snapshot.claims:
            if claim.id in lacking and claim.tenant in domain_of:
                yield from (Ask(shape=shape, domain=domain_of[claim.tenant]) for shape in claim.ladder)

    return list(dict.fromkeys(kinds()))


def isolation_price(rooms: Sequence[Room], waiting: Sequence[Ask]) -> dict[SecurityDomain, int]:
    """Return by domain the idle millis that its waiting replicas could use if another domain did not hold the device.

    Each slot counts once, with all of its idle millis. A domain that waits for nothing, or only for what no shared
    device could give, pays nothing. Every domain has an entry.
    """
    return {
        domain: sum(
            slot.millis
            for room in rooms
            for slot in room.slots
            if any(_is_kept_from(room, slot, ask) for ask in waiting if ask.domain == domain)
        )
        for domain in SecurityDomain
    }


def _is_kept_from(room: Room, slot: Slot, ask: Ask) -> bool:
    """Say whether isolation alone keeps the replica from the slot."""
    shape = ask.shape
    return (
        slot.is_held
        and slot.domain not in (None, ask.domain)
        and room.is_open
        and slot.is_healthy
        and 0 < shape.gpu_millis <= slot.millis
        and shape.memory_mib <= slot.memory_mib
        and (not shape.flavors or room.flavor in shape.flavors)
        and room.cpu_millis >= shape.cpu_millis
        and room.memory_mib >= shape.host_memory_mib
    )
