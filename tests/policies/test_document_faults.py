"""Whatever a file holds, the answer is the policy or one sentence with file, line, column and path."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.decide import decide
from policies.documents.document import MOMENT, kind_of, parse_claims, parse_policy
from policies.documents.errors import DocumentInvalid
from policies.documents.soundness import (
    MOST_LEVELS,
    MOST_REPLICAS,
    faults_of_claim,
    faults_of_policy,
    faults_of_snapshot,
)
from policies.documents.yamltext import DEPTH_LIMIT, NODE_LIMIT, TEXT_LIMIT, documents
from policies.model.decision import PendingReason
from policies.model.memory import Memory
from policies.model.tenancy import Tenant
from policies.model.units import SecurityDomain
from policies.model.workload import ClaimKind, Reservation, Shape
from tests.policies.looking import code
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot
from tests.policies.test_document import DEFAULT

POLICY = DEFAULT.read_text()
CLAIM = """apiVersion: partage/v1
kind: Claim
spec:
  id: civil/justice:chat
  tenant: civil/justice
  kind: serving
  ladder:
    - flavors: [H100-80GB]
      gpu_millis: 500
"""


def refused(text: str, parse=parse_policy) -> DocumentInvalid:
    with pytest.raises(DocumentInvalid) as caught:
        parse(text, "site.yaml")
    assert str(caught.value).startswith(f"site.yaml:{caught.value.line}:{caught.value.column}")
    return caught.value


def faults_of(text: str, parse) -> list[str]:
    """Return the file that each fault names; anything but a named fault is an error of this test."""
    try:
        parse(text, "site.yaml")
    except DocumentInvalid as fault:
        return [str(fault).split(f":{max(1, fault.line)}:{max(1, fault.column)}", maxsplit=1)[0]]
    return []


@pytest.mark.parametrize(
    ("text", "line", "column", "word"),
    [
        ("\ufeff" + POLICY, 1, 1, "byte order mark"),
        ("kind: Policy\n\tspec: 1\n", 2, 1, "tab"),
        ("kind: Policy\nspec: 1.5\n", 2, 7, "quotes"),
        ("a: &x 1\nb: *x\n", 1, 4, "anchors"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", 1, 4, "anchors"),
        ("<<: {a: 1}\n", 1, 1, "plain text"),
        ("a: !!python/object:os.system x\n", 1, 4, "tags"),
        ("a: 1\na: 2\n", 2, 1, "occurs twice"),
        ("a: .inf\n", 1, 4, "whole numbers"),
        ("a: 0x10\n", 1, 4, "decimal"),
        ("a: 99999999999999999999\n", 1, 4, "decimal"),
        ("a: [1, 2\n", 2, 1, "expected"),
        ("a: 'no end\n", 2, 1, "end of stream"),
        ("a: \x00\n", 1, 4, "not accepted"),
    ],
)
def test_odd_text_is_refused_at_its_place(text, line, column, word):
    fault = refused(text)
    assert (fault.line, fault.column) == (line, column)
    assert word in str(fault)


def test_a_file_that_is_too_long_too_deep_or_too_many_is_refused_before_it_is_read():
    assert f"{TEXT_LIMIT}" in str(refused("# " + "x" * TEXT_LIMIT))
    assert f"{DEPTH_LIMIT}" in str(refused("[" * (DEPTH_LIMIT + 1) + "]" * (DEPTH_LIMIT + 1)))
    assert f"{NODE_LIMIT}" in str(refused("[" + "1," * NODE_LIMIT + "1]"))


def test_a_file_without_a_document_or_with_two_is_no_policy():
    assert "found 0" in str(refused("# nothing\n"))
    assert "found 2" in str(refused(f"{POLICY}\n---\n{POLICY}"))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [("parent: civil\n", "parent: civil/justice\n", "parent"), ("id: civil/justice\n", "id: civil/Justice\n", "id")],
)
def test_a_tenant_above_itself_or_of_an_impossible_name_is_refused_with_its_path(old, new, field):
    index = POLICY.index("civil/justice") - 30
    fault = refused(POLICY[:index] + POLICY[index:].replace(old, new, 1))
    assert fault.path.startswith("spec.tenants.")
    assert fault.path.endswith(f".{field}")
    assert fault.line > 1


@pytest.mark.parametrize(
    ("old", "new", "path", "word"),
    [
        ("  revision: default-1", "  revision: ' '", "spec.revision", "name"),
        ("  revision: default-1", "  revision: a\n  scoring: best", "spec.scoring", "choose one of"),
        ("  revision: default-1", "  revision: a\n  usage_retention_days: -1", "spec.usage_retention_days", "negative"),
        ("  revision: default-1", "  revision: a\n  flavors: [B]", "spec.tenants.0.quotas.0.flavor", "not among"),
        ("        - [H100-80GB, 1000]", "        - [H100-80GB, 9]\n        - [H100-80GB, 8]",
         "spec.tenants.0.floor_millis.1", "twice"),
        ("      parent: defence\n", "", "spec.tenants.1.parent", "below defence"),
        ("    - mode: heightened", "    - mode: normal", "spec.overlays.0.mode", "nothing overlays"),
        ("- {flavor: H100-80GB, nominal_millis: 2000}",
         "- {flavor: H100-80GB, nominal_millis: 2000, lending_limit_millis: most}",
         "spec.tenants.0.quotas.0.lending_limit_millis", "whole number or unlimited"),
    ],
)  # fmt: skip
def test_what_means_nothing_in_a_policy_is_refused_with_its_path(old, new, path, word):
    fault = refused(POLICY.replace(old, new, 1))
    assert fault.path == path
    assert word in fault.fault


def test_a_tree_of_tenants_that_is_deeper_than_any_organisation_is_refused():
    paths = ["/".join(["civil", *["d"] * depth]) for depth in range(1, MOST_LEVELS + 1)]
    tenants = tuple(
        Tenant(id=path, domain=SecurityDomain.CIVIL, parent=path.rpartition("/")[0] or None)
        for path in ("civil", *paths)
    )  # fmt: skip
    policy = replace(parse_policy(POLICY), tenants=tenants, overlays=())
    assert [fault for _, fault in faults_of_policy(policy)] == [
        f"{paths[-1]} has more than {MOST_LEVELS - 1} tenants above it"
    ]


SEEN = snapshot([device("G0")], [claim("civil/x:one")], running(claim("civil/x:one"), ("G0",)))


def test_what_occurs_twice_or_ends_before_it_begins_is_refused_in_a_snapshot():
    twice = replace(SEEN, devices=SEEN.devices * 2)
    back = Reservation(id="civil:r", tenant="civil", flavor="A", gpu_millis=0, starts_at_ms=5, ends_at_ms=5)
    assert [fault for _, fault in faults_of_snapshot(twice)] == ["G0 occurs twice"]
    assert len(list(faults_of_snapshot(replace(SEEN, reservations=(back,))))) == 2


def test_a_claim_with_a_minimum_below_nothing_is_refused_and_given_nothing():
    odd = replace(claim("civil/x:odd"), min_replicas=-1, desired_replicas=0, max_replicas=0)
    decision = decide(snapshot([device("G0")], [odd]), rules(), Memory(), NOW_MS)
    assert decision.placements == ()
    assert decision.reasons[0].code is PendingReason.MISCONFIGURED


@pytest.mark.parametrize("count", [MOST_REPLICAS + 1, 10**9])
def test_a_claim_of_more_replicas_than_anybody_has_is_refused_and_stops_no_decision(count):
    vast = replace(claim("civil/x:vast"), desired_replicas=count, max_replicas=count)
    assert [path for path, _ in faults_of_claim(vast)] == [("max_replicas",)]
    decision = decide(snapshot([device("G0")], [vast]), rules(), Memory(), NOW_MS)
    assert code(decision, vast.id) is PendingReason.MISCONFIGURED


def test_a_shape_without_a_device_that_runs_all_the_same_stops_no_decision():
    none = claim("civil/x:none", ladder=(Shape(flavors=("A",), devices=0),))
    decision = decide(snapshot([device("G0")], [none], running(none, ("G0",))), rules(), Memory(), NOW_MS)
    assert code(decision, none.id) is PendingReason.MISCONFIGURED


@pytest.mark.parametrize(
    ("old", "new", "path", "line"),
    [
        ("id: civil/justice:chat", "id: civil/health:chat", "spec.id", 4),
        ("gpu_millis: 500", "gpu_millis: 0", "spec.ladder.0", 8),
        ("gpu_millis: 500", "gpu_millis: 500\n      devices: 2", "spec.ladder.0.gpu_millis", 9),
        ("gpu_millis: 500", "gpu_millis: half", "spec.ladder.0.gpu_millis", 9),
        ("kind: serving", "kind: lunch", "spec.kind", 6),
        ("kind: serving", "kind: serving\n  min_replicas: 3", "spec.min_replicas", 7),
        ("kind: serving", "kind: serving\n  colour: blue", "spec.colour", 7),
        ("  tenant: civil/justice\n", "", "spec.tenant", 3),
        ("kind: serving", "kind: serving\n  duration_s: 0", "spec.duration_s", 7),
        ("kind: serving", "kind: serving\n  expires_at_ms: 0", "spec.expires_at_ms", 7),
    ],
)
def test_a_fault_of_a_claim_is_named_with_its_place(old, new, path, line):
    assert len(parse_claims(CLAIM)) == 1
    fault = refused(CLAIM.replace(old, new, 1), parse_claims)
    assert (fault.path, fault.line) == (path, line)


def test_a_date_where_milliseconds_belong_is_refused_with_what_to_write():
    fault = refused(
        CLAIM.replace("  kind: serving\n", "  kind: serving\n  deadline_ms: 2026-10-25T02:30:00+02:00\n"), parse_claims
    )
    assert "milliseconds since 1970 in UTC" in str(fault)


def test_of_many_claims_the_one_at_fault_is_found():
    fault = refused(f"{CLAIM}---\n{CLAIM.replace('500', '5000')}", parse_claims)
    assert fault.line == len(CLAIM.splitlines()) + 1 + 8


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_at_all_is_either_claims_or_one_named_fault(text):
    assert faults_of(text, parse_claims) in ([], ["site.yaml"])


@settings(deadline=None)
@given(st.integers(0, len(POLICY) - 1), st.characters())
def test_one_character_that_differs_never_ends_in_anything_but_a_policy_or_a_named_fault(place, character):
    assert faults_of(POLICY[:place] + character + POLICY[place + 1 :], parse_policy) in ([], ["site.yaml"])


def test_all_faults_of_a_document_are_told_at_once_in_the_order_of_its_lines():
    text = POLICY.replace("fair_weight: 2", "fair_weight: -2", 1).replace("parent: civil\n", "parent: nobody\n", 1)
    first = refused(text)
    assert [fault.path for fault in (first, *first.others)][:2] == [
        "spec.tenants.1.fair_weight",
        "spec.tenants.4.parent",
    ]
    lines = [fault.line for fault in (first, *first.others)]
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("- [H100-80GB, 1000]", "H100-80GB: 1000", "expected a list"),
        ("fair_weight: 2", "fair_weight: two", "expected a whole number"),
        ("revision: default-1", "revision: 2026", "expected text; put it in quotes"),
        ("quotas:", "quotes:", "unknown field"),
        ("fair_weight: 2", "limits: {tokens_per_day: -1}", "leave it out for no limit"),
        ("fair_weight: 2", "limits: {tokens_per_week: 1}", "unknown field"),
    ],
)
def test_a_fault_of_form_says_what_is_expected_in_the_words_of_a_document(old, new, word):
    assert word in str(refused(POLICY.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("terms", "is_possible"),
    [
        ({"gpu_millis": 1}, True), ({"gpu_millis": 1000}, True), ({"gpu_millis": 0}, False),
        ({"gpu_millis": 1001}, False),
        ({"devices": 0}, False), ({"devices": 1}, True), ({"devices": 2}, True), ({"memory_mib": -1}, False),
        ({"devices": 2, "gpu_millis": 999}, False),
    ],
)  # fmt: skip
def test_a_shape_that_no_device_could_have_is_said_to_be_misconfigured(terms, is_possible):
    wish = claim("civil/x:odd", ladder=(Shape(flavors=("A",), **terms),))
    assert (list(faults_of_claim(wish)) == []) == is_possible
    decision = decide(snapshot([device("G0"), device("G1")], [wish]), rules(), Memory(), NOW_MS)
    assert (code(decision, wish.id) is not PendingReason.MISCONFIGURED) == is_possible


@pytest.mark.parametrize(("least", "desired", "most", "is_possible"), [
    (0, 0, 0, True), (1, 1, 1, True), (2, 1, 2, False), (1, 3, 2, False), (-1, 1, 1, False),
    (1, 1, MOST_REPLICAS, True), (1, 1, MOST_REPLICAS + 1, False),
])  # fmt: skip
def test_replicas_that_are_not_in_order_or_too_many_are_said_to_be_misconfigured(least, desired, most, is_possible):
    wish = claim("civil/x:odd", least=least, desired=desired, most=most)
    assert (list(faults_of_claim(wish)) == []) == is_possible
    decision = decide(snapshot([device("G0")], [wish]), rules(), Memory(), NOW_MS)
    assert (code(decision, wish.id) is not PendingReason.MISCONFIGURED) == is_possible


def test_a_document_that_names_no_kind_is_refused():
    assert kind_of(CLAIM) == "Claim"
    assert kind_of(f"{CLAIM}---\n{POLICY}") == "Claim", "the first says what a file is"
    for text in ("spec: {}", "kind: 7", "- kind", "", "# nothing"):
        assert str(refused(text, kind_of)) == "site.yaml:1:1 at kind: a document names its kind: Policy or Claim"


@pytest.mark.parametrize(
    ("text", "parse", "told"),
    [
        ("", parse_policy, "site.yaml:1:1: expected one document of kind Policy, found 0"),
        ("\n\n - 1\n", parse_policy, "site.yaml:3:2: expected a document of kind Policy"),
        ("apiVersion: partage/v1\nkind: Policy\n", parse_policy, "site.yaml:1:1 at spec: "),
        ("apiVersion: partage/v1\nkind: Policy\nspec: 7\n", parse_policy, "site.yaml:3:1 at spec: "),
        ("kind: Policy\nspec: {}\n", parse_policy, "site.yaml:1:1 at apiVersion: expected partage/v1, found nothing"),
        (f"{CLAIM}colour: red\n", parse_claims, "site.yaml:10:1 at colour: unknown field"),
        (CLAIM.replace("500", "0x1F4"), parse_claims, "site.yaml:9:19 at spec.ladder.0.gpu_millis: '0x1F4' is not"),
        (CLAIM.replace("500", "8:20"), parse_claims, "site.yaml:9:19 at spec.ladder.0.gpu_millis: '8:20' is not"),
        (CLAIM.replace("500", "0500"), parse_claims, "site.yaml:9:19 at spec.ladder.0.gpu_millis: '0500' is not"),
        (CLAIM.replace("[H100-80GB]", "[a, {b: 1}]"), parse_claims, "site.yaml:8:20 at spec.ladder.0.flavors.1: "),
    ],
)
def test_a_fault_is_told_with_its_line_and_column_to_the_letter(text, parse, told):
    assert str(refused(text, parse)).startswith(told)


def test_each_value_is_found_where_it_stands():
    [found] = documents("a: 1\nb:\n  - {c:   2}\n", "site.yaml")
    assert found.value == {"a": 1, "b": [{"c": 2}]}
    assert found.places == {
        (): (1, 1), ("a",): (1, 1), ("b",): (2, 1), ("b", 0): (3, 5), ("b", 0, "c"): (3, 6),
    }  # fmt: skip
    assert found.place(("b", 0, "d")) == (3, 5), "what is missing is said of what it is missing in"
    assert found.place(("z", 1)) == (1, 1)


def test_whole_numbers_are_read_up_to_nineteen_digits_and_words_as_yaml_means_them():
    [found] = documents("[0, -7, +8, 1_000, 9999999999999999999, yes, Off, ~, 2026-01-02, '01']", "site.yaml")
    assert found.value == [0, -7, 8, 1000, 9999999999999999999, True, False, None, "2026-01-02", "01"]


def test_a_tab_that_does_not_indent_is_text():
    [found] = documents("a: 'x\ty'\n", "site.yaml")
    assert found.value == {"a": "x\ty"}


def test_as_deep_as_may_be_is_read():
    [found] = documents("[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT, "site.yaml")
    assert str(found.value).count("[") == DEPTH_LIMIT
    assert documents("- [a]\n" * (DEPTH_LIMIT + 1), "site.yaml"), "side by side is not deep"


def test_a_claim_that_names_a_model_may_leave_the_rest_to_the_catalogue():
    [short] = parse_claims("\n".join(CLAIM.splitlines()[:5]) + "\n  model: chat\n")
    assert (short.ladder, short.kind, short.model) == ((), ClaimKind.SERVING, "chat")
    [own] = parse_claims(CLAIM + "  model: chat\n")
    assert len(own.ladder) == 1
    assert refused("\n".join(CLAIM.splitlines()[:5]), parse_claims).path == "spec.kind"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("deadline_ms: tomorrow", MOMENT),
        ("deadline_ms: [1]", MOMENT),
        ("duration_s: long", "expected a whole number"),
        ("suspended: 1", "expected true or false"),
        ("colour: 7", "unknown field"),
    ],
)
def test_a_moment_is_told_from_other_numbers(line, told):
    text = CLAIM.replace("  kind: serving\n", f"  kind: serving\n  {line}\n")
    assert told in refused(text, parse_claims).fault
    assert (MOMENT in refused(text, parse_claims).fault) == (told == MOMENT)


def test_a_word_that_is_none_of_those_that_may_stand_there_is_told_which_may():
    assert refused(CLAIM.replace("serving", "lunch"), parse_claims).fault == "input should be 'serving' or 'job'"
