"""What each claim asks for now: how many replicas, on which rungs, in which order, or why it asks for nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter

from policies.documents.soundness import MOST_REPLICAS
from policies.evidence.survey import Survey
from policies.fleet.layouts import impossible
from policies.model.building import builder
from policies.model.decision import PendingReason
from policies.model.inventory import Group, GroupState, UsageState
from policies.model.memory import ClaimMemory
from policies.model.tenancy import PriorityClass, Tenant
from policies.model.units import WHOLE_GPU_MILLIS, ClaimId, FlavorId, GroupId, NodeId, SecurityDomain, TenantId
from policies.model.workload import Claim, ClaimKind, Demand, Shape
from policies.modes import is_paused
from policies.wishes.ends import THE_END_HAS_PASSED, boost, has_expired

SUSPENDED_JOB = "it is suspended: its owner did that, or its program failed too often in a row; its events say which"
FAILED, TRULY_IDLE, JOB = GroupState.FAILED, UsageState.TRULY_IDLE, ClaimKind.JOB
"""For what is asked of each claim: an enumeration looks its members up each time, at the cost of ten steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to run one replica: a rung on a flavor, and what it counts against the quota."""

    rung: int
    flavor: FlavorId
    charge: int
    """Millis of the flavor: the larger of the compute and the memory share, times the devices."""


@dataclass(slots=True, kw_only=True, eq=False)
class Ask:
    """One claim's wish in this decision."""

    claim: Claim
    tenant: Tenant
    rank: PriorityClass
    domain: SecurityDomain
    value: int
    """Class value, raised as a deadline comes near."""
    wanted: int
    minimum: int
    options: tuple[Option, ...]
    """In order of preference: the rung in use first, then lower ones."""
    upgrades: tuple[Option, ...]
    """Better rungs than the one in use."""
    rung: int | None
    """Last granted or in use, None if nothing is."""
    held: tuple[Group, ...]
    """Groups that may stay, those most worth keeping first."""
    leaving: tuple[Group, ...]
    """Groups that cannot stay whatever is decided: failed, on lost devices, on another rung."""
    refusal: PendingReason | None = None
    detail: str = ""
    paused: bool = False
    idle: bool = False
    """Everything it holds has been idle for long: lent first, returned at once on demand."""
    seen_lower_since_ms: int | None = None
    idle_since_ms: int | None = None


asked = builder(Ask)
"""Makes one."""


def charge(shape: Shape, memory_mib: int) -> int:
    """Return what one replica counts, in millis of a device with this memory: its dominant share of each device."""
    by_memory = -(-shape.memory_mib * WHOLE_GPU_MILLIS // memory_mib) if memory_mib > 0 else 0
    return max(shape.gpu_millis, by_memory) * shape.devices


def flavor_memory(survey: Survey) -> dict[FlavorId, int]:
    """Return the usable memory of each flavor in MiB: the least of its devices, else the flavor's own."""
    memory: dict[FlavorId, int] = {}
    for device in survey.devices.values():
        known = memory.get(device.flavor)
        if known is None or device.memory_mib < known:
            memory[device.flavor] = device.memory_mib
    for flavor in survey.snapshot.flavors:
        memory.setdefault(flavor.id, flavor.memory_mib)
    return memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What of the fleet matters for admission."""

    memory: Mapping[FlavorId, int]
    """Usable memory of each flavor in MiB."""
    caps: Mapping[tuple[str, str], int]
    """Most that (tenant, flavor) may ever hold, in millis."""
    present: frozenset[FlavorId]
    """Flavors of which there is a device, healthy or not."""
    together: Mapping[FlavorId, int]
    """Most devices of the flavor on one host that are sound, or were when they were last seen."""


def fleet(survey: Survey, caps: Mapping[tuple[str, str], int]) -> Fleet:
    """Return what admission must know of the fleet."""
    count: dict[tuple[FlavorId, NodeId], int] = {}
    sound, unseen = survey.sound, survey.unseen
    for name, device in survey.devices.items():
        if name in sound or ((name in unseen or device.node in unseen) and survey.may_carry(device)):
            key = device.flavor, device.node
            count[key] = count.get(key, 0) + 1
    together: dict[FlavorId, int] = {}
    for (flavor, _), most in count.items():
        together[flavor] = max(together.get(flavor, 0), most)
    present = frozenset({device.flavor for device in survey.devices.values()})
    return Fleet(memory=flavor_memory(survey), caps=caps, present=present, together=together)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What follows from a claim's terms alone; claims of equal terms share it."""

    tenant: Tenant
    rank: PriorityClass
    refusal: PendingReason | None
    detail: str
    options: tuple[Option, ...]
    """Options inside the quota that a host could carry; those inside the quota when no host could."""
    inside: tuple[Option, ...]
    """Options inside the quota, the same object where hosts could carry all."""
    is_paused: bool
    rungs: int
    has_host: bool
    """Whether some host could carry one of the options."""
    is_one: bool
    """Whether exactly one replica is wanted where no demand is measured, and hosts could carry each of the options."""

    def split(self, rung: int | None, held: Collection[Group]) -> tuple[tuple[Option, ...], tuple[Option, ...]]:
        """Return the options from this rung downwards, and the better ones; what runs may stay on its own."""
        is_stranded = bool(held) and all(one.rung != rung for one in self.options)
        options = self.inside if is_stranded else self.options
        if rung is None or options[0].rung >= rung:
            return options, ()
        lower = tuple(option for option in options if option.rung >= rung)
        return (lower, tuple(one for one in options if one.rung < rung)) if lower else (options, ())


NEW = ClaimMemory(claim=ClaimId(""))
"""What is remembered of a claim that was never seen before."""
Forms = dict[tuple[object, ...], Form]


def asks(survey: Survey, fleet: Fleet, forms: Forms | None = None) -> list[Ask]:
    """Return one Ask per claim, sorted by claim id. ``forms`` are added to."""
    known = {} if forms is None else forms
    return [ask(survey, claim, fleet, known) for claim in survey.claims.values()]


def ask(survey: Survey, claim: Claim, fleet: Fleet, forms: Forms) -> Ask:
    """Return what one claim asks for. ``forms`` are added to."""
    return ask_of(survey, claim, form_of(survey, claim, fleet, forms))


_terms = attrgetter(
    "tenant", "priority_class", "min_replicas", "desired_replicas", "max_replicas", "suspended", "access.shared_with",
    "canary",
)  # fmt: skip
_fields = attrgetter(*(one.name for one in fields(Shape)))
"""A shape as a tuple: it is hashed and compared without a step of Python."""


def form_of(survey: Survey, claim: Claim, fleet: Fleet, forms: Forms) -> Form:
    """Return what follows from the claim's terms. ``forms`` are added to."""
    terms = _terms(claim), claim.job is None, *map(_fields, claim.ladder)
    form = forms.get(terms)
    if form is None:
        form = forms[terms] = _new_form(survey, claim, fleet)
    return form


def _new_form(survey: Survey, claim: Claim, fleet: Fleet) -> Form:
    tenant, rank = survey.tenants.get(claim.tenant), survey.classes.get(claim.priority_class)
    options = _options(claim, fleet.memory, survey.flavors)
    refusal, detail = _refusal(survey, claim, options, fleet)
    fitting = options
    if refusal is None:
        options, fitting, refusal, detail = _possible(claim, options, fleet)
    tenant, rank = tenant or _nobody(claim), rank or PriorityClass(name=claim.priority_class, value=0)
    paused = is_paused(survey.overlay, claim.priority_class, tenant.id) and rank.preemptible
    return Form(
        tenant=tenant, rank=rank, refusal=refusal, detail=detail, options=fitting or options, is_paused=paused,
        rungs=len(claim.ladder), has_host=bool(fitting), inside=options,
        is_one=refusal is None and bool(fitting) and fitting is options
        and claim.min_replicas == 1 == claim.desired_replicas,
    )  # fmt: skip


def ask_of(survey: Survey, claim: Claim, form: Form) -> Ask:
    """Return what the claim asks for. Most are simple in most ways, and what cannot apply is not gone into."""
    remembered, groups = survey.remembered.get(claim.id, NEW), survey.groups_of.get(claim.id)
    rung, held, leaving = (remembered.rung, (), ()) if groups is None else _held(survey, groups, remembered, form)
    if rung is not None and rung >= form.rungs:
        rung = None
    refusal, detail = form.refusal, form.detail
    if claim.expires_at_ms is not None and has_expired(claim, survey.now_ms):
        refusal, detail = PendingReason.DEACTIVATED, THE_END_HAS_PASSED
    if refusal is None and not form.has_host and not held:
        refusal, detail = PendingReason.TOPOLOGY_UNSATISFIED, "no host has so many healthy devices of its flavors"
    count, lower_since = (0, None) if refusal else wanted(survey, claim, remembered, held)
    is_plain = not form.options or (not rung and form.inside is form.options)
    options, upgrades = (form.options, ()) if is_plain else form.split(rung, held)
    idle, idle_since = False, None
    if remembered.idle_since_ms is not None or (held and held[0].usage is TRULY_IDLE):
        idle, idle_since = _idle(survey, claim, held, remembered)
    value = form.rank.value + (0 if claim.deadline_ms is None else boost(claim, survey.now_ms, held))
    least = count and min(count, claim.min_replicas)  # a refused claim may have a minimum below nothing
    return asked(  # in the order of its fields
        claim, form.tenant, form.rank, form.tenant.domain, value, count, least, options,
        upgrades, rung, held, leaving, refusal, detail, form.is_paused, idle, lower_since, idle_since,
    )  # fmt: skip


def _held(
    survey: Survey, groups: tuple[Group, ...], remembered: ClaimMemory, form: Form
) -> tuple[int | None, tuple[Group, ...], tuple[Group, ...]]:
    """Return the rung in use, the groups that may stay and those that cannot.

    In use is the rung that the claim was last granted, else the best one that it runs on, None if it has none.
    """
    rung = remembered.rung
    if rung is None or rung >= form.rungs:
        rung = None
        for one in groups:  # a loop is quicker: most have one group
            if one.state is not FAILED and one.rung < form.rungs and (rung is None or one.rung < rung):
                rung = one.rung
    if len(groups) == 1 and groups[0].rung == rung and _may_stay(survey, groups[0], form.tenant.domain):
        return rung, groups, ()
    return (rung, *_sorted_out(survey, groups, rung, form.tenant.domain))


def _nobody(claim: Claim) -> Tenant:
    domain = SecurityDomain(claim.tenant.split("/")[0]) if claim.tenant.split("/")[0] in set(SecurityDomain) else None
    return Tenant(id=claim.tenant, domain=domain or SecurityDomain.CIVIL)


def _options(claim: Claim, memory: Mapping[FlavorId, int], known: tuple[FlavorId, ...]) -> tuple[Option, ...]:
    return tuple(
        Option(rung=rung, flavor=flavor, charge=charge(shape, memory[flavor]))
        for rung, shape in enumerate(claim.ladder)
        for flavor in (shape.flavors or known)
        if flavor in memory and shape.memory_mib <= memory[flavor]
    )


def _refusal(
    survey: Survey, claim: Claim, options: tuple[Option, ...], fleet: Fleet
) -> tuple[PendingReason | None, str]:
    fault = _fault(survey, claim)
    if fault:
        return PendingReason.MISCONFIGURED, fault
    foreign = _foreign(survey, claim)
    if foreign:
        return PendingReason.DOMAIN_FORBIDDEN, f"it reaches to {foreign}, which is of the other domain"
    if not any(option.flavor in fleet.present for option in options):
        named = (impossible(flavor) for shape in claim.ladder for flavor in shape.flavors)
        fault = next(filter(None, named), "no device here is of a flavor that it accepts, with enough memory")
        return PendingReason.NO_MATCHING_FLAVOR, fault
    if claim.suspended:
        return PendingReason.SUSPENDED, "its owner suspended it" if claim.job is None else SUSPENDED_JOB
    return None, ""


def _fault(survey: Survey, claim: Claim) -> str:
    if claim.tenant not in survey.tenants:
        return f"the policy names no tenant {claim.tenant}"
    if claim.priority_class not in survey.classes:
        return f"the policy names no priority class {claim.priority_class}"
    if not claim.ladder:
        return "its ladder is empty"
    if not 0 <= claim.min_replicas <= claim.desired_replicas <= claim.max_replicas:
        return "its replicas are not in the order 0 <= min <= desired <= max"
    if claim.max_replicas > MOST_REPLICAS:
        return f"one claim may have {MOST_REPLICAS} replicas, not {claim.max_replicas}"
    return next((f"rung {rung}: {fault}" for rung, shape in enumerate(claim.ladder) if (fault := _shape(shape))), "")


def _foreign(survey: Survey, claim: Claim) -> str:
    """Return who of another domain the claim would serve or take requests from; empty if nobody.

    Nobody may store such a claim; one that comes another way, or whose tenant's domain was changed, gets no place.
    """
    others = [*claim.access.shared_with, *([TenantId(claim.canary.of.partition(":")[0])] if claim.canary else [])]
    domain = survey.tenants[claim.tenant].domain
    return next((one for one in others if one in survey.tenants and survey.tenants[one].domain != domain), "")


def _shape(shape: Shape) -> str:
    if shape.devices < 1 or not 1 <= shape.gpu_millis <= WHOLE_GPU_MILLIS or shape.memory_mib < 0:
        return "devices must be >= 1, gpu_millis 1..1000, memory_mib >= 0"
    if shape.devices > 1 and shape.gpu_millis < WHOLE_GPU_MILLIS:
        return "a part of a device cannot be asked for on several devices"
    return ""


def _sorted_out(
    survey: Survey, groups: tuple[Group, ...], rung: int | None, domain: SecurityDomain
) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    held = by_worth(survey, [group for group in groups if group.rung == rung and _may_stay(survey, group, domain)])
    keep = {group.id for group in held}
    return held, tuple(group for group in groups if group.id not in keep)


def by_worth(survey: Survey, groups: Iterable[Group]) -> tuple[Group, ...]:
    """Return the groups of one claim, those most worth keeping first."""

    def worth(group: Group) -> tuple[bool, bool, bool, int, int, GroupId]:
        inside = survey.latest[group.id].in_flight or 0
        restart = -group.cold_start_ms * (1 + inside)
        return not group.routed, group.id in survey.draining, group.running == 0, restart, group.since_ms, group.id

    return tuple(sorted(groups, key=worth))


def _may_stay(survey: Survey, group: Group, domain: SecurityDomain) -> bool:
    worker = survey.workers.get(group.worker)
    if worker is None or worker.domain in survey.blind:
        return worker is not None
    if group.state is FAILED or worker.domain != domain:
        return False
    return survey.lost.isdisjoint(group.devices) and survey.has_all(group.devices)


def wanted(survey: Survey, claim: Claim, remembered: ClaimMemory, held: tuple[Group, ...]) -> tuple[int, int | None]:
    """Return the replicas wanted, and since when fewer would have been enough.

    What was asked to leave already is not held for a while: what is moved would count twice, and all of it stay.
    """
    holding = held[0].replicas if len(held) == 1 else sum([group.replicas for group in held])
    demand, is_unheard = survey.demands.get(claim.id), bool(survey.unheard) and _unheard(survey, claim)
    if claim.kind is JOB or (demand is None and not is_unheard):
        target = claim.desired_replicas
    elif demand is None or is_unheard or _is_stale(survey, demand):
        target = max(holding, claim.min_replicas) if holding else claim.desired_replicas
    else:
        target = demand.replicas
    if not claim.min_replicas <= target <= claim.max_replicas:
        target = max(claim.min_replicas, min(claim.max_replicas, target))
    if target < holding:
        holding -= sum([group.replicas for group in held if group.id in survey.draining])
    if target >= holding:
        return target, None
    since = survey.now_ms if remembered.lower_since_ms is None else remembered.lower_since_ms
    if survey.now_ms - since < survey.policy.bounds.scale_down_hold_ms:
        return min(holding, claim.max_replicas), since
    return target, since


def _unheard(survey: Survey, claim: Claim) -> bool:
    tenant = survey.tenants.get(claim.tenant)
    return claim.id in survey.unheard or (tenant is not None and str(tenant.domain) in survey.unheard)


def _is_stale(survey: Survey, demand: Demand) -> bool:
    return survey.now_ms - demand.observed_at_ms > survey.policy.bounds.telemetry_max_age_ms


def _possible(
    claim: Claim, options: tuple[Option, ...], fleet: Fleet
) -> tuple[tuple[Option, ...], tuple[Option, ...], PendingReason | None, str]:
    """Return the options that quota could ever allow, those of them that a host could carry, or why there are none."""
    gang = max(1, claim.min_replicas)
    inside = tuple(one for one in options if one.charge * gang <= fleet.caps.get((claim.tenant, one.flavor), 0))
    if not inside:
        fault = "its minimum, on its smallest shape, is more than its tenant may ever hold, or than there is"
        return options, (), PendingReason.EXCEEDS_MAX_QUOTA, fault
    fitting = tuple(one for one in inside if claim.ladder[one.rung].devices <= fleet.together.get(one.flavor, 0))
    return inside, inside if len(fitting) == len(inside) else fitting, None, ""


def _idle(survey: Survey, claim: Claim, held: tuple[Group, ...], remembered: ClaimMemory) -> tuple[bool, int | None]:
    """Say whether all of it has been idle for long enough to be lent, and since when it is idle.

    Only a fresh sample begins an idle time, and only a fresh sign of work ends it: what was not seen changes nothing.
    A claim that was evicted as idle stays idle, and asks for nothing of others, until work arrives.
    """
    demand = survey.demands.get(claim.id)
    fresh = None if demand is None or _unheard(survey, claim) or _is_stale(survey, demand) else demand
    works = fresh is not None and (fresh.in_flight > 0 or fresh.queued > 0)
    if works or any(group.usage in (UsageState.ACTIVE, UsageState.IDLE_HELD) for group in held):
        return False, None
    since = remembered.idle_since_ms
    is_seen_idle = bool(held) and all(group.usage is UsageState.TRULY_IDLE for group in held)
    if since is None and not (is_seen_idle and (fresh is not None or claim.kind is ClaimKind.JOB)):
        return False, None
    since = survey.now_ms if since is None else since
    return survey.now_ms - since >= survey.policy.bounds.idle_after_ms, since
