"""Groups that still run what their claim no longer asks for, since somebody changed its ladder."""

from __future__ import annotations

from dataclasses import replace

from policies.model.inventory import Group
from policies.model.snapshot import Snapshot
from policies.model.workload import Claim, Shape


def without_outdated_rungs(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot in which each group stands on a rung that asks for exactly what the group is.

    A group whose rung was given another variant or another size gets the rung after the last: no rung of its claim. It
    then counts as whole devices until it is gone, and others take its place, as when a ladder is shortened.
    """
    claims = {claim.id: claim for claim in snapshot.claims}
    groups = tuple(_placed(group, claims.get(group.claim)) for group in snapshot.groups)
    return snapshot if groups == snapshot.groups else replace(snapshot, groups=groups)


def _placed(group: Group, claim: Claim | None) -> Group:
    if claim is None or group.rung >= len(claim.ladder) or _is_as_asked(group, claim.ladder[group.rung]):
        return group
    return replace(group, rung=len(claim.ladder))


def _is_as_asked(group: Group, shape: Shape) -> bool:
    size = (shape.gpu_millis, shape.memory_mib)
    return group.variant == shape.variant and group.size in {None, size}
