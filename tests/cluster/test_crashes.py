"""The journal after the process ended at any point: whole, never torn, never lying."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from cluster.journal.audit import read, verify
from cluster.journal.ledger import SqliteLedger
from cluster.journal.registry import SqliteRegistry
from cluster.journal.sqlite import Retention, SqliteJournal
from cluster.journal.store import Store
from cluster.refusals import JournalBusy, JournalCorrupt, SchemaTooNew
from cluster.sim.clock import VirtualClock
from policies.model.inventory import ScrubState
from policies.model.memory import Drain, Memory
from policies.model.plan import Outcome
from policies.model.proof import ScrubProof, ScrubStep
from policies.model.units import DeviceId, GroupId, SecurityDomain, WorkerId
from tests.cluster.nouns import a_claim, a_decision, a_plan, a_policy, a_snapshot

CRASHED = 137
MEMORY = Memory(drains=(Drain(group=GroupId("g"), since_ms=5),))
VERBS = ("lead", "put_policy", "put_claim", "intend", "bind", "settle", "release", "scrubbing")
PLACES = [f"{verb}:{moment}" for verb in VERBS for moment in ("before", "inside", "after")] + ["migrate:1", "migrate:2"]


def life(path: Path, crash_at: str) -> None:
    """Do one of everything; end the process, without any clean-up, at the crash point."""

    def crash_point(place: str) -> None:
        if place == crash_at:
            os._exit(CRASHED)

    clock = VirtualClock()
    store = Store(path, busy_timeout_ms=1000, crash_point=crash_point)
    journal, ledger, registry = SqliteJournal(store, clock), SqliteLedger(store, clock), SqliteRegistry(store, clock)
    generation = journal.lead()
    for record in ledger.devices():
        if record.scrub is ScrubState.SCRUBBING:
            ledger.record_scrub(a_passed_proof(record.device), generation)
    registry.put_policy(a_policy())
    registry.put_claim(a_claim(), expected_generation=None)
    journal.intend(a_snapshot(), a_decision(MEMORY), a_plan(generation))
    ledger.bind(WorkerId("w"), SecurityDomain.CIVIL, (DeviceId("GPU-1"), DeviceId("GPU-2")), generation)
    journal.settle(Outcome(plan="p", results=(), finished_at_ms=1))
    ledger.release(WorkerId("w"), generation)
    ledger.scrubbing(DeviceId("GPU-1"), generation)
    store.close()


def a_passed_proof(device: DeviceId) -> ScrubProof:
    step = ScrubStep(name="simulated", passed=True, detail="", at_ms=1)
    return ScrubProof(
        device=device,
        from_domain=SecurityDomain.CIVIL,
        to_domain=SecurityDomain.CIVIL,
        steps=(step,),
        started_at_ms=0,
        finished_at_ms=1,
        simulated=True,
    )


@pytest.mark.parametrize("place", PLACES)
def test_after_a_crash_at_any_point_the_same_life_can_be_lived_again(place: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    child = os.fork()
    if child == 0:
        try:
            life(path, place)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == CRASHED

    store = Store(path, busy_timeout_ms=1000)
    assert verify(read(store)).first_bad is None
    held = [record.worker for record in SqliteLedger(store, VirtualClock()).devices()]
    assert held in ([], ["w", "w"], [None, None])
    committed = VERBS.index("intend") < _order(place)
    assert SqliteJournal(store, VirtualClock()).memory() == (MEMORY if committed else Memory())
    store.close()

    life(path, "nowhere")
    store = Store(path, busy_timeout_ms=1000)
    assert [claim.id for claim in SqliteJournal(store, VirtualClock()).claims()] == [a_claim().id]
    assert verify(read(store)).first_bad is None
    store.close()


def _order(place: str) -> float:
    verb, moment = place.split(":")
    return -1 if verb == "migrate" else VERBS.index(verb) + (0.5 if moment == "after" else 0)


def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    life(path, "nowhere")
    damaged = bytearray(path.read_bytes())
    damaged[4096:12288] = b"\xff" * 8192
    path.write_bytes(damaged)
    path.with_name("journal.sqlite-wal").unlink(missing_ok=True)
    with pytest.raises(JournalCorrupt, match="restore it from a backup"):
        Store(path, busy_timeout_ms=1000)


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_text("not a database" * 1000)
    with pytest.raises(JournalCorrupt):
        Store(path, busy_timeout_ms=1000)


def test_a_journal_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Store(path, busy_timeout_ms=1000).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaTooNew, match="schema 99"):
        Store(path, busy_timeout_ms=1000)


def test_a_journal_of_the_first_schema_is_carried_over_with_all_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    life(path, "nowhere")
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE reservation")
        connection.execute("PRAGMA user_version = 1")
    store = Store(path, busy_timeout_ms=1000)
    assert SqliteJournal(store, VirtualClock()).claims()[0].id == a_claim().id
    assert SqliteJournal(store, VirtualClock()).reservations() == ()
    assert verify(read(store)).first_bad is None


def test_a_locked_journal_is_refused_after_a_bounded_wait(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    store = Store(path, busy_timeout_ms=50)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalBusy):
        SqliteRegistry(store, VirtualClock()).put_policy(a_policy())
    other.execute("ROLLBACK")
    SqliteRegistry(store, VirtualClock()).put_policy(a_policy())


def test_the_past_is_kept_within_its_bounds_and_the_audit_log_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "journal.sqlite", busy_timeout_ms=1000)
    journal = SqliteJournal(store, VirtualClock(), Retention(decisions=5, snapshots=2))
    generation = journal.lead()
    for number in range(9):
        memory = Memory(drains=(Drain(group=GroupId("g"), since_ms=number),))
        journal.intend(a_snapshot(number), a_decision(memory), a_plan(generation))
    assert store.number("SELECT count(*) FROM decision") == 5
    assert store.number("SELECT count(*) FROM decision WHERE snapshot IS NOT NULL") == 2


def test_the_history_never_grows_beyond_its_bytes(tmp_path: Path) -> None:
    store = Store(tmp_path / "journal.sqlite", busy_timeout_ms=1000)
    journal = SqliteJournal(store, VirtualClock(), Retention(bytes=1500))
    generation = journal.lead()
    for number in range(9):
        memory = Memory(drains=(Drain(group=GroupId("g"), since_ms=number),))
        journal.intend(a_snapshot(number), a_decision(memory), a_plan(generation))
    assert 0 < store.number("SELECT sum(size) FROM decision") <= 1500
