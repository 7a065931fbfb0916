"""Which GPUs should be divided, and how, so that what waits for MIG instances finds them: proposed, never done here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from policies.fleet.mig import GEOMETRIES, Geometry, Instance, propose
from policies.model.decision import Decision, Reason
from policies.model.inventory import Device, DeviceHealth
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.units import DeviceId, FlavorId, NodeId, SecurityDomain

MIG = "-MIG-"
"""Between GPU model and profile in the name of a flavor, as in ``H100-80GB-MIG-3g.40gb``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A layout for one idle GPU."""

    node: NodeId
    gpu: DeviceId
    domain: SecurityDomain
    """Domain whose claims wait for it: instances of one GPU never serve two."""
    layout: tuple[Instance, ...]


def profile_of(flavor: FlavorId) -> tuple[str, str] | None:
    """Return GPU model and MIG profile that a flavor names; None if it names a whole GPU."""
    model, found, profile = flavor.partition(MIG)
    return (model, profile) if found else None


def impossible(flavor: FlavorId) -> str:
    """Return why no GPU can ever be divided so, empty if it can or the flavor names a whole GPU."""
    named = profile_of(flavor)
    if named is None:
        return ""
    model, profile = named
    geometry = geometry_of(model)
    if geometry is None:
        return f"{model} is not known to be divided by MIG"
    names = [name for name, _ in geometry.profiles]
    return "" if profile in names else f"{model} has no MIG profile {profile}; it has {', '.join(names)}"


def geometry_of(model: str) -> Geometry | None:
    """Return what the GPU model can be divided into; None if it is not known, or its memory would have to be said."""
    exact = GEOMETRIES.get(model)
    longer = [geometry for name, geometry in GEOMETRIES.items() if name.startswith(f"{model}-")]
    return exact or (longer[0] if len(longer) == 1 else None)


def proposals(snapshot: Snapshot, decision: Decision, policy: Policy) -> tuple[Proposal, ...]:
    """Return a layout for each idle GPU that waiting claims ask to be divided, sorted by host and GPU.

    A GPU on which any worker stands, of which any part is not healthy, or whose host takes no new work is left as it
    is: no layout changes under a running claim. GPUs of the fewest hosts are taken, so that whole hosts stay whole.
    """
    found: list[Proposal] = []
    used: set[DeviceId] = set()
    for (domain, model), wanted in sorted(_wanted(snapshot, decision, policy).items()):
        idle = {gpu: node for gpu, node in _idle(snapshot, model).items() if gpu not in used}
        geometry = geometry_of(model)
        for gpu, layout in (propose(geometry, list(idle), wanted) if geometry else {}).items():
            used.add(gpu)
            found.append(Proposal(node=idle[gpu], gpu=gpu, domain=domain, layout=layout))
    return tuple(sorted(found, key=lambda one: (one.node, one.gpu)))


def _wanted(
    snapshot: Snapshot, decision: Decision, policy: Policy
) -> dict[tuple[SecurityDomain, str], Mapping[str, int]]:
    """Return the instances that waiting replicas ask for: each claim's best rung, the first profile that exists."""
    domain_of = {tenant.id: tenant.domain for tenant in policy.tenants}
    reasons = {one.claim: one for one in decision.reasons}
    found: defaultdict[tuple[SecurityDomain, str], Counter[str]] = defaultdict(Counter)
    for claim in snapshot.claims:
        missing = _missing(reasons.get(claim.id))
        flavors = [flavor for shape in claim.ladder for flavor in shape.flavors]
        named = next((profile_of(one) for one in flavors if profile_of(one) and not impossible(one)), None)
        if missing > 0 and named is not None and claim.tenant in domain_of:
            found[domain_of[claim.tenant], named[0]][named[1]] += missing
    return dict(found)


def _missing(reason: Reason | None) -> int:
    """Return how many replicas it lacks; all of them if it is refused because nothing is divided as it asks."""
    return 0 if reason is None else reason.wanted_replicas - reason.granted_replicas


def _idle(snapshot: Snapshot, model: str) -> dict[DeviceId, NodeId]:
    """Return the GPUs of the model that may be divided anew with their hosts, those of partly used hosts first."""
    held = {one for worker in snapshot.workers for one in worker.devices}
    open_ = {node.id for node in snapshot.nodes if node.schedulable}
    parts: defaultdict[DeviceId, list[Device]] = defaultdict(list)
    for device in snapshot.devices:
        if device.flavor.partition(MIG)[0] == model:
            parts[device.gpu].append(device)
    idle = {
        gpu: some[0].node
        for gpu, some in parts.items()
        if all(one.id not in held and one.health is DeviceHealth.HEALTHY and one.node in open_ for one in some)
    }
    free = Counter(idle.values())
    return dict(sorted(idle.items(), key=lambda one: (free[one[1]], one[1], one[0])))
