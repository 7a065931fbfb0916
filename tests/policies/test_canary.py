"""A variant is tried on part of a claim's requests: who may be a canary, what it gets, when it ends."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from policies.canary import concluded, faults_of_canary, promoted, trials, weighted, with_canary
from policies.model.inventory import Group, GroupState
from policies.model.routing import Route, RoutedGroup
from policies.model.snapshot import Snapshot
from policies.model.workload import Canary, Claim, ClaimKind, Shape, TrialKind
from serving.gateway.choice import Place, Wish, choose

MAIN = Claim(
    id="civil/justice:chat",
    tenant="civil/justice",
    kind=ClaimKind.SERVING,
    model="small",
    ladder=(Shape(flavors=("H100",), variant="f16"), Shape(flavors=("H100",), variant="q8")),
    max_replicas=4,
)
TRIAL = replace(
    MAIN,
    id="civil/justice:chat-canary",
    ladder=(Shape(flavors=("H100",), variant="q4"),),
    canary=Canary(of=MAIN.id, weight_percent=10),
)


def routed(name: str, variant: str) -> RoutedGroup:
    return RoutedGroup(group=name, variant=variant, rung=0, replicas=1, concurrency=4)


def test_a_shadow_gets_copies_and_never_answers_though_the_main_claim_has_no_replica() -> None:
    main = Route(claim=MAIN.id, tenant=MAIN.tenant, model="small", groups=(), min_replicas=1, max_replicas=4)
    own = replace(main, claim=TRIAL.id, groups=(routed("new", "q4"),))
    shadow = Canary(of=MAIN.id, weight_percent=30, trial=TrialKind.SHADOW)
    assert with_canary(main, own, shadow).groups == ()
    served = replace(main, groups=(routed("old", "q4"),))
    both = with_canary(served, own, shadow)
    assert (both.canary, both.shadow.permille, both.shadow.claim) == (None, 300, TRIAL.id)
    places = [Place(routed=each) for each in both.groups]
    assert {choose(both, places, Wish(lot=lot)).routed.group for lot in range(0, 1000, 50)} == {"old"}


def test_a_shadow_that_is_promoted_answers() -> None:
    trial = replace(TRIAL, canary=replace(TRIAL.canary, trial=TrialKind.SHADOW))
    assert promoted(MAIN, trial)[1].canary.trial is TrialKind.ANSWER


def faults(claim: Claim, *known: Claim) -> list[str]:
    return [pointer for pointer, _ in faults_of_canary(claim, known)]


def test_a_canary_names_another_claim_of_its_tenant_and_model_and_a_part_between_0_and_100() -> None:
    assert faults(TRIAL, MAIN) == []
    assert faults(MAIN, TRIAL) == [], "no canary itself"
    assert faults(TRIAL) == ["/canary/of"], "there is no such claim"
    assert faults(TRIAL, replace(MAIN, tenant="civil/tax")) == ["/canary/of"]
    assert faults(TRIAL, replace(MAIN, tenant="defence/cyber")) == ["/canary/of"]
    assert faults(TRIAL, replace(MAIN, model="large")) == ["/canary/of"]
    assert faults(replace(TRIAL, kind=ClaimKind.JOB), MAIN) == ["/canary/of"]
    assert faults(replace(TRIAL, canary=Canary(of=TRIAL.id)), MAIN) == ["/canary/of"], "nobody is tried for itself"
    for weight in (-1, 101):
        assert faults(replace(TRIAL, canary=Canary(of=MAIN.id, weight_percent=weight)), MAIN) == [
            "/canary/weight_percent"
        ]


def test_a_claim_has_one_canary_and_a_canary_has_none() -> None:
    second = replace(TRIAL, id="civil/justice:chat-other")
    assert faults(second, MAIN, TRIAL) == ["/canary/of"]
    nested = replace(TRIAL, id="civil/justice:nested", canary=Canary(of=TRIAL.id))
    assert faults(nested, MAIN, TRIAL) == ["/canary/of"]
    assert faults(replace(MAIN, canary=Canary(of="civil/justice:x")), TRIAL, replace(MAIN, id="civil/justice:x")) == [
        "/canary"
    ]


def test_a_canary_without_its_main_claim_answers_for_itself() -> None:
    assert trials((MAIN, TRIAL)) == {MAIN.id: TRIAL}
    assert trials((TRIAL,)) == {}
    assert trials((replace(MAIN, model="large"), TRIAL)) == {}


names = st.integers(1, 3)


def routes(mains: int, lent: int, weight: int) -> Route:
    def groups(name: str, count: int) -> tuple[RoutedGroup, ...]:
        return tuple(
            RoutedGroup(group=f"{name}{n}", variant="f16", rung=n % 2, replicas=1, concurrency=2) for n in range(count)
        )

    def of(claim: Claim, found: tuple[RoutedGroup, ...]) -> Route:
        return Route(
            claim=claim.id, tenant=claim.tenant, model=claim.model, groups=found, min_replicas=1, max_replicas=4
        )

    return with_canary(
        of(MAIN, groups("m", mains)), of(TRIAL, groups("c", lent)), Canary(of=MAIN.id, weight_percent=weight)
    )


def chosen(route: Route, lot: int, full: str = "") -> str:
    """Return the group that a request of the lot goes to; all groups of one claim may be full."""
    places = [
        Place(routed=group, in_flight=2 if full and group.group.startswith(full) else 0)
        for group in sorted(route.groups, key=lambda group: (group.rung, group.group))
    ]
    found = choose(route, places, Wish(lot=lot))
    return "" if found is None else str(found.routed.group)[0]


@given(names, names, st.integers(0, 100))
def test_of_a_thousand_requests_the_canary_gets_exactly_its_weight_even_of_a_variant_that_both_run(
    mains: int, lent: int, weight: int
) -> None:
    route = routes(mains, lent, weight)
    assert sum(chosen(route, lot) == "c" for lot in range(1_000)) == weight * 10


@given(names, st.integers(0, 100), st.integers(0, 999), st.sampled_from("mc"))
def test_whichever_of_the_two_has_no_replica_the_other_answers_everything(
    count: int, weight: int, lot: int, only: str
) -> None:
    route = routes(count if only == "m" else 0, count if only == "c" else 0, weight)
    assert chosen(route, lot) == only


@given(names, names, st.integers(1, 100), st.integers(0, 999), st.sampled_from("mc"))
def test_no_request_waits_for_one_variant_while_the_other_has_room(
    mains: int, lent: int, weight: int, lot: int, full: str
) -> None:
    assert chosen(routes(mains, lent, weight), lot, full) == ("c" if full == "m" else "m")


def test_a_canary_with_a_weight_of_zero_is_kept_out_even_when_the_main_claim_is_full() -> None:
    assert chosen(routes(1, 1, 0), 0, full="m") == "", "the request waits: nobody is to meet this variant"


def test_promoting_gives_the_main_claim_the_ladder_and_the_canary_all_it_can_answer_until_then() -> None:
    main, trial = promoted(MAIN, TRIAL)
    assert main == replace(MAIN, ladder=TRIAL.ladder)
    assert trial.canary == Canary(of=MAIN.id, weight_percent=100, promoted=True)


def test_a_promoted_canary_ends_when_the_main_claim_runs_the_new_ladder_and_nothing_else() -> None:
    main, trial = promoted(MAIN, TRIAL)
    new = Group(
        id="new",
        claim=main.id,
        worker="w",
        rung=0,
        variant="q4",
        devices=("d",),
        replicas=1,
        running=1,
        state=GroupState.RUNNING,
        routed=True,
    )
    old = replace(new, id="old", variant="f16", rung=len(main.ladder))

    def ended(*groups: Group, canary: Claim = trial) -> tuple[str, ...]:
        return concluded(Snapshot(generation=1, observed_at_ms=0, claims=(main, canary), groups=groups))

    assert ended(new) == (trial.id,)
    assert ended() == (), "nothing runs yet"
    assert ended(replace(new, routed=False)) == (), "nothing reaches it yet"
    assert ended(new, old) == (), "the old variant still runs"
    assert ended(replace(new, running=0)) == ()
    assert ended(new, canary=TRIAL) == (), "it was not promoted"
    others = replace(new, id="others", claim=trial.id)
    assert ended(others) == (), "what the canary itself runs is not the main claim's"
    assert ended(new, replace(others, rung=len(main.ladder))) == (trial.id,)


def test_a_claim_is_no_canary_of_itself() -> None:
    own = replace(MAIN, canary=Canary(of=MAIN.id, weight_percent=10))
    assert [path for path, _ in faults_of_canary(own, [own])] == ["/canary/of"]


def test_the_part_of_a_canary_may_be_set_anew_from_nothing_to_everything() -> None:
    for percent, is_possible in ((-1, False), (0, True), (100, True), (101, False)):
        again = weighted(TRIAL, percent)
        assert again.canary is not None
        assert again.canary.weight_percent == percent
        assert (list(faults_of_canary(again, [MAIN])) == []) == is_possible
    assert weighted(MAIN, 5) == MAIN, "a claim that is no canary is as it was"
