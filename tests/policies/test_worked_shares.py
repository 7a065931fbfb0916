"""Shares that anybody can check by hand: who is promised what, down the tree."""

from __future__ import annotations

import pytest

from policies.model.tenancy import Quota, Tenant
from policies.model.units import UNLIMITED, SecurityDomain
from policies.shares.entitlement import Node, entitle, fill, tree


def tenant(name: str, nominal: int | None, *, lends=UNLIMITED, borrows=UNLIMITED, floor=0, weight=1) -> Tenant:
    quota = () if nominal is None else (
        Quota(flavor="A", nominal_millis=nominal, lending_limit_millis=lends, borrowing_limit_millis=borrows),
    )  # fmt: skip
    return Tenant(
        id=name, domain=SecurityDomain(name.partition("/")[0]), parent=name.rpartition("/")[0] or None, quotas=quota,
        floor_millis=(("A", floor),) if floor else (), fair_weight=weight,
    )  # fmt: skip


CIVIL = tenant("civil", 20, floor=12)
TEAMS = (tenant("civil/x", 5, floor=5), tenant("civil/y", 5))
DEFENCE = tenant("defence", 20)
WORKED = {
    "who runs claims above its children has what their quotas leave of its own": (
        30, (tenant("civil", 30, floor=10), tenant("civil/x", 20)), {"civil": 50, "civil/x": 20}, {},
        {"civil": (10, 30, 30), "civil/x": (7, 20, 20), "civil/.": (3, 10, 10)},
    ),
    "and what its children do not ask for": (
        30, (tenant("civil", 30, floor=10), tenant("civil/x", 20)), {"civil": 50, "civil/x": 5}, {},
        {"civil": (10, 30, 30), "civil/x": (3, 5, 5), "civil/.": (7, 25, 25)},
    ),
    "and all of it where they ask for nothing": (
        40, (tenant("civil", 30, borrows=0, floor=25), tenant("civil/x", 20)), {"civil": 50}, {},
        {"civil": (25, 30, 30), "civil/x": (0, 0, 0), "civil/.": (25, 30, 30)},
    ),
    "what a reservation keeps for one team is not its sibling's floor, and a floor of others comes before borrowing": (
        20, (tenant("civil", 20, floor=10), tenant("civil/x", 10), tenant("civil/y", 10),
             tenant("defence", 20, floor=10)),
        {"civil/y": 20, "defence": 10}, {"civil/x": 10},
        {"civil": (0, 0, 0), "civil/x": (0, 0, 0), "civil/y": (0, 0, 0), "defence": (10, 10, 10)},
    ),
    "what a tenant uses itself is not kept from others a second time": (
        40, (tenant("civil", 20, lends=5), DEFENCE), {"civil": 15, "defence": 40}, {},
        {"civil": (0, 15, 15), "defence": (0, 20, 25)},
    ),
    "what it neither uses nor lends is kept, and what others borrow of it is no guarantee of theirs": (
        40, (tenant("civil", 20, lends=5), DEFENCE), {"civil": 3, "defence": 40}, {},
        {"civil": (0, 3, 3), "defence": (0, 20, 25)},
    ),
    "a team lives on the floor and the guarantee of its parent where its siblings want less": (
        40, (CIVIL, *TEAMS, DEFENCE), {"civil/x": 5, "civil/y": 30, "defence": 20}, {},
        {"civil": (12, 20, 20), "civil/x": (5, 5, 5), "civil/y": (7, 15, 15), "defence": (0, 20, 20)},
    ),
    "the floor first, then guarantees in proportion to what they lack": (
        22, (CIVIL, *TEAMS, DEFENCE), {"civil/x": 5, "civil/y": 30, "defence": 20}, {},
        {"civil": (12, 15, 15), "civil/x": (5, 5, 5), "civil/y": (7, 10, 10), "defence": (0, 7, 7)},
    ),
    "floors in proportion where not even they are covered": (
        9, (CIVIL, *TEAMS, tenant("defence", 20, floor=6)), {"civil/x": 5, "civil/y": 30, "defence": 20}, {},
        {"civil": (6, 6, 6), "civil/x": (5, 5, 5), "civil/y": (1, 1, 1), "defence": (3, 3, 3)},
    ),
    "surplus by weight, after all guarantees": (
        72, (tenant("civil", 20, weight=3), DEFENCE), {"civil": 72, "defence": 72}, {},
        {"civil": (0, 20, 44), "defence": (0, 20, 28)},
    ),
    "a reservation for a team stands inside the quota of its parent as far as it fits there": (
        50, (CIVIL, *TEAMS, DEFENCE), {"civil/x": 12, "civil/y": 10, "defence": 40}, {"civil/x": 10},
        {"civil": (12, 20, 22), "civil/x": (11, 12, 12), "civil/y": (1, 8, 10), "defence": (0, 20, 28)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", WORKED)
def test_shares_are_as_worked_out_by_hand(story: str) -> None:
    capacity, tenants, demand, reserved, expected = WORKED[story]
    shares = entitle(tree(tenants, "A", demand, reserved), capacity)
    assert {name: (one.floor, one.guaranteed, one.entitled) for name, one in shares.items()} == expected


def test_of_two_that_lose_as_much_by_rounding_the_earlier_is_rounded_up_whatever_its_weight():
    assert fill(2, [(9, 3), (9, 1)]) == [2, 0]
    assert fill(2, [(9, 1), (9, 3)]) == [1, 1]


def test_a_tenant_holds_no_more_than_its_quota_and_what_it_may_borrow_and_its_children_ask_within_it():
    tenants = (tenant("civil", 20, borrows=5, floor=3), tenant("civil/x", 4, borrows=2), tenant("civil/y", 6, floor=4))
    [civil] = tree(tenants, "A", {"civil/x": 9, "civil/y": 50}, {"civil/y": 7})
    x, y = civil.children
    assert (x.nominal, x.cap, x.demand, x.floor, x.floor_wanted, x.reserved) == (4, 6, 6, 0, 0, 0)
    assert (y.nominal, y.demand, y.floor, y.floor_wanted, y.reserved, y.withheld) == (13, 50, 7, 7, 7, 0)
    assert (civil.nominal, civil.cap, civil.demand, civil.floor, civil.reserved) == (20, 25, 25, 7, 7)


def test_a_parent_without_a_quota_has_the_sum_of_its_childrens_and_one_that_nobody_knows_is_no_parent():
    tenants = (tenant("civil", None), tenant("civil/x", 4), tenant("civil/y", 6), tenant("defence/z", 5))
    civil, alone = tree(tenants, "A", {}, {})
    assert (civil.tenant, civil.nominal, alone.tenant, alone.nominal) == ("civil", 10, "defence/z", 5)
    assert [one.nominal for one in tree(tenants, "B", {}, {})] == [0, 0]


def test_claims_of_a_parent_itself_stand_beside_its_children_without_a_floor_of_their_own():
    [civil] = tree((tenant("civil", 20, floor=9), tenant("civil/x", 12)), "A", {"civil": 50}, {})
    assert civil.children[1:] == (
        Node(tenant="civil/.", nominal=8, lending=1 << 60, cap=civil.cap, floor=0, floor_wanted=0, weight=1, demand=50),
    )
    [full] = tree((tenant("civil", 12), tenant("civil/x", 12)), "A", {"civil": 1}, {})
    assert [one.nominal for one in full.children] == [12, 0]
    assert tree((tenant("civil", 20),), "A", {"civil": 5}, {})[0].children == ()
