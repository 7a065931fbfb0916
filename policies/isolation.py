"""The price of isolation: capacity that lies idle because the other domain holds the rest of the device."""

from __future__ import annotations

from collections.abc import Sequence

from policies.model.units import SecurityDomain
from policies.placement import Ask, Room, Slot


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
