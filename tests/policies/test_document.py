"""The shipped policy is valid; what is wrong in a document is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.document import parse_policy
from policies.errors import DocumentInvalid

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
