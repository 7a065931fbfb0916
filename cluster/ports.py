"""What the control loop needs of the world. Each port has a real and a simulated implementation, one contract suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from policies.model.decision import Decision
from policies.model.inventory import Cordon
from policies.model.memory import Memory
from policies.model.plan import Outcome, Plan
from policies.model.policy import Policy
from policies.model.proof import DeviceRecord, ScrubProof
from policies.model.routing import KeyRecord
from policies.model.snapshot import Snapshot
from policies.model.units import ClaimId, DeviceId, SecurityDomain, WorkerId
from policies.model.workload import Claim, Reservation


class Clock(Protocol):
    """Time. Decisions take it as an argument; only the shells own a clock."""

    def now_ms(self) -> int:
        """Return wall-clock milliseconds since the epoch."""
        ...

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back; for durations."""
        ...

    def sleep_ms(self, duration_ms: int) -> None:
        """Return after the duration; simulated clocks advance instead of waiting."""
        ...


class Observer(Protocol):
    """Turns the world into a Snapshot."""

    def observe(self) -> Snapshot:
        """Return what is seen now; whatever is not seen is a Gap. Never raises for a part of the world that is down."""
        ...


class Actuator(Protocol):
    """Makes a plan true, one idempotent action after another."""

    def execute(self, plan: Plan) -> Outcome:
        """Begin every action and return soon; progress is seen by the next observation.

        An action that is already true is ACCEPTED. An action of an older fencing generation than any seen is REFUSED.
        """
        ...


class Journal(Protocol):
    """What was asked, intended and done; survives a crash at any instruction."""

    def fencing_generation(self) -> int:
        """Return the generation under which this process leads; grows with every take-over."""
        ...

    def policy(self) -> Policy:
        """Return the policy in force."""
        ...

    def claims(self) -> tuple[Claim, ...]:
        """Return the claims asked for, sorted by id."""
        ...

    def cordons(self) -> tuple[Cordon, ...]:
        """Return the nodes and devices that an operator took out of use, sorted by subject."""
        ...

    def reservations(self) -> tuple[Reservation, ...]:
        """Return the capacity kept for tenants at given times, sorted by id; decide passes over those that ended."""
        ...

    def adopted(self) -> bool:
        """Return whether this journal accounts for what runs; False for a new one until someone says so."""
        ...

    def adopt(self, actor: str) -> None:
        """Record that it does: from here on the loop may stop what runs."""
        ...

    def lead(self) -> int:
        """Become the leader and return the new fencing generation; every older leader is refused from now on."""
        ...

    def memory(self) -> Memory:
        """Return the memory of the last decision; ``Memory()`` if there was none."""
        ...

    def intend(self, snapshot: Snapshot, decision: Decision, plan: Plan) -> None:
        """Record the plan before anything moves. Raises ``StaleGeneration`` if another process leads."""
        ...

    def settle(self, outcome: Outcome) -> None:
        """Record what became of a plan."""
        ...


class Ledger(Protocol):
    """The authority on who holds each device. Written by the actuator, read by the observer."""

    def devices(self) -> tuple[DeviceRecord, ...]:
        """Return the record of every device ever bound, sorted by id; a device without a record is clean and free."""
        ...

    def bind(self, worker: WorkerId, domain: SecurityDomain, devices: tuple[DeviceId, ...], fencing: int) -> None:
        """Record that the worker holds the devices, all or none.

        Raises ``DeviceHeld`` if another worker holds one, ``DeviceNotClean`` if another domain held one last and no
        passed proof followed, ``StaleGeneration`` if a newer leader wrote before. The same call again changes nothing.
        """
        ...

    def release(self, worker: WorkerId, fencing: int) -> None:
        """Record that the worker holds nothing; its devices stay dirty in its domain. Unknown workers are ignored."""
        ...

    def rename(self, names: Mapping[DeviceId, WorkerId], fencing: int) -> None:
        """Record that the worker that holds each of these devices is called so now; who holds what does not change.

        Devices that nobody holds, or whose holder is called so already, stay as they are. All or none.
        """
        ...

    def scrubbing(self, device: DeviceId, fencing: int) -> None:
        """Record that a scrub began. Raises ``DeviceHeld`` while a worker holds the device."""
        ...

    def record_scrub(self, proof: ScrubProof, fencing: int) -> None:
        """Record the proof: the device is clean if it passed, else FAILED."""
        ...

    def proofs(self) -> tuple[ScrubProof, ...]:
        """Return every proof, oldest first."""
        ...


class Registry(Protocol):
    """What people asked for, written by the API."""

    def put_claim(self, claim: Claim, *, expected_generation: int | None) -> Claim:
        """Store the claim with the next generation and return it.

        Raises ``Conflict`` if ``expected_generation`` is given and is not the stored one (0 for a new claim).
        """
        ...

    def delete_claim(self, claim: ClaimId) -> None:
        """Remove the claim; its groups drain. Raises ``NotFound``."""
        ...

    def note(self, kind: str, subject: str, tenant: str | None = None, **body: object) -> None:
        """Record that something happened that changes nothing here; the tenant may read it."""
        ...

    def put_policy(self, policy: Policy) -> None:
        """Make the policy the one in force, whole."""
        ...

    def put_reservation(self, reservation: Reservation) -> None:
        """Keep the capacity; the same id replaces it."""
        ...

    def delete_reservation(self, reservation: str) -> None:
        """Give the capacity up. Raises ``NotFound``."""
        ...

    def keys(self, domain: SecurityDomain) -> tuple[KeyRecord, ...]:
        """Return the API keys of the domain's tenants, sorted by prefix."""
        ...

    def put_key(self, key: KeyRecord) -> None:
        """Store the key's record; the same prefix replaces it."""
        ...
