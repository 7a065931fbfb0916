"""The audit log: nothing in it can be changed, taken out, moved or cut off unnoticed."""

from __future__ import annotations

import sqlite3
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.journal.audit import AuditRecord, read, verify
from cluster.journal.registry import SqliteRegistry
from cluster.journal.store import Store
from cluster.sim.clock import VirtualClock
from tests.cluster.nouns import a_claim


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "journal.sqlite", busy_timeout_ms=1000)
    registry = SqliteRegistry(store, VirtualClock())
    for name in "abcd":
        registry.by("civil/justice").put_claim(a_claim(name), expected_generation=0)
    registry.delete_claim(a_claim("a").id)
    return store


def test_an_untouched_chain_holds(store: Store) -> None:
    verdict = verify(read(store))
    assert (verdict.records, verdict.first_bad) == (5, None)


def test_every_change_names_who_made_it(store: Store) -> None:
    assert [record.actor for record in read(store)] == ["civil/justice"] * 4 + ["operator"]


@pytest.mark.parametrize("name", [field.name for field in fields(AuditRecord)])
@pytest.mark.parametrize("position", range(5))
def test_a_change_in_any_field_of_any_record_is_found_there(store: Store, name: str, position: int) -> None:
    records = read(store)
    old = getattr(records[position], name)
    records[position] = replace(records[position], **{name: old + 1 if isinstance(old, int) else f"{old}x"})
    assert verify(records).first_bad == position + 1


def test_a_record_taken_out_of_the_middle_is_found(store: Store) -> None:
    records = read(store)
    del records[2]
    assert verify(records).first_bad == 3


def test_two_records_in_the_wrong_order_are_found(store: Store) -> None:
    records = read(store)
    records[1], records[2] = records[2], records[1]
    assert verify(records).first_bad == 2


def test_a_tail_that_was_cut_off_is_found_by_a_hash_noted_elsewhere(store: Store) -> None:
    records = read(store)
    anchor = (records[-1].seq, records[-1].hash)
    assert verify(records, anchor).first_bad is None
    assert verify(records[:-1], anchor).first_bad == 5


def test_a_chain_sealed_again_from_some_point_is_found_by_a_hash_noted_elsewhere(store: Store) -> None:
    records = read(store)
    anchor = (records[-1].seq, records[-1].hash)
    forged, previous = records[:2], records[1].hash
    for record in records[2:]:
        new = replace(record, actor="someone-else", previous=previous)
        forged.append(replace(new, hash=new.seal()))
        previous = forged[-1].hash
    assert verify(forged).first_bad is None
    assert verify(forged, anchor).first_bad is not None


@pytest.mark.parametrize("statement", ["DELETE FROM audit WHERE seq = 2", "UPDATE audit SET actor = 'x' WHERE seq = 2"])
def test_the_store_itself_refuses_to_change_it(store: Store, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), store.write("test") as connection:
        connection.execute(statement)


def flipped(record: AuditRecord, bit: int) -> AuditRecord:
    """Return the record with one bit of it changed; its fields lie one behind the other."""
    for field in fields(AuditRecord):
        value = getattr(record, field.name)
        size = 63 if isinstance(value, int) else 8 * len(str(value).encode())
        if bit >= size:
            bit -= size
        elif isinstance(value, int):
            return replace(record, **{field.name: value ^ (1 << bit)})
        else:
            raw = bytearray(str(value).encode())
            raw[bit // 8] ^= 1 << bit % 8
            return replace(record, **{field.name: raw.decode("latin-1")})
    return flipped(record, bit)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 4), bit=st.integers(0, 4_000))
def test_p30_a_single_bit_that_differs_anywhere_in_any_record_is_found(store: Store, position: int, bit: int) -> None:
    records = read(store)
    anchor = (records[-1].seq, records[-1].hash)
    records[position] = flipped(records[position], bit)
    assert verify(records, anchor).first_bad == position + 1


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.sets(st.integers(0, 4), max_size=4))
def test_p30_whatever_records_are_taken_out_first_last_or_all_it_is_found(store: Store, kept: set[int]) -> None:
    records = read(store)
    anchor = (records[-1].seq, records[-1].hash)
    assert verify([records[index] for index in sorted(kept)], anchor).first_bad is not None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)))
def test_p30_records_in_any_other_order_are_found(store: Store, order: list[int]) -> None:
    records = read(store)
    anchor = (records[-1].seq, records[-1].hash)
    verdict = verify([records[index] for index in order], anchor)
    assert (verdict.first_bad is None) == (order == sorted(order))
