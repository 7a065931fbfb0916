"""What is near to what: devices of one NVLink island, hosts of one rack. Preferred, and never a reason to refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from policies.fleet.board import Board, Reach
from policies.model.units import DeviceId, FlavorId, NodeId

Island = tuple[DeviceId, ...]


def picks(board: Board, count: int, free: Mapping[DeviceId, Reach]) -> Iterator[tuple[DeviceId, ...]]:
    """Yield so many of the free devices of one host, sorted: the nearest at hand, and those of each island with enough.

    The nearest at hand are those with the least reach; of equal ones those on the islands with most of them, so that
    they lie on few islands; then by id. Nothing where there are too few. Cost: a look at each.
    """
    by_reach = sorted(free, key=lambda one: (free[one], one)) if len(free) >= count else []
    if not board.linked:
        yield from [tuple(sorted(by_reach[:count]))] if by_reach else ()
        return
    on: dict[Island, list[DeviceId]] = {}
    for one in by_reach:
        on.setdefault(island_of(board, one), []).append(one)
    order = {one: (free[one], -len(some), island, one) for island, some in on.items() for one in some}
    yield from [tuple(sorted(sorted(by_reach, key=order.__getitem__)[:count]))] if by_reach else ()
    for some in on.values():
        if len(some) >= count:
            yield tuple(sorted(some[:count]))


def island_of(board: Board, device: DeviceId) -> Island:
    """Return the devices of its island; itself alone where its host has islands and it is on none, else nothing."""
    known = board.islands.get(device)
    if known is not None:
        return known
    return (device,) if board.survey.devices[device].node in board.linked else ()


def divided(board: Board, node: NodeId, devices: tuple[DeviceId, ...]) -> int:
    """Return over how many islands beyond the first they lie; 0 where the host's islands are not known."""
    if len(devices) == 1 or node not in board.linked:
        return 0
    return len({island_of(board, one) for one in devices}) - 1


def left_over(board: Board, devices: tuple[DeviceId, ...]) -> int:
    """Return how many idle devices remain on the islands that idle ones are taken from; 0 if none is in pieces then."""
    if not board.linked:
        return 0
    opened = {island_of(board, one) for one in devices if board.is_idle(one)}
    return sum(board.is_idle(one) and one not in devices for some in opened for one in some)


def common_rack(board: Board, hosts: list[NodeId]) -> str:
    """Return the rack with most of the hosts, the first by name of equal ones; empty if none is known."""
    nodes = board.survey.nodes
    count = Counter(nodes[one].rack for one in hosts if one in nodes and nodes[one].rack)
    return min(count, key=lambda rack: (-count[rack], rack), default="")


def roomy_rack(board: Board, flavor: FlavorId, devices: int, replicas: int) -> str:
    """Return the fullest rack with idle devices for all of the replicas, else the one for most of them; empty if none.

    Cost: a look at each host of the flavor.
    """
    hosts, room = board.hosts_of.get(flavor, {}), dict[str, int]()
    for rack, nodes in board.racks.items():
        room[rack] = sum(board.spare[hosts[one][0]].whole // devices for one in nodes if one in hosts)
    return min(room, key=lambda rack: (room[rack] < replicas, abs(room[rack] - replicas), rack), default="")
