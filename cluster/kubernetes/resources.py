"""Claims and tenants as custom resources, to our nouns and back. Pure."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from policies.model.codec import digest
from policies.model.decision import ClaimState, Reason
from policies.model.policy import Policy
from policies.model.tenancy import GatewayLimits, Quota, Tenant
from policies.model.units import UNLIMITED, ClaimId, FlavorId, ModelId, SecurityDomain, TenantId
from policies.model.workload import Claim, ClaimKind, ModelAccess, Shape

Object = dict[str, Any]


def claim_of(tenant: TenantId, name: str, spec: Object, created: str) -> Claim:
    """Return the claim that the resource describes; its ladder is empty where the model's is meant."""
    replicas = spec.get("replicas") or {}
    least, most = int(replicas.get("min", 1)), int(replicas.get("max", 1))
    return Claim(
        id=ClaimId(f"{tenant}:{name}"),
        tenant=tenant,
        kind=ClaimKind(spec["kind"]),
        model=ModelId(spec["model"]) if spec.get("model") else None,
        ladder=tuple(_shape(each) for each in spec.get("ladder") or ()),
        min_replicas=least,
        desired_replicas=int(replicas.get("desired", max(least, 1) if most else least)),
        max_replicas=most,
        priority_class=spec.get("priorityClass", "standard"),
        submitted_at_ms=milliseconds(created),
        deadline_ms=milliseconds(spec["deadline"]) if spec.get("deadline") else None,
        duration_s=spec.get("durationSeconds"),
        expires_at_ms=milliseconds(spec["expires"]) if spec.get("expires") else None,
        suspended=bool(spec.get("suspended")),
        spread=bool(spec.get("spread")),
        access=_access(spec.get("access") or {}),
    )


def _access(spec: Object) -> ModelAccess:
    return ModelAccess(
        aliases=tuple(spec.get("aliases") or ()),
        shared_with=tuple(TenantId(each) for each in spec.get("sharedWith") or ()),
        fallback=ModelId(spec["fallback"]) if spec.get("fallback") else None,
    )


def tenant_of(spec: Object) -> Tenant:
    """Return the tenant that the resource describes."""
    path = TenantId(spec["path"])
    parent, _, _ = path.rpartition("/")
    quotas = spec.get("quotas") or ()
    return Tenant(
        id=path,
        domain=SecurityDomain(path.split("/")[0]),
        parent=TenantId(parent) if parent else None,
        quotas=tuple(
            Quota(
                flavor=FlavorId(each["flavor"]),
                nominal_millis=each["nominalMillis"],
                lending_limit_millis=each.get("lendingLimitMillis", UNLIMITED),
                borrowing_limit_millis=each.get("borrowingLimitMillis", UNLIMITED),
            )
            for each in quotas
        ),
        fair_weight=spec.get("fairWeight", 1),
        floor_millis=tuple((FlavorId(e["flavor"]), e["floorMillis"]) for e in quotas if "floorMillis" in e),
        reclaim_deadline_s=spec.get("reclaimDeadlineSeconds", 120),
        limits=_limits(spec.get("limits") or {}),
    )


def _limits(spec: Object) -> GatewayLimits:
    return GatewayLimits(
        requests_per_minute=spec.get("requestsPerMinute"),
        tokens_per_minute=spec.get("tokensPerMinute"),
        tokens_per_day=spec.get("tokensPerDay"),
        tokens_per_month=spec.get("tokensPerMonth"),
    )


def with_tenant(policy: Policy, tenant: Tenant) -> Policy:
    """Return the policy with the tenant in it, in the place of an older one of the same path."""
    tenants = tuple(tenant if each.id == tenant.id else each for each in policy.tenants)
    return _revised(policy, tenants if tenant in tenants else (*tenants, tenant))


def without_tenant(policy: Policy, tenant: TenantId) -> Policy:
    """Return the policy without the tenant."""
    return _revised(policy, tuple(each for each in policy.tenants if each.id != tenant))


def _revised(policy: Policy, tenants: tuple[Tenant, ...]) -> Policy:
    if tenants == policy.tenants:
        return policy
    changed = replace(policy, tenants=tenants, revision="")
    return replace(changed, revision=f"kubernetes-{digest(changed)[:12]}")


def claim_status(reason: Reason, generation: int, old: Object, now_ms: int) -> Object:
    """Return the status of a claim as its reason says it; nothing but the reason's own words for its tenant."""
    served = reason.state is ClaimState.SERVED
    status: Object = {
        "observedGeneration": generation,
        "claim": reason.claim,
        "state": reason.state.value,
        "sentence": reason.sentence,
        "grantedReplicas": reason.granted_replicas,
        "wantedReplicas": reason.wanted_replicas,
        "reason": reason.code.value if reason.code else None,
        "position": reason.position,
        "rung": reason.rung,
        "eta": timestamp(reason.eta_ms) if reason.eta_ms is not None else None,
        "etaAssumption": reason.eta_assumption or None,
    }
    has_place = reason.granted_replicas > 0
    states = {
        "Admitted": (has_place, _camel(reason), reason.sentence),
        "Ready": (served, _camel(reason), reason.sentence),
    }
    return status | {"conditions": conditions(states, generation, old, now_ms)}


def refused_status(claim: str, sentence: str, generation: int, old: Object, now_ms: int) -> Object:
    """Return the status of a claim that makes no sense; nothing is held for it."""
    states = {"Admitted": (False, "Refused", sentence), "Ready": (False, "Refused", sentence)}
    return {
        "observedGeneration": generation,
        "claim": claim,
        "state": "refused",
        "sentence": sentence,
        "reason": None,
        "conditions": conditions(states, generation, old, now_ms),
    }


def conditions(states: dict[str, tuple[bool, str, str]], generation: int, old: Object, now_ms: int) -> list[Object]:
    """Return conditions; the time of the last change stays while True, False or Unknown does."""
    before = {each["type"]: each for each in old.get("conditions") or ()}
    found = []
    for kind, (holds, reason, message) in states.items():
        status = "True" if holds else "False"
        kept = before.get(kind, {})
        since = kept["lastTransitionTime"] if kept.get("status") == status else timestamp(now_ms)
        condition = {"type": kind, "status": status, "reason": reason, "message": message[:1000]}
        found.append(condition | {"observedGeneration": generation, "lastTransitionTime": since})
    return found


def without_nulls(status: Object) -> Object:
    """Return the status as the API server keeps it."""
    return {key: value for key, value in status.items() if value is not None}


def event_of(claim: Object, reason: Reason, now_ms: int) -> Object:
    """Return the event that tells the claim's owner of a new reason."""
    meta = claim["metadata"]
    at = timestamp(now_ms)
    kind = "Normal" if reason.state in {ClaimState.SERVED, ClaimState.DEGRADED} else "Warning"
    return {
        "metadata": {"generateName": f"{meta['name'][:50]}.", "namespace": meta["namespace"]},
        "involvedObject": {
            "apiVersion": "partage.lu/v1alpha1",
            "kind": "Claim",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta.get("uid", ""),
        },
        "reason": _camel(reason),
        "message": reason.sentence[:1000],
        "type": kind,
        "source": {"component": "partage"},
        "reportingComponent": "partage.lu/control-plane",
        "reportingInstance": "partage",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


def milliseconds(text: str) -> int:
    """Return a time of the API in milliseconds since the epoch; 0 for an empty text."""
    return int(dt.datetime.fromisoformat(text).timestamp() * 1000) if text else 0


def timestamp(at_ms: int) -> str:
    """Return the time as the API writes it."""
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shape(spec: Object) -> Shape:
    return Shape(
        flavors=tuple(FlavorId(flavor) for flavor in spec.get("flavors") or ()),
        devices=spec.get("devices", 1),
        gpu_millis=spec.get("gpuMillis", 1000),
        memory_mib=spec.get("memoryMiB", 0),
        cpu_millis=spec.get("cpuMillis", 0),
        host_memory_mib=spec.get("hostMemoryMiB", 0),
        concurrency=spec.get("concurrency", 1),
    )


def _camel(reason: Reason) -> str:
    words = reason.code.value if reason.code else reason.state.value
    return "".join(word.capitalize() for word in words.lower().split("_"))
