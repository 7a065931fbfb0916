"""From the API's answers to a scene: two ways, for who sees all and for who sees their own."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar

from cluster.client import Client, Problem
from cluster.console.scene import Approval, ClaimView, Entry, Key, Reading, Scene, Share, Viewer
from cluster.usage import DayUse
from policies.explaining.explain import not_yet
from policies.model.catalogue import Model, Variant
from policies.model.codec import from_plain
from policies.model.decision import Entitlement, Reason
from policies.model.inventory import Device, Group, Worker
from policies.model.policy import ModeDeclaration
from policies.model.routing import VariantLoad
from policies.model.snapshot import Snapshot
from policies.model.units import TenantId
from policies.model.workload import Claim

Noun = TypeVar("Noun")
EVENTS_SHOWN = 60
REASONS_SHOWN = 6
QUIET = frozenset({"memory.kept"})
"""Events that say nothing to a person."""


def operator_scene(client: Client, viewer: Viewer, now_ms: int) -> Scene:
    """Return everything, in the fewest requests."""
    status = client.get("/v1/status")
    snapshot = from_plain(Snapshot, client.get("/v1/snapshot"))
    reasons = {reason.claim: reason for reason in _all(client, "/v1/reasons", Reason)}
    modes = _optional(client, "/v1/modes", {"declaration": client.get("/v1/policy").get("declaration"), "pending": []})
    declared = modes["declaration"]
    claims = tuple(
        ClaimView(
            claim=claim,
            reason=reasons.get(claim.id) or not_yet(claim),
            groups=tuple(group for group in snapshot.groups if group.claim == claim.id),
        )
        for claim in snapshot.claims
    )
    return Scene(
        viewer=viewer,
        now_ms=now_ms,
        observed_at_ms=now_ms - int(status["turn_age_ms"]),
        simulated=bool(status["simulated"]),
        trouble=str(status["trouble"]),
        mode=str(status["mode"]),
        declaration=from_plain(ModeDeclaration, declared) if declared else None,
        policy_revision=str(status["policy_revision"]),
        decide_ms=int(status["decide_ms"]),
        shares=_shares(client),
        claims=claims,
        flavors=snapshot.flavors,
        nodes=snapshot.nodes,
        devices=snapshot.devices,
        workers=snapshot.workers,
        groups=snapshot.groups,
        gaps=snapshot.gaps,
        cordoned=tuple(str(each["subject"]) for each in client.get("/v1/cordons")),
        models=_models(client, snapshot.claims),
        usage=_usage(client),
        traffic=snapshot.traffic,
        timeline=_timeline(client),
        keys=_keys(client),
        approvals=tuple(_approval(each) for each in modes["pending"]),
        readings=tuple(from_plain(Reading, each) for each in _optional(client, "/v1/readings", [])),
        can=frozenset({"cordon", "key", "mode", "approve", "canary"}),
    )


def _approval(declared: dict[str, Any]) -> Approval:
    text = f"{declared['mode']}, {declared['hours']} h: {declared['reason']}"
    return Approval(
        id=str(declared["id"]),
        text=text,
        proposer=str(declared["declared_by"]),
        expires_at_ms=int(declared["lapses_at_ms"]),
    )


def tenant_scene(client: Client, viewer: Viewer, now_ms: int) -> Scene:
    """Return what belongs to the viewer's tenant."""
    statuses = client.items("/v1/claims")
    claims = tuple(
        ClaimView(
            claim=from_plain(Claim, each["claim"]),
            reason=from_plain(Reason, each["reason"]),
            groups=tuple(from_plain(Group, group) for group in each["groups"]),
        )
        for each in statuses
    )
    devices = _all(client, "/v1/devices", Device)
    return Scene(
        viewer=viewer,
        now_ms=now_ms,
        observed_at_ms=now_ms,
        simulated=any(device.simulated for device in devices),
        shares=_shares(client),
        claims=claims,
        devices=devices,
        workers=_all(client, "/v1/workers", Worker),
        groups=tuple(group for view in claims for group in view.groups),
        models=_models(client, tuple(view.claim for view in claims)),
        usage=_usage(client),
        traffic=tuple(from_plain(VariantLoad, load) for each in statuses for load in each["traffic"]),
        timeline=_timeline(client),
        keys=_keys(client),
        can=frozenset({"key", "canary"}),
    )


def _models(client: Client, claims: tuple[Claim, ...]) -> tuple[Model, ...]:
    """Return the catalogue; where the control plane has none, the models that claims ask for."""
    return _all(client, "/v1/models", Model) or models_of(claims)


def _usage(client: Client) -> tuple[DayUse, ...]:
    return _all(client, "/v1/usage", DayUse)


def models_of(claims: tuple[Claim, ...]) -> tuple[Model, ...]:
    """Return the models that claims ask for, with the variants of their ladders, best first; figures are not known."""
    ladders: dict[str, dict[str, list[Any]]] = {}
    for claim in claims:
        for shape in claim.ladder if claim.model else ():
            ladders.setdefault(str(claim.model), {}).setdefault(str(shape.variant or "-"), []).append(shape)
    return tuple(
        from_plain(
            Model,
            {
                "id": model,
                "context_tokens": 0,
                "variants": tuple(_variant(name, found) for name, found in rungs.items()),
            },
        )
        for model, rungs in sorted(ladders.items())
    )


def _variant(name: str, shapes: list[Any]) -> Variant:
    weights = max(shape.memory_mib for shape in shapes)
    return from_plain(
        Variant,
        {
            "id": name,
            "engine": "",
            "precision": "",
            "weights": "",
            "weights_mib": weights,
            "shapes": tuple(dict.fromkeys(shapes)),
            "cold_start_ms": 0,
        },
    )


def _all(client: Client, path: str, noun: type[Noun]) -> tuple[Noun, ...]:
    return tuple(from_plain(noun, item) for item in client.items(path))


def _optional(client: Client, path: str, absent: Any) -> Any:
    """Return what the control plane says, or ``absent`` from one that does not know the path yet."""
    try:
        return client.get(path)
    except Problem as problem:
        if problem.status != HTTPStatus.NOT_FOUND:
            raise
        return absent


def _shares(client: Client) -> tuple[Share, ...]:
    return tuple(
        Share(
            entitlement=from_plain(Entitlement, item["entitlement"]),
            nominal_millis=int(item["nominal_millis"]),
            floor_millis=int(item["floor_millis"]),
        )
        for item in client.items("/v1/shares")
    )


def _keys(client: Client) -> tuple[Key, ...]:
    return tuple(
        Key(
            prefix=str(item["prefix"]),
            tenant=TenantId(item["tenant"]),
            expires_at_ms=item["expires_at_ms"],
            models=tuple(item["models"]),
        )
        for item in client.items("/v1/keys")
    )


def _timeline(client: Client) -> tuple[Entry, ...]:
    found = client.get("/v1/events", limit=EVENTS_SHOWN, newest="true")["items"]
    return tuple(_entry(event) for event in reversed(found) if event["kind"] not in QUIET)


def _entry(event: dict[str, Any]) -> Entry:
    """Return the event in words: what, to whom, and the reasons that its body gives."""
    body = event.get("body") or {}
    whys = [str(each) for each in _whys(body)][:REASONS_SHOWN]
    text = f"{str(event['kind']).replace('.', ' ').replace('_', ' ')}: {event['subject']}"
    return Entry(
        number=int(event["seq"]), at_ms=int(event["at_ms"]), actor=str(event["actor"]), text=text, whys=tuple(whys)
    )


def _action(action: dict[str, Any]) -> str:
    """Return what an action of a plan does, to what, and why, in a few words."""
    whom = next((action[key] for key in ("claim", "group", "worker", "device") if action.get(key)), "")
    what = str(action.get("kind", "")).replace("_", " ")
    why = f" ({action['reason']})" if action.get("reason") else ""
    return f"{what} {whom}{why}".strip()


def _whys(body: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for key in ("reason", "reasons", "actions", "evictions", "moves"):
        value = body.get(key)
        if isinstance(value, list):
            found += [_action(each) if isinstance(each, dict) else each for each in value]
        elif value:
            found.append(value)
    return found
