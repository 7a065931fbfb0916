"""Scenes to draw: a morning on which much happens, and as many devices and claims as the console promises to bear."""

from dataclasses import replace
from functools import cache

from cluster.console.scene import Approval, ClaimView, Entry, Key, Reading, Scene, Share, Viewer
from cluster.usage import DayUse
from policies.model.catalogue import Model, Variant
from policies.model.decision import Change, ClaimState, Entitlement, PendingReason, Reason
from policies.model.inventory import (
    Device,
    DeviceHealth,
    Flavor,
    Group,
    GroupState,
    Node,
    ScrubState,
    Worker,
    WorkerState,
)
from policies.model.policy import ModeDeclaration, OperatingMode
from policies.model.routing import VariantLoad
from policies.model.snapshot import Gap, GapKind
from policies.model.units import SecurityDomain
from policies.model.workload import Canary, Claim, ClaimKind, Shape

NOW = 1_780_000_000_000
OPERATOR = Viewer(name="luc")
JUSTICE = Viewer(name="civil/justice", tenant="civil/justice")
DEFENCE, CIVIL = SecurityDomain.DEFENCE, SecurityDomain.CIVIL
TENANTS = ("civil/justice", "civil/health", "defence/cyber", "defence/command")
MISTRAL = Model(
    id="mistral-small-3.2",
    context_tokens=131_072,
    licence="Apache-2.0",
    variants=(
        Variant(
            id="bf16",
            engine="vllm",
            precision="bf16",
            weights="small/bf16",
            weights_mib=47_000,
            shapes=(Shape(flavors=("H100-80GB",), variant="bf16", quality=1000),),
            cold_start_ms=74_000,
            tokens_per_s=48,
            provenance="example",
        ),
        Variant(
            id="fp8",
            engine="vllm",
            precision="fp8",
            weights="small/fp8",
            weights_mib=24_500,
            shapes=(Shape(flavors=("H100-80GB",), gpu_millis=500, variant="fp8", quality=985),),
            cold_start_ms=41_000,
            tokens_per_s=71,
            provenance="example",
        ),
        Variant(
            id="int4",
            engine="vllm",
            precision="int4",
            weights="small/int4",
            weights_mib=14_100,
            shapes=(Shape(flavors=("H100-80GB",), gpu_millis=333, variant="int4", quality=940),),
            cold_start_ms=29_000,
            tokens_per_s=64,
            provenance="example",
        ),
    ),
)


UNUSED = replace(
    MISTRAL,
    id="mistral-medium-3.5-128b",
    licence="modified MIT (not above a revenue threshold without a licence of the publisher)",
    variants=tuple(
        replace(
            variant,
            id=f"mistral-medium-3.5-128b-{variant.id}",
            provenance="published: recipes of the engine (August 2026), weights 134 GB, at least 154 GB on 8 devices",
        )
        for variant in MISTRAL.variants
    ),
)
"""Words as long as those of the shipped catalogue."""


def claim(tenant, name, **fields):
    shape = Shape(flavors=("H100-80GB",), variant="fp8")
    known = {"kind": ClaimKind.SERVING, "model": "mistral-small-3.2", "ladder": (shape,), "max_replicas": 4}
    return Claim(id=f"{tenant}:{name}", tenant=tenant, **{**known, **fields})


def waiting(asked, **fields):
    known = {
        "claim": asked.id,
        "state": ClaimState.WAITING,
        "code": PendingReason.WAITING_FOR_VICTIMS,
        "sentence": "waits until two borrowed GPUs are given back",
        "wanted_replicas": 2,
        "position": 1,
        "eta_ms": NOW + 45_000,
        "eta_assumption": "drains end within their deadline of 30 s",
        "score_terms": (("priority", 100), ("share", 42)),
        "unblocking": Change(
            kind="quota",
            subject=asked.tenant,
            amount_millis=1000,
            sentence="1 more GPU of nominal quota would admit it",
        ),
    }
    return Reason(**{**known, **fields})


def served(asked):
    return Reason(
        claim=asked.id,
        state=ClaimState.SERVED,
        code=None,
        sentence="runs as asked",
        granted_replicas=2,
        wanted_replicas=2,
        rung=0,
    )


def morning(viewer=OPERATOR):
    """Four nodes on which devices are bound, drained, scrubbed, lost; a crisis; a proposal; claims that wait."""
    devices, workers, groups, readings = [], [], [], []
    for node in range(4):
        for slot in range(8):
            _place(node, slot, devices, workers, groups, readings)
    chat, docs = claim("civil/justice", "chat"), claim("civil/justice", "doc-watch", kind=ClaimKind.JOB, model=None)
    trial = claim(
        "civil/justice",
        "chat-canary",
        ladder=(Shape(flavors=("H100-80GB",), gpu_millis=333, variant="int4"),),
        canary=Canary(of=chat.id, weight_percent=15),
    )
    groups.append(replace(next(g for g in groups if g.claim == chat.id), id="gc", claim=trial.id, variant="int4"))
    triage, brief = claim("defence/cyber", "triage"), claim("defence/command", "brief")
    views = (
        ClaimView(claim=chat, reason=served(chat), groups=tuple(g for g in groups if g.claim == chat.id)),
        ClaimView(claim=trial, reason=served(trial), groups=tuple(g for g in groups if g.claim == trial.id)),
        ClaimView(claim=docs, reason=waiting(docs, code=PendingReason.WAITING_FOR_QUOTA, eta_ms=None, position=2)),
        ClaimView(claim=triage, reason=waiting(triage)),
        ClaimView(claim=brief, reason=replace(served(brief), state=ClaimState.DEGRADED, granted_replicas=1)),
    )
    if viewer.tenant:
        views = tuple(view for view in views if view.claim.tenant == viewer.tenant)
    shares = tuple(share(tenant) for tenant in TENANTS if viewer.tenant in {None, tenant})
    operator_only = {
        "approvals": (
            Approval(id="p-7", text="mode heightened for 4 h: exercise", proposer="ana", expires_at_ms=NOW + 3_000_000),
        ),
        "timeline": entries(),
        "gaps": (Gap(kind=GapKind.DEVICE, subject="GPU-n2-5", cause="gpu_is_lost", since_ms=NOW - 60_000),),
        "cordoned": ("n3",),
        "can": frozenset({"cordon", "mode", "approve", "key", "canary"}),
    }
    return Scene(
        viewer=viewer,
        now_ms=NOW,
        observed_at_ms=NOW - 1_000,
        simulated=True,
        mode="crisis",
        declaration=ModeDeclaration(
            mode=OperatingMode.CRISIS,
            declared_at_ms=NOW - 600_000,
            expires_at_ms=NOW + 7_800_000,
            approvers=("ana", "luc"),
            reason="flood in the north",
        ),
        policy_revision="2026-11-20.3",
        shares=shares,
        claims=views,
        flavors=(Flavor(id="H100-80GB", model="NVIDIA H100 80GB HBM3", memory_mib=81_559),),
        nodes=tuple(Node(id=f"n{n}", cpu_millis=64_000, memory_mib=1_048_576) for n in range(4)),
        devices=tuple(devices),
        workers=tuple(workers),
        groups=tuple(groups),
        readings=tuple(readings),
        models=(MISTRAL, UNUSED),
        traffic=(
            VariantLoad(claim=chat.id, variant="fp8", completed=4_812, failed=3, first_p50_ms=184, first_p95_ms=410),
            VariantLoad(claim=trial.id, variant="int4", completed=853, failed=9, first_p50_ms=131, first_p95_ms=305),
        ),
        keys=(Key(prefix="pk-Zk3v", tenant="civil/justice", expires_at_ms=NOW + 5_000_000_000),),
        usage=used(viewer),
        decide_ms=6,
        **(operator_only if viewer.is_operator else {"can": frozenset({"key", "canary"})}),
    )


def used(viewer):
    """Three weeks of two models, busier by the day and quiet on Sundays."""
    return tuple(
        DayUse(
            tenant=tenant,
            model=model,
            day=f"2026-11-{day:02}",
            requests=0 if day % 7 == 1 else 400 + 90 * day,
            prompt_tokens=0 if day % 7 == 1 else 210_000 + 31_000 * day,
            completion_tokens=0 if day % 7 == 1 else 60_000 + 9_000 * day,
            gpu_ms=0 if day % 7 == 1 else 5_400_000 + 300_000 * day,
        )
        for tenant, model in (("civil/justice", "mistral-small-3.2"), ("defence/cyber", "mistral-small-3.2"))
        for day in range(1, 23)
        if viewer.tenant in {None, tenant}
    )


def entries():
    return (
        Entry(
            number=412,
            at_ms=NOW - 4_000,
            actor="decision",
            text="3 moves: 1 scrub device, 2 stop routing",
            whys=("civil/health:summaries gives back (RECLAIM) for defence/cyber:triage",),
        ),
        Entry(number=411, at_ms=NOW - 32_000, actor="ana", text="mode crisis approved: flood in the north"),
        Entry(number=410, at_ms=NOW - 95_000, actor="luc", text="n3 is drained: fan replacement"),
    )


def share(tenant):
    borrowed = 2000 if tenant == "civil/justice" else 0
    lent = 2000 if tenant.startswith("defence") else 0
    return Share(
        entitlement=Entitlement(
            tenant=tenant,
            flavor="H100-80GB",
            guaranteed_millis=4000,
            entitled_millis=6000,
            held_millis=3000 + borrowed,
            demand_millis=3000 + borrowed + (2000 if "cyber" in tenant else 0),
            borrowed_millis=borrowed,
            lent_millis=lent,
        ),
        nominal_millis=6000,
        floor_millis=2000,
    )


def _place(node, slot, devices, workers, groups, readings):
    number = node * 8 + slot
    name, uuid = f"n{node}", f"GPU-n{node}-{slot}"
    domain = DEFENCE if number < 12 else CIVIL
    special = {
        13: {"scrub": ScrubState.SCRUBBING, "domain": CIVIL},
        14: {"scrub": ScrubState.DIRTY, "domain": CIVIL},
        15: {"domain": None},
        22: {"health": DeviceHealth.SUSPECT, "domain": CIVIL},
        27: {"health": DeviceHealth.QUARANTINED, "domain": None},
        28: {"scrub": ScrubState.FAILED, "domain": DEFENCE},
        30: {"domain": None},
        31: {"domain": None},
    }.get(number)
    fields = special or {"domain": domain, "scrub": ScrubState.DIRTY}
    devices.append(
        Device(id=uuid, node=name, flavor="H100-80GB", gpu=uuid, memory_mib=81_000, simulated=True, **fields)
    )
    if special:
        return
    state = {5: WorkerState.STARTING, 12: WorkerState.STOPPING}.get(number, WorkerState.READY)
    workers.append(Worker(id=f"w{number}", domain=domain, node=name, devices=(uuid,), state=state))
    tenant, called = ("defence/command", "brief") if domain is DEFENCE else ("civil/justice", "chat")
    groups.append(
        Group(
            id=f"g{number}",
            claim=f"{tenant}:{called}",
            worker=f"w{number}",
            rung=1,
            variant="fp8",
            devices=(uuid,),
            replicas=2,
            running=2,
            state=GroupState.RUNNING,
            routed=True,
            in_flight=number % 4,
        )
    )
    readings.append(
        Reading(
            device=uuid,
            utilisation_percent=number * 37 % 101,
            memory_used_mib=40_000 + number * 900,
            power_w=300 + number * 9,
            temperature_c=48 + number % 20,
        )
    )


def crowd(at_ms=NOW):
    """As many devices and claims as the console promises to bear, with loads that change each second."""
    second, still = at_ms // 1000, _crowd()
    loads = (Reading(device=d.id, utilisation_percent=(n * 37 + second) % 101) for n, d in enumerate(still.devices))
    return replace(still, now_ms=at_ms, observed_at_ms=at_ms, readings=tuple(loads))


@cache
def _crowd(devices=1_000, claims=5_000):
    base = morning()
    nodes = devices // 8
    many = tuple(
        Device(
            id=f"GPU-{n:03}-{s}",
            node=f"node-{n:03}",
            flavor="H100-80GB",
            gpu=f"GPU-{n:03}-{s}",
            memory_mib=81_000,
            simulated=True,
            domain=DEFENCE if n % 2 else CIVIL,
            scrub=ScrubState.DIRTY,
        )
        for n in range(nodes)
        for s in range(8)
    )
    asked = [claim(TENANTS[n % 4], f"c-{n:04}") for n in range(claims)]
    views = tuple(
        ClaimView(claim=each, reason=waiting(each) if n % 7 == 0 else served(each)) for n, each in enumerate(asked)
    )
    return replace(
        base,
        devices=many,
        claims=views,
        gaps=(),
        cordoned=(),
        workers=tuple(
            Worker(id=f"w-{d.id}", domain=d.domain, node=d.node, devices=(d.id,), state=WorkerState.READY) for d in many
        ),
        groups=(),
        nodes=tuple(Node(id=f"node-{n:03}", cpu_millis=64_000, memory_mib=1_048_576) for n in range(nodes)),
    )
