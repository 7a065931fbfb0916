"""The control plane as a process of this machine, and what it is asked for at the start."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from cluster.client import Client, Problem
from cluster.embedded.files import ensure_token
from cluster.embedded.nodes import Machine
from cluster.embedded.processes import ProcessRecord, ProcessSpec, start
from cluster.ports import Clock
from cluster.settings import PREFIX, Settings
from policies.documents.document import parse_claims, parse_policy
from policies.model.codec import to_plain
from policies.model.units import TenantId
from policies.model.workload import Claim

NAME = "control-plane"
NOT_FOUND = 404
CALL_TIMEOUT_S = 10.0


def start_control(here: Machine, clock: Clock) -> ProcessRecord:
    """Start the control plane unless it runs, and return its record."""
    spec = ProcessSpec(name=NAME, module="cluster.main", arguments=("--platform", "local"))
    return start(here.processes, spec, _environment(here.settings), clock)


def operator(settings: Settings) -> Client:
    """Return a client of the control API, as the operator of this machine."""
    return Client(url=settings.api_url, token=ensure_token(settings.operator_token), timeout_s=CALL_TIMEOUT_S)


def shipped_claims() -> tuple[Claim, ...]:
    """Return the claims that ``up`` applies when there are none."""
    return parse_claims(_profile("claims.yaml"), "claims.yaml")


def apply_policy(client: Client) -> str:
    """Put the shipped policy in force if there is none, and return what was done."""
    if _has_policy(client):
        return "the policy in force stays"
    policy = parse_policy(_profile("default.yaml"), "default.yaml")
    client.call("PUT", "/v1/policy", body=to_plain(policy), headers={"If-None-Match": "*"})
    return f"policy {policy.revision} in force"


def apply_claims(client: Client) -> str:
    """Ask for the shipped claims if there are none, and return what was done."""
    if client.items("/v1/claims"):
        return "the claims that are there stay"
    claims = shipped_claims()
    for claim in claims:
        client.call("PUT", f"/v1/claims/{claim.id}", body=to_plain(claim), headers={"If-None-Match": "*"})
    return f"{len(claims)} claims applied"


def make_keys(client: Client) -> Mapping[TenantId, str]:
    """Make a key for each tenant with nobody below it and no key, and return the new ones: they are shown this once."""
    listed = client.items("/v1/tenants")
    parents = {tenant["parent"] for tenant in listed}
    tenants = {TenantId(tenant["id"]) for tenant in listed if tenant["id"] not in parents}
    known = {key["tenant"] for key in client.items("/v1/keys")}
    return {
        tenant: str(client.call("POST", "/v1/keys", body={"tenant": tenant}).body["key"])
        for tenant in sorted(tenants - known)
    }


def unserved(client: Client) -> tuple[str, ...]:
    """Return, for each claim that no routed group answers for yet, its name and reason."""
    return tuple(
        f"{status['claim']['id']} ({_why(status)})"
        for status in client.items("/v1/claims")
        if not status["claim"]["suspended"]
        and status["claim"]["desired_replicas"] > 0
        and not any(group["routed"] and group["running"] for group in status["groups"])
    )


def _why(status: Mapping[str, Any]) -> str:
    reason = status.get("reason")
    return str(reason["sentence"]) if reason else "not decided yet"


def _has_policy(client: Client) -> bool:
    try:
        client.get("/v1/policy")
    except Problem as problem:
        if problem.status in {NOT_FOUND, 503} or problem.code == "no_policy":
            return False
        raise
    return True


def _profile(name: str) -> str:
    return (files("policies") / "profiles" / name).read_text(encoding="utf-8")


def _environment(settings: Settings) -> Mapping[str, str]:
    """Return the settings of this command as variables: the control plane must see the same platform."""
    from dataclasses import fields

    return {PREFIX + field.name.upper(): str(getattr(settings, field.name)) for field in fields(settings)}
