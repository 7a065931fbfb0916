"""Journal, ledger and registry in memory: survives a simulated crash because the simulation keeps the object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cluster.custody import after_scrub, refuse_binding
from cluster.ports import Clock
from cluster.refusals import Conflict, DeviceHeld, LimitReached, NoPolicy, NotFound, StaleGeneration
from policies.model.decision import Decision
from policies.model.inventory import Cordon, ScrubState
from policies.model.memory import Memory
from policies.model.plan import Outcome, Plan
from policies.model.policy import Policy
from policies.model.proof import DeviceRecord, ScrubProof
from policies.model.routing import KeyRecord
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId, DeviceId, SecurityDomain, WorkerId
from policies.model.workload import Claim, Reservation


class Shared:
    """What several journals in one simulated world share: the "file"."""

    def __init__(self) -> None:
        self.fencing = 0
        self.adopted = False
        self.policy: Policy | None = None
        self.claims: dict[ClaimId, Claim] = {}
        self.claim_floor = 0
        self.keys: dict[str, KeyRecord] = {}
        self.cordons: dict[str, Cordon] = {}
        self.reservations: dict[str, Reservation] = {}
        self.memory = Memory()
        self.intents: list[Plan] = []
        self.outcomes: list[Outcome] = []
        self.devices: dict[DeviceId, DeviceRecord] = {}
        self.proofs: list[ScrubProof] = []
        self.notes: list[tuple[str, str, dict[str, object]]] = []


class MemoryJournal:
    """Journal over a shared "file"."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._generation = 0

    def lead(self) -> int:
        """Become the leader and return the new generation."""
        self._shared.fencing += 1
        self._generation = self._shared.fencing
        return self._generation

    def fencing_generation(self) -> int:
        """Return the generation taken by ``lead``; 0 before."""
        return self._generation

    def policy(self) -> Policy:
        """Return the policy in force. Raises ``NoPolicy``."""
        if self._shared.policy is None:
            raise NoPolicy
        return self._shared.policy

    def claims(self) -> tuple[Claim, ...]:
        """Return the claims, sorted by id."""
        return tuple(self._shared.claims[key] for key in sorted(self._shared.claims))

    def cordons(self) -> tuple[Cordon, ...]:
        """Return what is out of use, sorted by subject."""
        return tuple(self._shared.cordons[key] for key in sorted(self._shared.cordons))

    def reservations(self) -> tuple[Reservation, ...]:
        """Return the capacity kept for tenants, sorted by id."""
        return tuple(self._shared.reservations[key] for key in sorted(self._shared.reservations))

    def adopted(self) -> bool:
        """Return whether the journal accounts for what runs."""
        return self._shared.adopted

    def adopt(self, actor: str) -> None:  # noqa: ARG002  # part of the port; memory keeps no audit log
        """Record that it does."""
        self._shared.adopted = True

    def memory(self) -> Memory:
        """Return the memory of the last journalled decision."""
        return self._shared.memory

    def intend(self, snapshot: Snapshot, decision: Decision, plan: Plan) -> None:  # noqa: ARG002  # part of the port
        """Record the plan. Raises ``StaleGeneration``."""
        refuse_stale(self._shared, plan.fencing_generation)
        self._shared.intents.append(plan)
        self._shared.memory = decision.memory

    def settle(self, outcome: Outcome) -> None:
        """Record what became of the plan. Raises ``StaleGeneration``."""
        refuse_stale(self._shared, self._generation)
        self._shared.outcomes.append(outcome)


class MemoryLedger:
    """Ledger over a shared "file"."""

    def __init__(self, shared: Shared, clock: Clock) -> None:
        self._shared = shared
        self._clock = clock

    def devices(self) -> tuple[DeviceRecord, ...]:
        """Return the record of every device ever bound, sorted by id."""
        return tuple(self._shared.devices[key] for key in sorted(self._shared.devices))

    def bind(self, worker: WorkerId, domain: SecurityDomain, devices: tuple[DeviceId, ...], fencing: int) -> None:
        """Record that the worker holds the devices, all or none."""
        refuse_stale(self._shared, fencing)
        for device in devices:
            refuse_binding(self._record(device), worker, domain)
        for device in devices:
            if self._record(device).worker != worker:
                held = replace(self._record(device), scrub=ScrubState.DIRTY, domain=domain, worker=worker)
                self._put(held, fencing)

    def release(self, worker: WorkerId, fencing: int) -> None:
        """Record that the worker holds nothing."""
        refuse_stale(self._shared, fencing)
        for record in self.devices():
            if record.worker == worker:
                self._put(replace(record, worker=None), fencing)

    def rename(self, names: Mapping[DeviceId, WorkerId], fencing: int) -> None:
        """Record that the holders of these devices are called so now; who holds what does not change."""
        refuse_stale(self._shared, fencing)
        for device, name in names.items():
            if self._record(device).worker not in (None, name):
                self._put(replace(self._record(device), worker=name), fencing)

    def scrubbing(self, device: DeviceId, fencing: int) -> None:
        """Record that a scrub began. Raises ``DeviceHeld``."""
        refuse_stale(self._shared, fencing)
        record = self._free(device)
        if record.scrub is not ScrubState.SCRUBBING:
            self._put(replace(record, scrub=ScrubState.SCRUBBING), fencing)

    def record_scrub(self, proof: ScrubProof, fencing: int) -> None:
        """Record the proof. Raises ``DeviceHeld``."""
        refuse_stale(self._shared, fencing)
        record = self._free(proof.device)
        self._shared.proofs.append(proof)
        self._put(after_scrub(record, proof), fencing)

    def proofs(self) -> tuple[ScrubProof, ...]:
        """Return every proof, oldest first."""
        return tuple(self._shared.proofs)

    def _record(self, device: DeviceId) -> DeviceRecord:
        return self._shared.devices.get(device, DeviceRecord(device=device))

    def _free(self, device: DeviceId) -> DeviceRecord:
        record = self._record(device)
        if record.worker is not None:
            raise DeviceHeld(device, record.worker)
        return record

    def _put(self, record: DeviceRecord, fencing: int) -> None:
        stamped = replace(record, fencing_generation=fencing, changed_at_ms=self._clock.now_ms())
        self._shared.devices[record.device] = stamped


class MemoryRegistry:
    """Registry over a shared "file"."""

    def __init__(self, shared: Shared, claims_per_tenant: int = 10_000) -> None:
        self._shared = shared
        self._claims_per_tenant = claims_per_tenant

    def put_claim(self, claim: Claim, *, expected_generation: int | None) -> Claim:
        """Store the claim with the next generation and return it. Raises ``Conflict`` or ``LimitReached``."""
        stored = self._shared.claims.get(claim.id)
        current = stored.generation if stored else 0
        if expected_generation is not None and expected_generation != current:
            raise Conflict(f"claim {claim.id}", expected_generation, current)
        if stored is not None and replace(claim, generation=current) == stored:
            return stored
        if stored is None:
            self._refuse_one_too_many(claim)
            current = self._shared.claim_floor
        self._shared.claims[claim.id] = replace(claim, generation=current + 1)
        return self._shared.claims[claim.id]

    def delete_claim(self, claim: ClaimId) -> None:
        """Remove the claim. Raises ``NotFound``."""
        if claim not in self._shared.claims:
            raise NotFound("claim", claim)
        removed = self._shared.claims.pop(claim)
        self._shared.claim_floor = max(self._shared.claim_floor, removed.generation)

    def note(self, kind: str, subject: str, tenant: str | None = None, **body: object) -> None:
        """Keep the note in memory."""
        self._shared.notes.append((kind, subject, {"tenant": tenant, **body}))

    def put_policy(self, policy: Policy) -> None:
        """Make the policy the one in force."""
        self._shared.policy = policy

    def put_reservation(self, reservation: Reservation) -> None:
        """Keep the capacity."""
        self._shared.reservations[reservation.id] = reservation

    def delete_reservation(self, reservation: str) -> None:
        """Give the capacity up. Raises ``NotFound``."""
        if self._shared.reservations.pop(reservation, None) is None:
            raise NotFound("reservation", reservation)

    def keys(self, domain: SecurityDomain) -> tuple[KeyRecord, ...]:
        """Return the domain's keys, sorted by prefix."""
        found = [key for key in self._shared.keys.values() if key.tenant.split("/")[0] == domain]
        return tuple(sorted(found, key=lambda key: key.prefix))

    def put_key(self, key: KeyRecord) -> None:
        """Store the key's record."""
        self._shared.keys[key.prefix] = key

    def _refuse_one_too_many(self, claim: Claim) -> None:
        count = sum(other.tenant == claim.tenant for other in self._shared.claims.values())
        if count >= self._claims_per_tenant:
            raise LimitReached(
                f"tenant {claim.tenant} has {count} claims", self._claims_per_tenant, "claims_per_tenant"
            )


def refuse_stale(shared: Shared, fencing: int) -> None:
    """Raise ``StaleGeneration`` if a newer leader has written."""
    if fencing < shared.fencing:
        raise StaleGeneration(fencing, shared.fencing)
