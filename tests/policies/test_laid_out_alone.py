"""The wish and the seat of what simply runs, found at once, are those that a look into everything finds."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from policies.evidence.survey import survey
from policies.fleet.board import Seat
from policies.model.inventory import DeviceHealth, GroupState, UsageState
from policies.model.memory import ClaimMemory, Memory
from policies.model.snapshot import Snapshot
from policies.model.units import SecurityDomain
from policies.model.workload import ClaimKind, Demand, Shape
from policies.shares.quota import caps
from policies.turns.alone import each_wish
from policies.turns.setting import seats_of
from policies.wishes.admission import Ask, ask, fleet
from tests.policies.crowds import CROWDS, NOW_MS, crowd
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS as LATER_MS
from tests.policies.situations import claim, rules, running, snapshot

LADDER = (Shape(flavors=("A",)), Shape(flavors=("A",), gpu_millis=500))
ONE = claim("civil/x:one", ladder=LADDER)
RUNS = snapshot(FOUR, [ONE], running(ONE, ("G0",)))


def field_by_field(made: Ask | Seat):
    return [(one.name, getattr(made, one.name)) for one in fields(made)]


def found_at_once(seen: Snapshot, policy, memory: Memory, now_ms: int) -> int:
    """How many were found at once; each is as a look into everything finds it."""
    looked = survey(seen, policy, memory, now_ms)
    size, count = fleet(looked, caps(looked)), 0
    for wish, seat in each_wish(looked, size, {}):
        assert field_by_field(wish) == field_by_field(ask(looked, wish.claim, size, {}))
        if seat is not None:
            (group,) = wish.held
            (other,) = seats_of(looked, group, size.memory)
            assert field_by_field(seat) == field_by_field(other)
            assert (wish.wanted, wish.minimum, wish.leaving) == (1, 1, ())
            count += 1
    return count


@pytest.mark.parametrize("seed", range(0, CROWDS, 2))
def test_in_a_crowd_everybody_wishes_and_stands_as_if_everything_had_been_gone_into(seed):
    here = crowd(seed)
    found_at_once(here.snapshot, here.policy, here.memory, NOW_MS)


def of_claim(**terms):
    return lambda seen: replace(seen, claims=(replace(ONE, **terms),))


def of_group(**state):
    return lambda seen: replace(seen, groups=(replace(seen.groups[0], **state),))


def of_device(**state):
    return lambda seen: replace(seen, devices=(replace(seen.devices[0], **state), *seen.devices[1:]))


def on_doubtful_devices(seen):
    """It holds two devices that take nothing new, and there is but one other: its best rung would fit nowhere."""
    doubtful = [replace(one, health=DeviceHealth.SUSPECT) for one in seen.devices[:2]]
    both = of_group(devices=("G0", "G1"))(of_claim(ladder=(Shape(flavors=("A",), devices=2), *LADDER))(seen))
    return replace(both, devices=(*doubtful, seen.devices[2]))


OTHERWISE = {
    "it wants more": of_claim(desired_replicas=2, max_replicas=2),
    "it may do with nothing": of_claim(min_replicas=0),
    "it is suspended": of_claim(suspended=True),
    "its end has passed": of_claim(expires_at_ms=1),
    "its deadline is near": of_claim(deadline_ms=LATER_MS + 1_000),
    "it asks for more than there is": of_claim(ladder=(Shape(flavors=("A",), devices=9),)),
    "no host could carry what it runs on": on_doubtful_devices,
    "it asks for two devices and has one": of_claim(ladder=(Shape(flavors=("A",), devices=2),)),
    "it has more devices than it asks for": of_group(devices=("G0", "G1")),
    "it runs on a lower rung": of_group(rung=1),
    "it has two replicas": of_group(replicas=2),
    "its start failed": of_group(state=GroupState.FAILED),
    "it is idle": of_group(usage=UsageState.TRULY_IDLE),
    "its device is not known": of_group(devices=("G9",)),
    "its device is lost": of_device(health=DeviceHealth.QUARANTINED),
    "its worker is gone": lambda seen: replace(seen, workers=()),
    "its worker is the other domain's": lambda seen: replace(
        seen, workers=(replace(seen.workers[0], domain=SecurityDomain.DEFENCE),)
    ),
    "it has a second group": lambda seen: replace(seen, groups=(*seen.groups, replace(seen.groups[0], id="other"))),
    "nothing of it runs": lambda seen: replace(seen, groups=()),
    "more is asked of it": lambda seen: replace(
        replace(seen, claims=(replace(ONE, max_replicas=3),)),
        demands=(Demand(claim=ONE.id, replicas=3, observed_at_ms=LATER_MS),),
    ),
}  # fmt: skip


def test_a_claim_that_simply_runs_is_found_at_once_with_or_without_a_sample_of_its_demand():
    job = replace(RUNS, claims=(replace(ONE, kind=ClaimKind.JOB),))
    asked = replace(RUNS, demands=(Demand(claim=ONE.id, replicas=1, observed_at_ms=LATER_MS),))
    for seen in (RUNS, job, asked, replace(RUNS, adopting=(SecurityDomain.CIVIL,))):
        assert found_at_once(seen, rules(), Memory(), LATER_MS) == 1
        for rung in (None, 0):
            memory = Memory(claims=(ClaimMemory(claim=ONE.id, rung=rung, waiting_since_ms=1),))
            assert found_at_once(seen, rules(), memory, LATER_MS) == 1


@pytest.mark.parametrize("change", OTHERWISE.values(), ids=OTHERWISE)
def test_each_of_these_alone_is_gone_into(change):
    for adopting in ((), (SecurityDomain.CIVIL,)):
        assert found_at_once(replace(change(RUNS), adopting=adopting), rules(), Memory(), LATER_MS) == 0


@pytest.mark.parametrize("known", [{"rung": 1}, {"rung": 0, "idle_since_ms": 1}], ids=["a lower rung", "idle"])
def test_what_was_on_a_lower_rung_or_idle_is_gone_into(known):
    assert found_at_once(RUNS, rules(), Memory(claims=(ClaimMemory(claim=ONE.id, **known),)), LATER_MS) == 0
