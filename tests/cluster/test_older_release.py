"""What an older release recorded is taken over: read whole, named as this one names, or refused by what it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cluster.actuate.workers import LocalWorkers
from cluster.clock import SystemClock
from cluster.embedded.adapters import take_over_names
from cluster.embedded.clusters import ensure_secrets
from cluster.embedded.nodes import machine
from cluster.embedded.platform import take_down
from cluster.embedded.processes import find, is_alive
from cluster.journal.approvals import SqliteApprovals
from cluster.journal.audit import read, verify
from cluster.journal.carrying import carry_over, refuse_unreadable
from cluster.journal.history import History
from cluster.journal.ledger import SqliteLedger
from cluster.journal.registry import SqliteRegistry
from cluster.journal.sqlite import SqliteJournal
from cluster.journal.store import Store
from cluster.refusals import NotFound, RecordUnreadable
from cluster.settings import Settings, from_environment
from policies.decide import decide
from policies.model.codec import digest
from policies.model.memory import Memory
from policies.model.naming import worker_id
from policies.model.units import WorkerId
from tests.cluster.nouns import a_plan, a_snapshot

CLOCK = SystemClock()
SHORT_NAMES = Path(__file__).parent / "older" / "journal_of_short_names.sql"
NOW_MS = 1_800_000_000_000


@dataclass(frozen=True)
class Journalled:
    """An older journal, opened by this release."""

    settings: Settings
    store: Store
    journal: SqliteJournal
    ledger: SqliteLedger
    registry: SqliteRegistry

    def refuse_unreadable(self) -> None:
        refuse_unreadable(self.journal, self.ledger, self.registry, SqliteApprovals(self.store, CLOCK))


@pytest.fixture
def older(tmp_path: Path) -> Iterator[Journalled]:
    settings = from_environment({"PARTAGE_HOME": str(tmp_path / "home"), "PARTAGE_CACHE": str(tmp_path / "cache")})
    settings.home.mkdir()
    with sqlite3.connect(settings.journal) as connection:
        connection.executescript(SHORT_NAMES.read_text(encoding="utf-8"))
    store = Store(settings.journal, busy_timeout_ms=1000)
    yield Journalled(
        settings, store, SqliteJournal(store, CLOCK), SqliteLedger(store, CLOCK), SqliteRegistry(store, CLOCK)
    )
    store.close()
    take_down(settings, lambda _: None)


def test_workers_of_older_names_run_under_todays_and_hold_what_they_held(older: Journalled) -> None:
    before = older.ledger.devices()
    assert {len(str(record.worker).rpartition("-")[2]) for record in before} == {8}
    older.journal.lead()
    ensure_secrets(machine(older.settings))
    take_over_names(older.journal, older.ledger)
    after = older.ledger.devices()
    assert [(one.device, one.domain, one.scrub) for one in after] == [
        (one.device, one.domain, one.scrub) for one in before
    ]
    here = replace(machine(older.settings), node_module="tests.pretended_node")
    workers = LocalWorkers(here=here, ledger=older.ledger, clock=CLOCK)
    for _ in after:
        workers.keep_running()
        workers.joined |= {record.spec.launch for record in workers.joining()}
    for record in after:
        assert record.domain is not None
        assert record.worker == worker_id(record.domain, (record.device,))
        process = find(here.processes, record.worker)
        assert process is not None
        assert is_alive(process)
        assert process.spec.devices == (record.device,)
    assert verify(read(older.store)).first_bad is None


def test_what_has_todays_name_is_not_written_again(older: Journalled) -> None:
    generation = older.journal.lead()
    for _ in range(2):
        take_over_names(older.journal, older.ledger)
    renamed = [record for record in read(older.store) if record.kind == "device.renamed"]
    assert len(renamed) == 3
    assert {record.fencing_generation for record in older.ledger.devices()} == {generation}


def test_policy_claims_memory_keys_and_audit_of_an_older_release_are_read(older: Journalled) -> None:
    older.refuse_unreadable()
    assert older.journal.policy().revision == "default-1"
    assert [claim.id for claim in older.journal.claims()] == [
        "civil/health:summaries", "civil/justice:assistant", "defence/cyber:triage"
    ]  # fmt: skip
    assert {one.tenant for one in older.journal.memory().usage} >= {"civil", "defence"}
    assert verify(read(older.store)).first_bad is None


def test_decisions_of_an_older_release_stay_readable_with_what_they_were_taken_from(older: Journalled) -> None:
    history = History(older.store)
    numbers = [past.number for past in history.newest(10)]
    assert numbers == [4, 3, 2, 1]
    for number in numbers:
        assert history.decision(number).reasons
        evidence = history.evidence(number)
        assert evidence.policy.revision == "default-1"
        assert history.digest(number) != digest(evidence.decision), "it was recorded in another form"
    assert history.decision(4).placements[0].worker in {WorkerId("civil-6632bc6b"), WorkerId("civil-a1d0cb6e")}


def decided(older: Journalled) -> int:
    """Take and record a decision as this release does, and return its number."""
    generation, policy = older.journal.lead(), older.journal.policy()
    decision = decide(a_snapshot(), policy, Memory(), NOW_MS)
    older.journal.intend(a_snapshot(), decision, a_plan(generation))
    return History(older.store).newest(1)[0].number


def test_what_a_decision_was_taken_from_is_found_although_the_policy_is_of_an_older_release(older: Journalled) -> None:
    before = decided(older)
    with pytest.raises(NotFound):
        History(older.store).evidence(before)
    carry_over(older.journal, older.registry)
    assert History(older.store).evidence(decided(older)).policy == older.journal.policy()
    assert History(older.store).evidence(before).policy == older.journal.policy()
    count = older.store.number("SELECT count(*) FROM policy")
    carry_over(older.journal, older.registry)
    assert older.store.number("SELECT count(*) FROM policy") == count


UNREADABLE = {
    "UPDATE policy SET body = json_set(body, '$.tenants', 5)": "policy 1",
    "UPDATE claim SET body = json_set(body, '$.kind', 'song') WHERE id LIKE 'def%'": "Claim defence/cyber:triage",
    "UPDATE memory SET body = '{\"usage\": 7}'": "the memory of the last decision",
    "UPDATE device SET body = json_set(body, '$.scrub', 'polished')": "DeviceRecord GPU-",
    "UPDATE api_key SET body = json_remove(body, '$.mac')": "KeyRecord pk-EF9003DFW",
}


@pytest.mark.parametrize("change", UNREADABLE)
def test_what_cannot_be_read_is_refused_by_its_name_before_anything_is_written(older: Journalled, change: str) -> None:
    with older.store.write("test") as connection:
        connection.execute(change)
    with pytest.raises(RecordUnreadable) as refusal:
        older.refuse_unreadable()
    assert refusal.value.what.startswith(UNREADABLE[change])
    assert "start the release that wrote it" in str(refusal.value)
