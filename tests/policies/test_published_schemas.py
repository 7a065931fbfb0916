"""The published schemas and the programs that read and write such files agree, in both directions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from policies.decide import decide
from policies.documents.soundness import faults_of_policy, faults_of_snapshot
from policies.invariants import check_alone, check_decision
from policies.model.codec import from_json_strict, schema, to_plain
from policies.model.decision import Decision
from policies.model.memory import Memory
from policies.model.plan import Plan
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.workload import Claim
from policies.planning import plan
from tests.policies.from_schema import values_of
from tests.policies.looking import DEPTH, FEW, SEEDS, some_world
from tests.policies.situations import rules

NOUNS = (Policy, Snapshot, Decision)
SCHEMAS = {noun: schema(noun) for noun in NOUNS}
VALIDATORS = {noun: Draft202012Validator(found) for noun, found in SCHEMAS.items()}
MANY = settings(
    max_examples=40 * DEPTH, deadline=None, derandomize=DEPTH == 1,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None,
    True,
    1,
    1.0,
    1e30,
    1.5,
    "1",
    "unlimited",
    "civil",
    [],
    [1, 2],
    {},
    {"id": "x"},
    -1,
    10**30,
)


def read(noun: type[Any], plain: object) -> Any:
    """Return the noun, or None if it is refused."""
    try:
        return from_json_strict(noun, json.dumps(plain))
    except ValidationError:
        return None


@pytest.mark.parametrize("noun", NOUNS)
def test_each_schema_is_one(noun):
    Draft202012Validator.check_schema(SCHEMAS[noun])


@pytest.mark.parametrize("noun", [*NOUNS, Claim, Plan])
def test_every_value_of_every_enumeration_is_described(noun):
    kinds = {name: one for name, one in schema(noun)["$defs"].items() if "enum" in one}
    assert kinds
    for name, one in kinds.items():
        told = dict(line[2:].split(": ", 1) for line in one["description"].splitlines()[1:])
        assert [f"`{value}`" for value in one["enum"]] == list(told), name
        assert all(text.endswith(".") for text in told.values()), name


@FEW
@given(SEEDS)
def test_what_is_written_is_valid_and_reads_as_it_was(seed):
    _, made = some_world(seed, 10)
    seen = made.observe()
    decision = decide(seen, made.policy, made.memory, made.now_ms)
    for noun, one in zip(NOUNS, (made.policy, seen, decision), strict=True):
        plain = json.loads(json.dumps(to_plain(one)))
        assert not list(VALIDATORS[noun].iter_errors(plain))
        assert read(noun, plain) == one


@MANY
@given(values_of(SCHEMAS[Snapshot]))
def test_whatever_the_schema_admits_as_a_snapshot_is_decided_or_has_a_fault_with_its_place(plain):
    seen = read(Snapshot, plain)
    assert seen is not None
    if list(faults_of_snapshot(seen)):
        return
    decision = decide(seen, rules(), Memory(), seen.observed_at_ms)
    plan(seen, decision, rules(), 0)
    assert not list(VALIDATORS[Decision].iter_errors(to_plain(decision)))


@MANY
@given(values_of(SCHEMAS[Policy]))
def test_whatever_the_schema_admits_as_a_policy_is_read_and_is_sound_or_has_a_fault_with_its_place(plain):
    policy = read(Policy, plain)
    assert policy is not None
    for path, fault in faults_of_policy(policy):
        assert fault
        assert path[0] in SCHEMAS[Policy]["properties"]


@MANY
@given(values_of(SCHEMAS[Decision]), SEEDS)
def test_whatever_the_schema_admits_as_a_decision_is_checked(plain, seed):
    decision = read(Decision, plain)
    assert decision is not None
    _, made = some_world(seed % 5, 6)
    seen = made.observe()
    assert check_decision(seen, decision, made.policy)
    assert check_alone(seen, replace(decision, snapshot_generation=-1))


@pytest.mark.parametrize("noun", NOUNS)
@MANY
@given(data=st.data())
def test_what_the_schema_refuses_is_refused_and_what_it_admits_is_read(noun, data):
    """One value anywhere in a valid file is replaced by something odd, left out, or given a name that nobody knows."""
    _, made = some_world(data.draw(st.integers(0, 3)), 8)
    seen = made.observe()
    whole = {Policy: made.policy, Snapshot: seen, Decision: decide(seen, made.policy, made.memory, made.now_ms)}[noun]
    plain = json.loads(json.dumps(to_plain(whole)))
    _spoil(plain, data.draw)
    assert VALIDATORS[noun].is_valid(plain) == (read(noun, plain) is not None)


@pytest.mark.parametrize("written", ["7.0", "0.7e1", "70e-1", "7E0"])
def test_a_whole_number_is_one_however_it_is_written(written):
    text = json.dumps(to_plain(rules()) | {"usage_retention_days": "HERE"}).replace('"HERE"', written)
    assert VALIDATORS[Policy].is_valid(json.loads(text))
    assert from_json_strict(Policy, text).usage_retention_days == 7


@pytest.mark.parametrize("written", ["7.5", "9007199254740992.5", "1e999999999", '"7.0"', "7.0, 1"])
def test_what_is_no_whole_number_is_refused_with_its_place_and_never_rounded(written):
    text = json.dumps(to_plain(rules()) | {"usage_retention_days": "HERE"}).replace('"HERE"', written)
    with pytest.raises(ValidationError):
        from_json_strict(Policy, text)


def _spoil(plain: Any, draw) -> None:
    at = plain
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = draw(st.sampled_from(keys))
        if isinstance(at[key], (dict, list)) and at[key] and draw(st.booleans()):
            at = at[key]
            continue
        what = draw(st.sampled_from(("odd", "odd", "gone", "more")))
        if what == "more" and isinstance(at, dict):
            at["surprise"] = 1
        elif what == "gone":
            del at[key]
        else:
            at[key] = draw(st.sampled_from(ODD))
        return
