"""The tenants' own way: Claims and Tenants as custom resources, kept in step with the registry by kopf.

Whose a claim is follows from the namespace that it lies in, never from what it says. Statuses are written from the
decisions of the loop, a claim's only when its words change.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import kopf

from cluster.api.claim_checks import accepted
from cluster.api.problems import ApiRefusal as ClaimRefusal
from cluster.kubernetes import resources
from cluster.kubernetes.api import Api
from cluster.kubernetes.kinds import CLAIMS, EVENTS, TENANTS, Kind
from cluster.kubernetes.refusals import Absent, ApiRefusal
from cluster.ports import Clock, Journal, Registry
from cluster.refusals import NoPolicy, NotFound, Refusal
from policies.documents.soundness import faults_of_policy
from policies.explaining.queueing import telling
from policies.explaining.releasing import releasable
from policies.model.catalogue import Model
from policies.model.decision import Decision, Reason
from policies.model.naming import tenant_of
from policies.model.policy import Policy
from policies.model.units import ClaimId, TenantId
from policies.model.workload import Claim

log = logging.getLogger(__name__)
Object = dict[str, Any]
PREFIX = "partage.lu"
RETRY_S = 2
RESTART_S = 5
"""Pause before a controller that ended by itself is begun again: what it missed it reads then."""
STOP_TIMEOUT_S = 10
MOVED_ON_EVERY_MS = 60_000
"""A status in which only the claim's place in the queue, or when its turn comes, moved on is written this seldom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What the controller writes to and reads from."""

    api: Api
    clock: Clock
    journal: Journal
    registry: Registry
    models: Callable[[], tuple[Model, ...]]
    wake: Callable[[], None]
    login: Callable[..., Any]
    """Returns how to reach the API server, as kopf wants it; called again when a token has run out."""
    follow: Callable[..., Awaitable[None]] = kopf.operator
    """Follows the resources with the handlers that it is given."""
    restart_s: float = RESTART_S


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What was written into a claim's status, and when."""

    words: tuple[Any, ...]
    moving: tuple[Any, ...]
    generation: int
    at_ms: int

    def is_told_by(self, before: _Said | None) -> bool:
        """Say whether what was written before still tells it, or is too young for another place in the queue."""
        if before is None or (before.words, before.generation) != (self.words, self.generation):
            return False
        return before.moving == self.moving or self.at_ms - before.at_ms < MOVED_ON_EVERY_MS


class Controller:
    """Runs kopf in a thread and writes statuses as decisions come."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._known: dict[ClaimId, Object] = {}
        self._said: dict[ClaimId, _Said] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)

    def start(self) -> None:
        """Begin to follow the resources."""
        self._thread.start()

    def stop(self) -> None:
        """End; resources keep their state, and the next leader goes on from it."""
        self._stop.set()
        self._thread.join(STOP_TIMEOUT_S)

    def publish(self, decision: Decision, claims: Sequence[Claim] = ()) -> None:
        """Write the status of each claim whose reason changed. A refusal is logged and tried with the next decision.

        Its tenant reads it: it says nothing that rests on others' claims. Places in a queue move on with nearly every
        decision; one that does no more is written once a minute.
        """
        tell, now = telling(decision, claims), self._office.clock.now_ms()
        for whole in decision.reasons:
            with self._lock:
                claim = self._known.get(whole.claim)
            if claim is None:
                continue
            reason = releasable(tell(whole), partial(_are_of_one, whole.claim))
            generation = int(claim["metadata"]["generation"])
            saying = _Said(words=_words(reason), moving=_moving(reason), generation=generation, at_ms=now)
            if saying.is_told_by(self._said.get(reason.claim)):
                continue
            try:
                self._tell(claim, reason, generation)
                self._said[reason.claim] = saying
            except ApiRefusal as refused:
                log.warning("the status of %s was not written: %s", reason.claim, refused)

    def _tell(self, claim: Object, reason: Reason, generation: int) -> None:
        meta, now = claim["metadata"], self._office.clock.now_ms()
        try:
            seen = self._office.api.get(CLAIMS, meta["namespace"], meta["name"])
        except Absent:
            return
        old = seen.get("status") or {}
        status = resources.claim_status(reason, generation, old, now)
        if resources.without_nulls(status) == old:
            return
        self._office.api.merge(CLAIMS, meta["namespace"], meta["name"], {"status": status}, "status")
        if old.get("state") != status["state"] or old.get("reason") != resources.without_nulls(status).get("reason"):
            self._office.api.create(EVENTS, meta["namespace"], resources.event_of(claim, reason, now))

    def take_claim(self, claim: Object, tenant: TenantId) -> None:
        """Put the claim into the registry, or say in its status why not. Raises ``Refusal`` for what may pass."""
        meta, office = claim["metadata"], self._office
        noun = resources.claim_of(tenant, meta["name"], claim["spec"], meta.get("creationTimestamp", ""))
        try:
            checked = accepted(noun, noun.id, office.journal.policy(), office.models(), office.journal.claims())
        except ClaimRefusal as refused:
            self._forget(noun.id)
            self._refuse(claim, noun.id, str(refused))
            return
        office.registry.put_claim(checked, expected_generation=None)
        with self._lock:
            self._known[noun.id] = claim
        office.wake()

    def drop_claim(self, claim: ClaimId) -> None:
        """Take the claim out of the registry; its groups drain."""
        self._forget(claim)
        try:
            self._office.registry.delete_claim(claim)
        except NotFound:
            return
        self._office.wake()

    def take_tenant(self, tenant: Object) -> None:
        """Put the tenant into the policy in force; what would make the policy unsound is refused in its status."""
        office = self._office
        changed = resources.with_tenant(office.journal.policy(), resources.tenant_of(tenant["spec"]))
        if fault := _first_fault(changed):
            self._conclude(TENANTS, tenant, ("Accepted", False, "Unsound", fault))
            return
        office.registry.put_policy(changed)
        self._conclude(TENANTS, tenant, ("Accepted", True, "InForce", f"in force as policy {changed.revision}"))
        office.wake()

    def drop_tenant(self, tenant: TenantId) -> None:
        """Take the tenant out of the policy. Raises ``TenantInUse`` while it has claims."""
        held = [claim.id for claim in self._office.journal.claims() if claim.tenant == tenant]
        if held:
            raise TenantInUse(tenant, len(held))
        self._office.registry.put_policy(resources.without_tenant(self._office.journal.policy(), tenant))
        self._office.wake()

    def _forget(self, claim: ClaimId) -> None:
        with self._lock:
            self._known.pop(claim, None)
        self._said.pop(claim, None)

    def _refuse(self, claim: Object, noun: ClaimId, sentence: str) -> None:
        meta, now = claim["metadata"], self._office.clock.now_ms()
        status = resources.refused_status(noun, sentence, meta["generation"], claim.get("status") or {}, now)
        self._office.api.merge(CLAIMS, meta["namespace"], meta["name"], {"status": status}, "status")

    def _conclude(self, kind: Kind, obj: Object, said: tuple[str, bool, str, str]) -> None:
        meta = obj["metadata"]
        name, holds, reason, message = said
        now = self._office.clock.now_ms()
        states = {name: (holds, reason, message)}
        found = resources.conditions(states, meta["generation"], obj.get("status") or {}, now)
        status = {"observedGeneration": meta["generation"], "conditions": found}
        self._office.api.merge(kind, meta.get("namespace"), meta["name"], {"status": status}, "status")

    def _run(self) -> None:
        """Follow the resources until asked to stop; what ends by itself is begun again."""
        while not self._stop.is_set():
            try:
                asyncio.run(self._operator())
            except Exception:
                log.exception("claims are not followed for %s s: the controller broke off", self._office.restart_s)
            else:
                if not self._stop.is_set():
                    log.error("claims are not followed for %s s: the controller ended", self._office.restart_s)
            self._stop.wait(self._office.restart_s)

    async def _operator(self) -> None:
        await self._office.follow(
            registry=self._handlers(),
            settings=_settings(),
            clusterwide=True,
            standalone=True,
            stop_flag=self._stop,
        )

    def _handlers(self) -> Any:
        registry = kopf.OperatorRegistry()
        claims: dict[str, Any] = {
            "group": CLAIMS.group,
            "version": CLAIMS.version,
            "plural": CLAIMS.plural,
            "registry": registry,
        }
        tenants: dict[str, Any] = {
            "group": TENANTS.group,
            "version": TENANTS.version,
            "plural": TENANTS.plural,
            "registry": registry,
        }
        on_claim, on_gone, on_tenant, on_tenant_gone = self._bound()
        kopf.on.login(registry=registry, backoff=RETRY_S)(self._office.login)
        kopf.index(**tenants, id="tenant_by_namespace")(_namespace_of)
        for cause in (kopf.on.resume, kopf.on.create, kopf.on.update):
            cause(**claims, id="claim", field="spec")(on_claim)
            cause(**tenants, id="tenant", field="spec")(on_tenant)
        kopf.on.delete(**claims, id="claim-gone")(on_gone)
        kopf.on.delete(**tenants, id="tenant-gone")(on_tenant_gone)
        return registry

    def _bound(self) -> tuple[Any, Any, Any, Any]:
        """Return the handlers; kopf passes each the arguments that it names."""
        return self._on_claim, self._on_claim_gone, self._on_tenant, self._on_tenant_gone

    def _on_claim(self, body: Any, namespace: str | None, tenant_by_namespace: Any, **_: Any) -> None:
        found = list(tenant_by_namespace.get(namespace, []))
        if len(found) != 1:
            what = "no tenant has" if not found else "several tenants have"
            raise kopf.TemporaryError(
                f"{what} the namespace {namespace!r}; one Tenant resource names it", delay=RETRY_S
            )
        with _passing_refusals():
            if found[0] not in {tenant.id for tenant in self._office.journal.policy().tenants}:
                raise kopf.TemporaryError(f"tenant {found[0]} is not in force yet", delay=RETRY_S)
            self.take_claim(_plain(body), TenantId(found[0]))

    def _on_claim_gone(self, namespace: str | None, name: str, status: Any, tenant_by_namespace: Any, **_: Any) -> None:
        found = list(tenant_by_namespace.get(namespace, []))
        claim = (status or {}).get("claim") or (f"{found[0]}:{name}" if found else "")
        with _passing_refusals():
            self.drop_claim(ClaimId(claim))

    def _on_tenant(self, body: Any, **_: Any) -> None:
        with _passing_refusals():
            self.take_tenant(_plain(body))

    def _on_tenant_gone(self, spec: Any, **_: Any) -> None:
        with _passing_refusals():
            self.drop_tenant(TenantId(spec["path"]))


class TenantInUse(Refusal):
    """A tenant is to go while it has claims."""

    code = "tenant_in_use"

    def __init__(self, tenant: TenantId, claims: int) -> None:
        super().__init__(tenant, claims)
        self.tenant, self.claims = tenant, claims

    def __str__(self) -> str:
        return f"tenant {self.tenant} has {self.claims} claims; delete these first"


class _passing_refusals:  # noqa: N801 - reads as a statement
    """Turns refusals that may pass into a later try."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Refusal | ApiRefusal):
            raise kopf.TemporaryError(f"{error.code}: {error}", delay=RETRY_S) from error


def _namespace_of(spec: Any, **_: Any) -> dict[str, str] | None:
    return {spec["namespace"]: spec["path"]} if spec.get("namespace") else None


def _are_of_one(claim: ClaimId, other: ClaimId) -> bool:
    return tenant_of(claim) == tenant_of(other)


def _words(reason: Reason) -> tuple[Any, ...]:
    """Return what the owner reads of a reason, without what moves on by itself."""
    return (reason.state, reason.code, reason.sentence, reason.granted_replicas, reason.rung)


def _moving(reason: Reason) -> tuple[Any, ...]:
    """Return the place in the queue and the minute in which its turn comes."""
    return (reason.position, None if reason.eta_ms is None else reason.eta_ms // 60_000)


def _first_fault(policy: Policy) -> str:
    for path, fault in faults_of_policy(policy):
        return f"/{'/'.join(str(part) for part in path)}: {fault}"
    return ""


def _plain(body: Any) -> Object:
    return {key: dict(value) if hasattr(value, "items") else value for key, value in dict(body).items()}


def _settings() -> Any:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.finalizer = f"{PREFIX}/claimed"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=PREFIX, key="last-handled")
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    settings.networking.request_timeout = 15
    settings.execution.max_workers = 4
    return settings


__all__ = ["Controller", "NoPolicy", "Office", "TenantInUse"]
