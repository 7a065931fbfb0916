"""Whether a claim makes sense under the policy in force. Not fitting is a Reason later, never an error here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from cluster.api.problems import ApiRefusal
from policies.canary import faults_of_canary
from policies.model.catalogue import Model
from policies.model.policy import Policy
from policies.model.workload import Claim, ClaimKind, Job, ModelAccess, Shape

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
REPLICAS_MAX = 10_000
RUNGS_MAX = 64
ALIASES_MAX = 16
ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
DEVICES_MAX = 1_024
MEMORY_MAX_MIB = 16_777_216
YEAR_S = 366 * 86_400
WORDS_MAX, WORD_MAX = 256, 32_768
"""Of a job's command, and of its environment: words, and characters of each."""
ATTEMPTS_MAX = 100
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
OURS = ("PARTAGE_", "CUDA_VISIBLE_DEVICES")
"""Beginnings of names that the platform gives to a job itself."""


def accepted(
    claim: Claim, claim_id: str, policy: Policy, models: tuple[Model, ...], known: tuple[Claim, ...] = ()
) -> Claim:
    """Return the claim, its empty ladder filled from the catalogue. Raises ``invalid`` with every fault at once.

    ``known`` are the claims there are: a canary names one of them.
    """
    filled = replace(claim, ladder=_ladder(claim, models))
    found = chain(_faults(filled, claim_id, policy, models), faults_of_canary(filled, known))
    faults = [{"pointer": pointer, "detail": detail} for pointer, detail in found]
    if faults:
        first = faults[0]
        raise ApiRefusal("invalid", f"{first['pointer']}: {first['detail']}", errors=faults)
    return filled


def _ladder(claim: Claim, models: tuple[Model, ...]) -> tuple[Shape, ...]:
    if claim.ladder or claim.kind is not ClaimKind.SERVING:
        return claim.ladder
    return next((model.ladder() for model in models if model.id == claim.model), ())


def _faults(claim: Claim, claim_id: str, policy: Policy, models: tuple[Model, ...]) -> Iterator[tuple[str, str]]:
    tenant, _, name = claim.id.partition(":")
    if claim.id != claim_id:
        yield "/id", f"the claim is called {claim.id!r}, the address says {claim_id!r}"
    if tenant != claim.tenant or not NAME.fullmatch(name):
        yield "/id", f"a claim of {claim.tenant!r} is called '{claim.tenant}:<name>', name as in {NAME.pattern}"
    if claim.tenant not in {known.id for known in policy.tenants}:
        yield "/tenant", f"the policy knows no tenant {claim.tenant!r}"
    if claim.priority_class not in {known.name for known in policy.priority_classes}:
        known = ", ".join(sorted(found.name for found in policy.priority_classes))
        yield "/priority_class", f"{claim.priority_class!r} is none of {known}"
    yield from _replica_faults(claim)
    yield from _model_faults(claim, models)
    yield from _access_faults(claim, policy, models)
    yield from _ladder_faults(claim)
    yield from _job_faults(claim)


def _replica_faults(claim: Claim) -> Iterator[tuple[str, str]]:
    if not 0 <= claim.min_replicas <= claim.desired_replicas <= claim.max_replicas <= REPLICAS_MAX:
        yield "/min_replicas", f"replicas need 0 <= min <= desired <= max <= {REPLICAS_MAX}"
    if claim.max_replicas < 1:
        yield "/max_replicas", "a claim asks for at least one replica; delete it or suspend it instead"
    if claim.duration_s is not None and not 0 < claim.duration_s <= YEAR_S:
        yield "/duration_s", f"a duration lies between 1 and {YEAR_S} s"
    if claim.deadline_ms is not None and not 0 < claim.deadline_ms < 2**53:
        yield "/deadline_ms", "a deadline is a time in milliseconds since 1970"
    if claim.expires_at_ms is not None and not 0 < claim.expires_at_ms < 2**53:
        yield "/expires_at_ms", "an end is a time in milliseconds since 1970"


def _model_faults(claim: Claim, models: tuple[Model, ...]) -> Iterator[tuple[str, str]]:
    if claim.kind is ClaimKind.SERVING and claim.model is None:
        yield "/model", "a serving claim names a model"
    known = {model.id for model in models}
    if claim.model is not None and known and claim.model not in known:
        yield "/model", f"the catalogue has no model {claim.model!r}; it has {', '.join(sorted(known))}"


def _access_faults(claim: Claim, policy: Policy, models: tuple[Model, ...]) -> Iterator[tuple[str, str]]:
    access, known = claim.access, {model.id for model in models}
    if access != ModelAccess() and claim.kind is not ClaimKind.SERVING:
        yield "/access", "only a serving claim has a model that others could call"
    if len(access.aliases) > ALIASES_MAX:
        yield "/access/aliases", f"at most {ALIASES_MAX} aliases, not {len(access.aliases)}"
    for index, alias in enumerate(access.aliases):
        if not ALIAS.fullmatch(alias):
            yield f"/access/aliases/{index}", f"an alias is letters, digits and . _ : / - as in {ALIAS.pattern}"
        if alias in known:
            yield f"/access/aliases/{index}", f"{alias!r} is a model of the catalogue; its name cannot mean another"
    domains = {tenant.id: tenant.domain for tenant in policy.tenants}
    for index, tenant in enumerate(access.shared_with):
        if tenant not in domains:
            yield f"/access/shared_with/{index}", f"the policy knows no tenant {tenant!r}"
        elif domains[tenant] is not domains.get(claim.tenant):
            yield (
                f"/access/shared_with/{index}",
                f"{tenant} is of the other domain; models are shared within one",
            )
    if access.fallback is not None and (access.fallback == claim.model or (known and access.fallback not in known)):
        yield "/access/fallback", f"{access.fallback!r} is no other model of the catalogue"


def _ladder_faults(claim: Claim) -> Iterator[tuple[str, str]]:
    if not 1 <= len(claim.ladder) <= RUNGS_MAX:
        yield "/ladder", f"a ladder has 1 to {RUNGS_MAX} shapes, this one {len(claim.ladder)}"
    for rung, shape in enumerate(claim.ladder):
        if not 1 <= shape.gpu_millis <= 1000:
            yield f"/ladder/{rung}/gpu_millis", "a share of a device lies between 1 and 1000 thousandths"
        if not 1 <= shape.devices <= DEVICES_MAX or (shape.devices > 1 and shape.gpu_millis != 1000):
            yield f"/ladder/{rung}/devices", f"1 to {DEVICES_MAX} devices; whole ones if more than one"
        if not 0 <= shape.memory_mib <= MEMORY_MAX_MIB:
            yield f"/ladder/{rung}/memory_mib", f"memory lies between 0 and {MEMORY_MAX_MIB} MiB"
        if shape.concurrency < 1:
            yield f"/ladder/{rung}/concurrency", "a replica answers at least one request at once"


def _job_faults(claim: Claim) -> Iterator[tuple[str, str]]:
    job = claim.job
    if job is None:
        return
    if claim.kind is not ClaimKind.JOB:
        yield "/job", "only a claim of the kind job has a program"
    if claim.max_replicas != 1 or claim.min_replicas != 1:
        yield "/max_replicas", "a job with a program runs once: ask for several devices in its shape"
    if not job.command or not job.command[0]:
        yield "/job/command", "a command has a program and its arguments, one word each"
    if not 1 <= job.attempts <= ATTEMPTS_MAX:
        yield "/job/attempts", f"a job is tried 1 to {ATTEMPTS_MAX} times in a row"
    for name, folder in (("folder", job.folder), ("checkpoint", job.checkpoint)):
        if folder and not folder.startswith("/"):
            yield f"/job/{name}", "a folder is named from the root"
    yield from _word_faults(job)


def _word_faults(job: Job) -> Iterator[tuple[str, str]]:
    values = [value for _, value in job.environment]
    if len(job.command) > WORDS_MAX or len(job.environment) > WORDS_MAX:
        yield "/job", f"a command and an environment have at most {WORDS_MAX} words"
    if any(len(word) > WORD_MAX or "\0" in word for word in (*job.command, *values, job.folder, job.checkpoint)):
        yield "/job", f"a word has at most {WORD_MAX} characters, and none of them is NUL"
    for index, (name, _) in enumerate(job.environment):
        if not VARIABLE.fullmatch(name) or name.startswith(OURS):
            yield f"/job/environment/{index}", f"{name[:64]!r} is no name of a variable, or one that the platform gives"
