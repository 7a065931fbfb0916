"""Journal, ledger and registry: SQLite, PostgreSQL and memory keep the same promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.journal.ledger import SqliteLedger
from cluster.journal.postgres import PostgresStore
from cluster.journal.registry import Caps, SqliteRegistry
from cluster.journal.sqlite import SqliteJournal
from cluster.journal.store import Store
from cluster.refusals import Conflict, DeviceHeld, DeviceNotClean, LimitReached, NoPolicy, NotFound, StaleGeneration
from cluster.sim.clock import VirtualClock
from cluster.sim.journal import MemoryJournal, MemoryLedger, MemoryRegistry, Shared
from policies.model.inventory import ScrubState
from policies.model.memory import Drain, Memory
from policies.model.plan import Outcome
from policies.model.proof import ScrubProof, ScrubStep
from policies.model.routing import KeyRecord
from policies.model.units import ClaimId, DeviceId, GroupId, SecurityDomain, TenantId, WorkerId
from policies.model.workload import Reservation
from tests.cluster.nouns import FLAVOR, a_claim, a_decision, a_plan, a_policy, a_snapshot

GPU = DeviceId("GPU-1")
CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE


@dataclass
class Kept:
    """One "file" and how to open it again, as a new process would."""

    open_journal: Callable[[], Any]
    ledger: Any
    registry: Any


@pytest.fixture(params=["sqlite", "memory", pytest.param("postgres", marks=pytest.mark.system)])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    clock = VirtualClock()
    if request.param == "memory":
        shared = Shared()
        yield Kept(lambda: MemoryJournal(shared), MemoryLedger(shared, clock), MemoryRegistry(shared, 3))
        return
    conninfo = request.getfixturevalue("database") if request.param == "postgres" else ""

    def opened() -> Store:
        if conninfo:
            return PostgresStore(conninfo, busy_timeout_ms=1000)
        return Store(tmp_path / "journal.sqlite", busy_timeout_ms=1000)

    stores = [opened()]

    def again() -> SqliteJournal:
        stores.append(opened())
        return SqliteJournal(stores[-1], clock)

    yield Kept(again, SqliteLedger(stores[0], clock), SqliteRegistry(stores[0], clock, Caps(claims_per_tenant=3)))
    for store in stores:
        store.close()


def test_every_take_over_gets_a_newer_generation(kept: Kept) -> None:
    first, second = kept.open_journal(), kept.open_journal()
    assert first.lead() < second.lead() < first.lead()


def test_nothing_is_decided_without_a_policy(kept: Kept) -> None:
    with pytest.raises(NoPolicy):
        kept.open_journal().policy()


def test_the_policy_in_force_is_the_last_one_put_whole(kept: Kept) -> None:
    kept.registry.put_policy(a_policy("one"))
    kept.registry.put_policy(a_policy("two"))
    assert kept.open_journal().policy() == a_policy("two")


def test_memory_is_that_of_the_last_decision_even_after_a_restart(kept: Kept) -> None:
    journal = kept.open_journal()
    generation = journal.lead()
    assert journal.memory() == Memory()
    memory = Memory(drains=(Drain(group=GroupId("g"), since_ms=5),))
    journal.intend(a_snapshot(), a_decision(memory), a_plan(generation))
    assert journal.memory() == kept.open_journal().memory() == memory


def test_a_replaced_leader_can_neither_intend_nor_settle(kept: Kept) -> None:
    old = kept.open_journal()
    generation = old.lead()
    kept.open_journal().lead()
    with pytest.raises(StaleGeneration):
        old.intend(a_snapshot(), a_decision(), a_plan(generation))
    with pytest.raises(StaleGeneration):
        old.settle(Outcome(plan="p", results=(), finished_at_ms=0))
    assert kept.open_journal().memory() == Memory()


def test_a_new_journal_does_not_account_for_what_runs_until_someone_says_so(kept: Kept) -> None:
    journal = kept.open_journal()
    assert not journal.adopted()
    journal.adopt("operator")
    assert kept.open_journal().adopted()


def test_a_claim_is_stored_with_the_next_generation(kept: Kept) -> None:
    first = kept.registry.put_claim(a_claim("a"), expected_generation=0)
    second = kept.registry.put_claim(a_claim("a", replicas=2), expected_generation=1)
    assert (first.generation, second.generation) == (1, 2)
    assert kept.open_journal().claims() == (second,)


def test_an_equal_claim_keeps_its_generation(kept: Kept) -> None:
    first = kept.registry.put_claim(a_claim("a"), expected_generation=None)
    assert kept.registry.put_claim(a_claim("a"), expected_generation=None) == first


@pytest.mark.parametrize("expected", [0, 2])
def test_a_change_made_from_another_generation_is_refused(kept: Kept, expected: int) -> None:
    kept.registry.put_claim(a_claim("a"), expected_generation=None)
    with pytest.raises(Conflict):
        kept.registry.put_claim(a_claim("a", replicas=2), expected_generation=expected)
    assert [claim.desired_replicas for claim in kept.open_journal().claims()] == [1]


def test_a_deleted_and_recreated_claim_is_not_mistaken_for_the_old_one(kept: Kept) -> None:
    kept.registry.put_claim(a_claim("a"), expected_generation=None)
    kept.registry.delete_claim(a_claim("a").id)
    again = kept.registry.put_claim(a_claim("a"), expected_generation=0)
    with pytest.raises(Conflict):
        kept.registry.put_claim(a_claim("a", replicas=2), expected_generation=1)
    assert again.generation == 2


def test_claims_are_listed_in_the_order_of_their_names(kept: Kept) -> None:
    for name in ("b", "a", "c"):
        kept.registry.put_claim(a_claim(name), expected_generation=None)
    assert [claim.id for claim in kept.open_journal().claims()] == sorted(a_claim(name).id for name in "abc")


def test_claims_that_did_not_change_are_the_same_objects_as_before(kept: Kept) -> None:
    for name in ("a", "b"):
        kept.registry.put_claim(a_claim(name), expected_generation=None)
    journal = kept.open_journal()
    before = journal.claims()
    kept.registry.put_claim(a_claim("b", replicas=2), expected_generation=None)
    after = journal.claims()
    assert after[0] is before[0]
    assert (before[1].generation, after[1].generation) == (1, 2)


def test_one_claim_too_many_is_refused_and_the_others_stay(kept: Kept) -> None:
    for name in "abc":
        kept.registry.put_claim(a_claim(name), expected_generation=None)
    with pytest.raises(LimitReached):
        kept.registry.put_claim(a_claim("d"), expected_generation=None)
    assert len(kept.open_journal().claims()) == 3


def test_deleting_an_unknown_claim_is_refused(kept: Kept) -> None:
    with pytest.raises(NotFound):
        kept.registry.delete_claim(ClaimId("civil/justice:none"))


def test_keys_are_listed_by_domain(kept: Kept) -> None:
    civil = KeyRecord(prefix="pk-a", mac="00", tenant=TenantId("civil/justice"))
    kept.registry.put_key(civil)
    kept.registry.put_key(KeyRecord(prefix="pk-b", mac="01", tenant=TenantId("defence/cyber")))
    assert kept.registry.keys(CIVIL) == (civil,)


def test_a_bound_device_is_refused_to_another_worker_and_its_own_may_ask_again(kept: Kept) -> None:
    kept.ledger.bind(WorkerId("w1"), CIVIL, (GPU,), 1)
    kept.ledger.bind(WorkerId("w1"), CIVIL, (GPU,), 1)
    with pytest.raises(DeviceHeld):
        kept.ledger.bind(WorkerId("w2"), CIVIL, (GPU,), 1)


def test_a_worker_gets_all_of_its_devices_or_none(kept: Kept) -> None:
    kept.ledger.bind(WorkerId("w1"), CIVIL, (GPU,), 1)
    with pytest.raises(DeviceHeld):
        kept.ledger.bind(WorkerId("w2"), CIVIL, (DeviceId("GPU-0"), GPU), 1)
    assert [record.device for record in kept.ledger.devices()] == [GPU]


def test_a_device_changes_domain_only_over_a_passed_proof(kept: Kept) -> None:
    kept.ledger.bind(WorkerId("w1"), CIVIL, (GPU,), 1)
    kept.ledger.release(WorkerId("w1"), 1)
    with pytest.raises(DeviceNotClean):
        kept.ledger.bind(WorkerId("w2"), DEFENCE, (GPU,), 1)
    kept.ledger.scrubbing(GPU, 1)
    with pytest.raises(DeviceNotClean):
        kept.ledger.bind(WorkerId("w1"), CIVIL, (GPU,), 1)
    kept.ledger.record_scrub(a_proof(passed=True), 1)
    kept.ledger.bind(WorkerId("w2"), DEFENCE, (GPU,), 1)
    assert kept.ledger.devices()[0].domain is DEFENCE
    assert kept.ledger.proofs() == (a_proof(passed=True),)


def test_a_device_may_return_to_its_own_domain_without_a_scrub(kept: Kept) -> None:
    kept.ledger.bind(WorkerId("w1"), CIVIL, (GPU,), 1)
    kept.ledger.release(WorkerId("w1"), 1)
    kept.ledger.bind(WorkerId("w3"), CIVIL, (GPU,), 1)
    assert kept.ledger.devices()[0].worker == "w3"


def test_a_failed_scrub_keeps_the_device_from_everyone(kept: Kept) -> None:
    kept.ledger.bind(WorkerId("w1"), CIVIL, (GPU,), 1)
    kept.ledger.release(WorkerId("w1"), 1)
    kept.ledger.record_scrub(a_proof(passed=False), 1)
    assert kept.ledger.devices()[0].scrub is ScrubState.FAILED
    for domain in (CIVIL, DEFENCE):
        with pytest.raises(DeviceNotClean):
            kept.ledger.bind(WorkerId("w2"), domain, (GPU,), 1)


def test_a_held_device_is_never_scrubbed(kept: Kept) -> None:
    kept.ledger.bind(WorkerId("w1"), CIVIL, (GPU,), 1)
    with pytest.raises(DeviceHeld):
        kept.ledger.scrubbing(GPU, 1)
    with pytest.raises(DeviceHeld):
        kept.ledger.record_scrub(a_proof(passed=True), 1)


def test_a_worker_that_is_called_otherwise_holds_what_it_held_and_nobody_else_gets_anything(kept: Kept) -> None:
    kept.open_journal().lead()
    old, new, other = WorkerId("civil-1"), WorkerId("civil-one"), DeviceId("GPU-3")
    kept.ledger.bind(old, CIVIL, (GPU, DeviceId("GPU-2")), 1)
    kept.ledger.bind(WorkerId("w"), DEFENCE, (DeviceId("GPU-4"),), 1)
    before = {record.device: record for record in kept.ledger.devices()}
    kept.ledger.rename({GPU: new, DeviceId("GPU-2"): new, other: new}, 1)
    after = {record.device: record for record in kept.ledger.devices()}
    assert {name: (one.worker, one.domain, one.scrub) for name, one in after.items() if one.worker is not None} == {
        name: (new if one.worker == old else one.worker, one.domain, one.scrub) for name, one in before.items()
    }
    kept.ledger.release(new, 1)
    assert {record.worker for record in kept.ledger.devices()} == {None, "w"}
    kept.ledger.rename({}, 1)


def test_a_replaced_leader_can_change_no_device(kept: Kept) -> None:
    stale = kept.open_journal().lead()
    kept.open_journal().lead()
    with pytest.raises(StaleGeneration):
        kept.ledger.bind(WorkerId("w1"), CIVIL, (GPU,), stale)
    assert kept.ledger.devices() == ()


def test_releasing_an_unknown_worker_changes_nothing(kept: Kept) -> None:
    kept.ledger.release(WorkerId("nobody"), 1)
    assert kept.ledger.devices() == ()


def a_proof(*, passed: bool) -> ScrubProof:
    step = ScrubStep(name="simulated", passed=passed, detail="", at_ms=1)
    return ScrubProof(
        device=GPU,
        from_domain=CIVIL,
        to_domain=DEFENCE,
        steps=(step,),
        started_at_ms=0,
        finished_at_ms=1,
        simulated=True,
    )


def a_reservation(name: str = "exams", millis: int = 1000) -> Reservation:
    return Reservation(
        id=f"civil/justice:{name}",
        tenant=TenantId("civil/justice"),
        flavor=FLAVOR,
        gpu_millis=millis,
        starts_at_ms=5_000,
        ends_at_ms=2**52,
    )


def test_a_reservation_is_kept_replaced_and_given_up(kept: Kept) -> None:
    kept.registry.put_reservation(a_reservation())
    kept.registry.put_reservation(a_reservation("audit"))
    kept.registry.put_reservation(a_reservation(millis=500))
    found = kept.open_journal().reservations()
    assert [(one.id, one.gpu_millis) for one in found] == [("civil/justice:audit", 1000), ("civil/justice:exams", 500)]
    kept.registry.delete_reservation("civil/justice:audit")
    assert kept.open_journal().reservations() == (a_reservation(millis=500),)
    with pytest.raises(NotFound):
        kept.registry.delete_reservation("civil/justice:audit")
