"""F24, F26, F28 at the store: PostgreSQL refuses stale leaders, survives cut connections, and says what is wrong."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cluster.journal import audit
from cluster.journal.history import History
from cluster.journal.ledger import SqliteLedger
from cluster.journal.postgres import PostgresStore, translated
from cluster.journal.registry import SqliteRegistry
from cluster.journal.sqlite import Retention, SqliteJournal
from cluster.refusals import JournalBusy, SchemaTooNew, StaleGeneration
from cluster.sim.clock import VirtualClock
from policies.model.memory import Memory
from policies.model.units import DeviceId, SecurityDomain, WorkerId
from tests.cluster.nouns import a_claim, a_decision, a_plan, a_policy, a_snapshot
from tests.postgres import Postgres

pytestmark = pytest.mark.system
JOURNAL = Path(__file__).parents[2] / "cluster" / "journal"


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    store = PostgresStore(database, busy_timeout_ms=500)
    yield store
    store.close()


def _end_connections(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as link:
        link.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'partage' AND datname = current_database()"
        )


def test_both_schemas_have_the_same_tables_and_columns() -> None:
    def tables(name: str) -> dict[str, list[str]]:
        found = re.findall(r"CREATE TABLE (\w+) \([^\n]*\n(.*?)\n\)", (JOURNAL / name).read_text(), flags=re.DOTALL)
        return {table: re.findall(r"^ {4}([a-z]\w+) ", body, flags=re.MULTILINE) for table, body in found}

    assert tables("schema.sql") == tables("schema_postgres.sql")
    assert tables("schema_2.sql") == tables("schema_postgres_2.sql")


def test_statements_keep_their_meaning_in_the_other_dialect() -> None:
    assert translated("INSERT OR REPLACE INTO device VALUES (?, ?)") == (
        "INSERT INTO device VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body"
    )
    assert translated("UPDATE fact SET value = max(value, ?)") == "UPDATE fact SET value = GREATEST(value, %s)"


def test_a_connection_that_the_server_ends_is_made_again(store: PostgresStore, database: str) -> None:
    SqliteRegistry(store, VirtualClock()).put_policy(a_policy("one"))
    _end_connections(database)
    assert SqliteJournal(store, VirtualClock()).policy() == a_policy("one")


def test_f26_a_write_cut_in_the_middle_leaves_nothing_and_the_next_one_works(
    store: PostgresStore, database: str
) -> None:
    def write_and_be_cut() -> None:
        with store.write("test") as connection:
            connection.execute("INSERT OR REPLACE INTO cordon VALUES (?, ?)", ("a", "{}"))
            _end_connections(database)
            connection.execute("INSERT OR REPLACE INTO cordon VALUES (?, ?)", ("b", "{}"))

    with pytest.raises(JournalBusy):
        write_and_be_cut()
    assert store.texts("SELECT subject FROM cordon") == []
    with store.write("test") as connection:
        connection.execute("INSERT OR REPLACE INTO cordon VALUES (?, ?)", ("a", "{}"))
    assert store.texts("SELECT subject FROM cordon") == ["a"]


def test_f26_a_lock_held_too_long_is_a_refusal_and_changes_nothing(store: PostgresStore, database: str) -> None:
    other = PostgresStore(database, busy_timeout_ms=500)
    with other.write("long") as connection:
        connection.execute("INSERT OR REPLACE INTO cordon VALUES (?, ?)", ("a", "{}"))
        with pytest.raises(JournalBusy), store.write("short"):
            pass
    other.close()
    assert store.texts("SELECT subject FROM cordon") == ["a"]


def test_f24_a_leader_that_slept_is_refused_at_the_store_in_everything(database: str) -> None:
    clock = VirtualClock()
    sleeper_store, newer_store = (PostgresStore(database, busy_timeout_ms=500) for _ in range(2))
    sleeper, newer = SqliteJournal(sleeper_store, clock), SqliteJournal(newer_store, clock)
    old = sleeper.lead()
    assert newer.lead() > old
    with pytest.raises(StaleGeneration):
        sleeper.intend(a_snapshot(), a_decision(Memory()), a_plan(old))
    ledger = SqliteLedger(sleeper_store, clock)
    with pytest.raises(StaleGeneration):
        ledger.bind(WorkerId("w"), SecurityDomain.CIVIL, (DeviceId("GPU-1"),), old)
    sleeper_store.close()
    newer_store.close()


def test_a_leader_over_a_restored_journal_is_newer_than_what_others_have_seen(database: str) -> None:
    journal = SqliteJournal(PostgresStore(database, busy_timeout_ms=2000), VirtualClock())
    journal.lead()
    assert journal.lead(above=41) == 42
    assert journal.lead(above=7) == 43


def test_a_dump_put_back_into_an_empty_database_is_the_same_journal(postgres: Postgres, database: str) -> None:
    def parts(conninfo: str) -> tuple[PostgresStore, SqliteRegistry, SqliteLedger]:
        store = PostgresStore(conninfo, busy_timeout_ms=2000)
        return store, SqliteRegistry(store, VirtualClock()), SqliteLedger(store, VirtualClock())

    store, registry, ledger = parts(database)
    generation = SqliteJournal(store, VirtualClock()).lead()
    registry.put_policy(a_policy("kept"))
    registry.put_claim(a_claim(), expected_generation=None)
    ledger.bind(WorkerId("w"), SecurityDomain.CIVIL, (DeviceId("GPU-1"),), generation)
    dump = postgres.dump(database)
    registry.put_policy(a_policy("lost"))

    restored, _, held = parts(postgres.restored(dump))
    journal = SqliteJournal(restored, VirtualClock())
    assert journal.lead(above=7) == 8
    assert (journal.policy().revision, [claim.id for claim in journal.claims()]) == ("kept", [a_claim().id])
    assert [(record.device, record.worker) for record in held.devices()] == [("GPU-1", "w")]
    assert audit.verify(audit.read(restored)).first_bad is None
    store.close()
    restored.close()


def test_many_leaders_at_once_get_different_generations(database: str) -> None:
    taken: list[int] = []

    def lead() -> None:
        store = PostgresStore(database, busy_timeout_ms=5000)
        taken.append(SqliteJournal(store, VirtualClock()).lead())
        store.close()

    threads = [threading.Thread(target=lead) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [1, 2, 3, 4, 5, 6]


def test_a_newer_schema_is_refused_with_the_version(store: PostgresStore, database: str) -> None:
    with store.write("test") as connection:
        connection.execute("UPDATE fact SET value = 99 WHERE name = 'schema'")
    with pytest.raises(SchemaTooNew, match="99"):
        PostgresStore(database, busy_timeout_ms=500)


def test_a_database_of_the_first_schema_is_carried_over_with_all_it_holds(store: PostgresStore, database: str) -> None:
    SqliteRegistry(store, VirtualClock()).put_claim(a_claim(), expected_generation=None)
    with store.write("test") as connection:
        connection.execute("DROP TABLE reservation")
        connection.execute("UPDATE fact SET value = 1 WHERE name = 'schema'")
    for _ in range(2):
        again = SqliteJournal(PostgresStore(database, busy_timeout_ms=500), VirtualClock())
        assert again.reservations() == ()
        assert [claim.id for claim in again.claims()] == [a_claim().id]


def test_the_audit_log_is_append_only_and_its_chain_holds(store: PostgresStore) -> None:
    registry = SqliteRegistry(store, VirtualClock())
    for name in ("a", "b", "c"):
        registry.put_claim(a_claim(f"civil/justice:{name}"), expected_generation=None)
    with pytest.raises(psycopg.errors.RaiseException), store.write("tamper") as connection:
        connection.execute("UPDATE audit SET actor = 'nobody' WHERE seq = ?", (1,))
    with pytest.raises(psycopg.errors.RaiseException), store.write("tamper") as connection:
        connection.execute("DELETE FROM audit")
    records = audit.read(store)
    assert len(records) == 3
    assert audit.verify(records).first_bad is None


def test_old_decisions_are_pruned_by_count_and_size(store: PostgresStore) -> None:
    journal = SqliteJournal(store, VirtualClock(), Retention(decisions=3, snapshots=1))
    generation = journal.lead()
    for _ in range(6):
        journal.intend(a_snapshot(), a_decision(Memory()), a_plan(generation))
    assert store.number("SELECT count(*) FROM decision") == 3
    assert store.number("SELECT count(*) FROM decision WHERE snapshot IS NOT NULL") == 1
    assert History(store) is not None


def test_the_password_is_never_in_a_message(postgres) -> None:
    with pytest.raises(JournalBusy) as refused:
        PostgresStore("host=127.0.0.1 port=1 user=u password=s3cret dbname=x", busy_timeout_ms=200)
    assert "s3cret" not in str(refused.value)
