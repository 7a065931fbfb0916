"""The shipped policy is valid; what is wrong in a document is named with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policies.documents.document import parse_policy
from policies.documents.errors import DocumentInvalid
from policies.model.codec import schema, to_json
from policies.model.decision import Decision
from policies.model.plan import Plan
from policies.model.policy import Policy
from policies.model.snapshot import Snapshot
from policies.model.workload import Claim

DEFAULT = Path(__file__).parents[2] / "policies" / "profiles" / "default.yaml"


def test_the_shipped_policy_is_valid():
    policy = parse_policy(DEFAULT.read_text(), "default.yaml")
    assert {tenant.id for tenant in policy.tenants} >= {"defence/cyber", "civil/justice"}


@pytest.mark.parametrize(
    ("old", "new", "line", "path"),
    [
        ("fair_weight: 2", "fair_weight: -2", 19, "spec.tenants.1.fair_weight"),
        ("fair_weight: 2", "fair_wieght: 2", 19, "spec.tenants.1.fair_wieght"),
        ("fair_weight: 2", "fair_weight: 2.5", 19, "spec.tenants.1.fair_weight"),
        ("fair_weight: 2", "fair_weight: two", 19, "spec.tenants.1.fair_weight"),
        ("fair_weight: 2", "fair_weight: 2\n      fair_weight: 3", 20, "spec.tenants.1.fair_weight"),
        ("apiVersion: partage/v1", "apiVersion: partage/v2", 3, "apiVersion"),
        ("kind: Policy", "kind: Polity", 4, "kind"),
    ],
)
def test_a_fault_is_named_with_its_line_and_path(old, new, line, path):
    text = DEFAULT.read_text().replace(old, new, 1)
    with pytest.raises(DocumentInvalid) as caught:
        parse_policy(text, "policy.yaml")
    assert (caught.value.line, caught.value.path) == (line, path)
    assert str(caught.value).startswith(f"policy.yaml:{line}:")


@pytest.mark.parametrize("noun", [Policy, Snapshot, Decision, Claim, Plan], ids=lambda noun: noun.__name__)
def test_every_field_that_others_read_or_write_is_described_and_no_other_is_accepted(noun):
    described = schema(noun)
    for name, one in [(noun.__name__, described), *described.get("$defs", {}).items()]:
        if "properties" in one:
            assert one["additionalProperties"] is False, name
            assert [field for field, text in one["properties"].items() if not text.get("description")] == [], name


@pytest.mark.parametrize("days", [0, 30])
def test_use_may_be_kept_for_any_number_of_days_or_none(days):
    text = DEFAULT.read_text().replace("  revision: default-1", f"  revision: a\n  usage_retention_days: {days}")
    assert parse_policy(text).usage_retention_days == days


def test_json_is_written_with_sorted_keys_and_without_spaces_unless_it_is_for_people():
    policy = parse_policy(DEFAULT.read_text())
    plain = json.loads(to_json(policy))
    assert to_json(policy) == json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert to_json(policy, indent=2) == json.dumps(plain, sort_keys=True, indent=2, ensure_ascii=False)
