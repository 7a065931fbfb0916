"""After a lost journal: which claims would account for what runs. A proposal for a person to correct, nothing more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from policies.model.catalogue import Model
from policies.model.inventory import Device, Group
from policies.model.naming import tenant_of
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId, DeviceId, VariantId
from policies.model.workload import Claim, ClaimKind, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What runs, beside what the journal accounts for."""

    adopted: bool
    """Whether the loop acts; while it does not, nothing is stopped."""
    unaccounted: tuple[Group, ...]
    """Groups that no claim asks for: they are stopped once the loop acts."""
    proposed: tuple[Claim, ...]
    """Claims that would keep them. What was lost is guessed: replicas as they run, class ``standard``."""
    unknown: tuple[ClaimId, ...]
    """Claims whose variant no catalogue names: their model is for a person to say."""


def adoption(snapshot: Snapshot, claims: Iterable[Claim], models: Iterable[Model], *, adopted: bool) -> Adoption:
    """Return what runs without a claim, and the claims that would account for it, by name."""
    known = {claim.id for claim in claims}
    lost = tuple(group for group in snapshot.groups if group.claim not in known)
    owners = {variant.id: model for model in models for variant in model.variants}
    devices = {device.id: device for device in snapshot.devices}
    by_claim: dict[ClaimId, list[Group]] = {}
    for group in lost:
        by_claim.setdefault(group.claim, []).append(group)
    made = {name: _claim(name, groups, owners, devices) for name, groups in sorted(by_claim.items())}
    return Adoption(
        adopted=adopted,
        unaccounted=lost,
        proposed=tuple(claim for claim in made.values() if claim is not None),
        unknown=tuple(name for name, claim in made.items() if claim is None),
    )


def _claim(
    name: ClaimId, groups: list[Group], owners: dict[VariantId, Model], devices: dict[DeviceId, Device]
) -> Claim | None:
    """Return the claim, or None where a serving group's model cannot be told."""
    variants = {group.variant for group in groups if group.variant is not None}
    models = {owners[variant].id: owners[variant] for variant in variants if variant in owners}
    if variants and len(models) != 1:
        return None
    model = next(iter(models.values()), None)
    replicas = sum(group.replicas for group in groups)
    return Claim(
        id=name,
        tenant=tenant_of(name),
        kind=ClaimKind.SERVING if variants else ClaimKind.JOB,
        model=model.id if model else None,
        ladder=_ladder(groups, model, devices),
        min_replicas=1,
        desired_replicas=replicas,
        max_replicas=replicas,
        submitted_at_ms=min(group.since_ms for group in groups),
        generation=0,
    )


def _ladder(groups: list[Group], model: Model | None, devices: dict[DeviceId, Device]) -> tuple[Shape, ...]:
    """Return the catalogue's ladder if the groups stand on its rungs, else one on which each group keeps its rung."""
    shipped = model.ladder() if model else ()
    if all(group.rung < len(shipped) and shipped[group.rung].variant == group.variant for group in groups):
        return shipped
    seen = {group.rung: _shape(group, model, devices) for group in groups}
    rungs: list[Shape] = []
    for rung in range(max(seen) + 1):
        nearest = min(seen, key=lambda known: (abs(known - rung), known))
        rungs.append(seen[nearest])
    return tuple(rungs)


def _shape(group: Group, model: Model | None, devices: dict[DeviceId, Device]) -> Shape:
    shipped = next((shape for shape in (model.ladder() if model else ()) if shape.variant == group.variant), None)
    flavors = tuple(sorted({devices[device].flavor for device in group.devices if device in devices}))
    if shipped is not None:
        return shipped
    return Shape(flavors=flavors, devices=max(1, len(group.devices)), variant=group.variant)
