"""What a later decision may follow from the one before, and what is decided from nothing: each reason alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.fleet.board import Reach, Site
from policies.model.inventory import DeviceHealth, Flavor, ScrubState, WorkerState
from policies.model.memory import ClaimMemory, Drain, Memory
from policies.model.policy import ModeDeclaration, ModeOverlay, OperatingMode
from policies.model.snapshot import Gap, GapKind
from policies.model.units import SecurityDomain
from policies.model.workload import Demand, Reservation
from policies.turns.changes import Change
from policies.turns.exchanging import rehoused
from policies.turns.following import FEW, LONGEST_STANDING, MUCH, follow
from policies.turns.standing import lay_out
from tests.policies.crowds import CROWDS, crowd
from tests.policies.looking import FOUR
from tests.policies.situations import NOW_MS, claim, device, rules, running, snapshot

CHAT, BULK = claim("civil/x:chat"), claim("civil/y:bulk")
RULES = replace(
    rules(), overlays=(ModeOverlay(mode=OperatingMode.CRISIS, paused_classes=("batch",)),),
    declaration=ModeDeclaration(
        mode=OperatingMode.CRISIS, declared_at_ms=0, expires_at_ms=NOW_MS + 1_000, approvers=("ana", "ben")
    ),
)  # fmt: skip
SOON = Reservation(
    id="r", tenant="defence", flavor="A", gpu_millis=1000, starts_at_ms=NOW_MS + 10**9, ends_at_ms=NOW_MS + 2 * 10**9
)
SEEN = snapshot(FOUR, [CHAT, BULK], running(CHAT, ("G0",)), running(BULK, ("G1",)), demands=[(CHAT.id, 1)],
                reservations=(SOON,))  # fmt: skip
GAP = (Gap(kind=GapKind.GATEWAY, subject="civil", cause="timeout", since_ms=NOW_MS),)


def follows(seen, policy=RULES, now_ms=NOW_MS, memory=Memory(), age=0) -> bool:  # noqa: B008  # a frozen noun
    standing = lay_out(SEEN, RULES, Memory(), NOW_MS)
    standing.age = age
    is_followed = follow(standing, seen, policy, memory, now_ms)
    assert standing.age == age + is_followed
    return is_followed


def at(items, index: int, **fields):
    return tuple(replace(one, **fields) if place == index else one for place, one in enumerate(items))


FOLLOWED = {
    "nothing": SEEN,
    "a device is wiped": replace(SEEN, devices=at(SEEN.devices, 2, scrub=ScrubState.SCRUBBING)),
    "a device is of a domain": replace(SEEN, devices=at(SEEN.devices, 2, domain=SecurityDomain.DEFENCE)),
    "a worker starts": replace(SEEN, workers=at(SEEN.workers, 0, state=WorkerState.STARTING)),
    "a worker goes": replace(SEEN, workers=SEEN.workers[1:], groups=SEEN.groups[1:]),
    "a worker is on another device": replace(SEEN, workers=at(SEEN.workers, 0, devices=("G3",))),
    "a group stops": replace(SEEN, groups=at(SEEN.groups, 0, running=0)),
    "a claim goes": replace(SEEN, claims=SEEN.claims[1:]),
    "a demand changes": replace(SEEN, demands=at(SEEN.demands, 0, replicas=0)),
    "a demand comes": replace(
        SEEN, demands=(*SEEN.demands, Demand(claim=BULK.id, replicas=1, observed_at_ms=NOW_MS))
    ),
}  # fmt: skip
FROM_NOTHING = {
    "a device could not be wiped": replace(SEEN, devices=at(SEEN.devices, 2, scrub=ScrubState.FAILED)),
    "a device is suspected": replace(SEEN, devices=at(SEEN.devices, 2, health=DeviceHealth.SUSPECT)),
    "a device has less memory": replace(SEEN, devices=at(SEEN.devices, 2, memory_mib=40_000)),
    "a device is gone": replace(SEEN, devices=SEEN.devices[:-1]),
    "a device came": replace(SEEN, devices=(*SEEN.devices, device("G4"))),
    "a device is another": replace(SEEN, devices=(*SEEN.devices[:-1], device("G4"))),
    "a worker is lost": replace(SEEN, workers=at(SEEN.workers, 0, state=WorkerState.LOST)),
    "a worker has the device of another": replace(SEEN, workers=at(SEEN.workers, 0, devices=("G1",))),
    "a worker has a device twice": replace(SEEN, workers=at(SEEN.workers, 0, devices=("G3", "G3"))),
    "a host is closed": replace(SEEN, nodes=at(SEEN.nodes, 0, schedulable=False)),
    "a flavor came": replace(SEEN, flavors=(*SEEN.flavors, Flavor(id="B", model="B", memory_mib=1))),
    "something was not seen": replace(SEEN, gaps=GAP),
    "a domain is adopted": replace(SEEN, adopting=(SecurityDomain.CIVIL,)),
    "a reservation is gone": replace(SEEN, reservations=()),
    "a reservation is larger": replace(SEEN, reservations=(replace(SOON, gpu_millis=2000),)),
    "a claim occurs twice": replace(SEEN, claims=SEEN.claims * 2),
    "a group occurs twice": replace(SEEN, groups=SEEN.groups * 2),
    "a worker occurs twice": replace(SEEN, workers=SEEN.workers * 2),
    "a demand occurs twice": replace(SEEN, demands=SEEN.demands * 2),
    "a device occurs twice": replace(SEEN, devices=SEEN.devices * 2),
}


@pytest.mark.parametrize("seen", FOLLOWED.values(), ids=FOLLOWED)
def test_what_happens_every_day_is_followed(seen):
    assert follows(seen)


@pytest.mark.parametrize("seen", FROM_NOTHING.values(), ids=FROM_NOTHING)
def test_what_changes_the_fleet_or_is_listed_twice_is_decided_from_nothing(seen):
    assert not follows(seen)


def test_another_policy_another_mode_or_a_reservation_that_begins_or_ends_is_decided_from_nothing():
    assert not follows(SEEN, replace(RULES, revision="other"))
    assert follows(SEEN, now_ms=NOW_MS + 999)
    assert not follows(SEEN, now_ms=NOW_MS + 1_000), "the mode has ended"
    assert not follows(SEEN, now_ms=SOON.starts_at_ms)
    known = ClaimMemory(claim=CHAT.id, rung=0)
    assert follows(SEEN, memory=Memory(claims=(known,)))
    assert not follows(SEEN, memory=Memory(claims=(known, known)))


def test_everything_is_laid_out_anew_after_so_many_decisions():
    assert follows(SEEN, age=LONGEST_STANDING - 1)
    assert not follows(SEEN, age=LONGEST_STANDING)


@pytest.mark.parametrize("changed", [FEW, FEW + 1])
@pytest.mark.parametrize("others", [0, 1])
def test_few_changes_are_followed_and_many_only_where_they_are_a_small_part(changed, others):
    """Of three times as many as changed, and one or none more, a part too large is laid out anew with all."""
    many = [claim(f"civil/x:c{index:03}") for index in range(MUCH * changed - 1 + others)]
    standing = lay_out(snapshot(FOUR, many), rules(), Memory(), NOW_MS)
    other = [replace(one, desired_replicas=0, min_replicas=0) if index < changed else one
             for index, one in enumerate(many)]  # fmt: skip
    is_few = changed <= FEW or changed <= len(many) // MUCH
    assert follow(standing, snapshot(FOUR, other), rules(), Memory(), NOW_MS) is is_few


def test_a_drain_of_a_group_that_is_no_more_concerns_nobody():
    assert follows(SEEN, memory=Memory(drains=(Drain(group="gone", since_ms=NOW_MS),)))


def test_a_worker_is_housed_anew_where_it_came_went_moved_or_is_of_another_domain_and_not_where_its_state_changed():
    (one, other) = SEEN.workers
    for change, concerned in (
        ({}, False), ({"state": WorkerState.STARTING}, False), ({"ray_node_id": "n"}, False), ({"since_ms": 5}, False),
        ({"domain": SecurityDomain.DEFENCE}, True), ({"devices": ("G3",)}, True), ({"node": "n1"}, True),
    ):  # fmt: skip
        made = Change(gone={one.id: one}, new={one.id: replace(one, **change)})
        assert rehoused(made) == ({one.id} if concerned else set())
    assert rehoused(Change(gone={one.id: one}, new={other.id: other})) == {one.id, other.id}


@pytest.mark.parametrize("seed", range(0, CROWDS, 10))
def test_workers_that_are_bound_and_unbound_again_leave_the_board_as_it_was(seed):
    here = crowd(seed)
    board = lay_out(here.snapshot, here.policy, here.memory, NOW_MS).work.board
    for device_ in here.snapshot.devices:
        for domain in SecurityDomain:
            before, watch = dict(board.worker_of), board.watch()
            site = Site(worker=f"new-{device_.id}", node=device_.node, devices=(device_.id,), reach=Reach.BOUND,
                        free_millis=0, free_memory_mib=0)  # fmt: skip
            done = board.bind(site, domain)
            bound = board.worker_of[device_.id]
            assert (bound.id, bound.domain, bound.devices) == (site.worker, domain, (device_.id,))
            gpu = {one.id for one in here.snapshot.devices if one.gpu == device_.gpu}
            ended = {before[one].id for one in gpu if one in before and before[one].domain != domain}
            ended |= {before[device_.id].id} if device_.id in before else set()
            assert {one.id for one in before.values()} - {one.id for one in board.worker_of.values()} == ended
            assert board.rebound >= {one for one, worker in before.items() if worker.id in ended} | {device_.id}
            assert board.changed(watch) == {device_.node}
            assert board.changed(watch) == set()
            assert board.bind(site, domain) == []
            board.unbind(done)
            assert board.worker_of == before
            assert device_.node in board.changed(watch)
