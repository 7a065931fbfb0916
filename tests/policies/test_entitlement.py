"""Shares: floors first, then nominal quotas, then surplus by weight; exact, and never more than there is."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

from hypothesis import given
from hypothesis import strategies as st

from policies.model.tenancy import Quota, Tenant
from policies.model.units import SecurityDomain
from policies.shares.entitlement import entitle, fill, tree

WANTS = st.lists(st.tuples(st.integers(0, 25), st.sampled_from((0, 1, 1, 2, 3, 10**9))), min_size=1, max_size=6)
AMOUNTS = st.integers(0, 60)


def poured(amount: int, wants) -> list[Fraction]:
    """The obvious slow twin: everybody is filled at the speed of its weight, and who has enough no longer."""
    shares, left = [Fraction(0)] * len(wants), Fraction(amount)
    while left:
        hungry = [i for i, (want, _) in enumerate(wants) if shares[i] < want]
        heavy = {i: wants[i][1] for i in hungry if wants[i][1] > 0} or dict.fromkeys(hungry, 1)
        if not heavy:
            break
        until = min((wants[i][0] - shares[i]) / weight for i, weight in heavy.items())
        until = min(until, left / sum(heavy.values()))
        for i, weight in heavy.items():
            shares[i] += until * weight
        left -= until * sum(heavy.values())
    return shares


@given(AMOUNTS, WANTS)
def test_division_hands_out_all_that_is_wanted_and_not_one_milli_more(amount, wants):
    shares = fill(amount, wants)
    assert sum(shares) == min(amount, sum(want for want, _ in wants))
    assert all(0 <= share <= want for share, (want, _) in zip(shares, wants, strict=True))


@given(AMOUNTS, WANTS)
def test_division_gives_everybody_its_exact_share_rounded_up_or_down(amount, wants):
    shares = zip(fill(amount, wants), poured(amount, wants), strict=True)
    assert all(floor(exact) <= share <= ceil(exact) for share, exact in shares)


def test_a_large_weight_among_small_ones_takes_no_more_than_its_exact_share_rounded_up():
    """Given one by one, each to whom has least for its weight, the large one would have all three; it is due 9/7."""
    assert fill(3, [(3, 3), (1, 1), (1, 1), (1, 1), (1, 1)]) == [1, 1, 1, 0, 0]


@given(AMOUNTS, WANTS)
def test_more_capacity_never_takes_more_than_a_milli_of_rounding_from_anyone(amount, wants):
    before, after = fill(amount, wants), fill(amount + 1, wants)
    assert all(new >= old - 1 for old, new in zip(before, after, strict=True))


@given(AMOUNTS, WANTS)
def test_when_a_tenant_leaves_nobody_else_loses_more_than_a_milli_of_rounding(amount, wants):
    before, after = fill(amount, wants)[1:], fill(amount, wants[1:])
    assert all(new >= old - 1 for old, new in zip(before, after, strict=True))


@given(AMOUNTS, WANTS, st.integers(0, 5), st.integers(1, 100))
def test_asking_for_more_than_is_needed_brings_nothing_that_is_needed(amount, wants, who, lie):
    who %= len(wants)
    honest = fill(amount, wants)[who]
    boasting = [(want + lie, weight) if i == who else (want, weight) for i, (want, weight) in enumerate(wants)]
    assert min(fill(amount, boasting)[who], wants[who][0]) <= honest + 1


@given(AMOUNTS, WANTS)
def test_weight_zero_is_served_only_when_nobody_with_weight_wants_more(amount, wants):
    shares = fill(amount, wants)
    light = sum(share for share, (_, weight) in zip(shares, wants, strict=True) if weight == 0)
    hungry = any(share < want for share, (want, weight) in zip(shares, wants, strict=True) if weight > 0)
    assert light == 0 or not hungry


def leaf(name: str, nominal: int, weight: int = 1, lending=None, borrowing=None, floor: int = 0) -> Tenant:
    quota = Quota(
        flavor="A", nominal_millis=nominal, lending_limit_millis="unlimited" if lending is None else lending,
        borrowing_limit_millis="unlimited" if borrowing is None else borrowing,
    )  # fmt: skip
    return Tenant(
        id=f"civil/{name}", domain=SecurityDomain.CIVIL, parent="civil", quotas=(quota,), fair_weight=weight,
        floor_millis=(("A", floor),) if floor else (),
    )  # fmt: skip


def shared(capacity: int, demand: dict, *leaves: Tenant):
    top = Tenant(id="civil", domain=SecurityDomain.CIVIL)
    return entitle(
        tree((top, *leaves), "A", {f"civil/{name}": amount for name, amount in demand.items()}, {}), capacity
    )


TENANTS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 5), st.integers(0, 90), st.integers(0, 40)), min_size=1, max_size=5
)


@given(st.integers(0, 150), TENANTS)
def test_every_tenant_gets_what_it_owns_or_wants_whichever_is_less(extra, rows):
    leaves = [leaf(f"t{i}", nominal, weight) for i, (nominal, weight, _, _) in enumerate(rows)]
    demand = {f"t{i}": wants for i, (_, _, wants, _) in enumerate(rows)}
    capacity = sum(nominal for nominal, *_ in rows) + extra
    shares = shared(capacity, demand, *leaves)
    for i, (nominal, _, wants, _) in enumerate(rows):
        assert shares[f"civil/t{i}"].entitled >= min(nominal, wants)
    assert sum(shares[f"civil/t{i}"].entitled for i in range(len(rows))) <= capacity


@given(st.integers(0, 150), TENANTS)
def test_a_lending_limit_keeps_the_rest_of_a_quota_from_everybody_else(extra, rows):
    leaves = [leaf(f"t{i}", nominal, 1, lending=min(lends, nominal)) for i, (nominal, _, _, lends) in enumerate(rows)]
    demand = {f"t{i}": wants for i, (_, _, wants, _) in enumerate(rows)}
    capacity = sum(nominal for nominal, *_ in rows) + extra
    shares = shared(capacity, demand, *leaves)
    for i, (nominal, _, wants, lends) in enumerate(rows):
        others = sum(shares[f"civil/t{j}"].entitled for j in range(len(rows)) if j != i)
        kept = max(0, nominal - min(nominal, wants) - min(lends, nominal))
        assert others + kept + min(nominal, wants) <= capacity


@given(st.integers(0, 150), TENANTS)
def test_nobody_borrows_beyond_its_borrowing_limit(extra, rows):
    leaves = [leaf(f"t{i}", nominal, 1, borrowing=limit) for i, (nominal, _, _, limit) in enumerate(rows)]
    shares = shared(sum(n for n, *_ in rows) + extra, {f"t{i}": row[2] for i, row in enumerate(rows)}, *leaves)
    assert all(shares[f"civil/t{i}"].entitled <= row[0] + row[3] for i, row in enumerate(rows))


@given(st.integers(0, 60), TENANTS)
def test_floors_come_before_quotas_when_capacity_is_short(capacity, rows):
    leaves = [leaf(f"t{i}", nominal, 1, floor=min(low, nominal)) for i, (nominal, _, _, low) in enumerate(rows)]
    shares = shared(capacity, {f"t{i}": row[2] for i, row in enumerate(rows)}, *leaves)
    floors = [min(row[3], row[0], row[2]) for row in rows]
    if sum(floors) <= capacity:
        assert all(shares[f"civil/t{i}"].entitled >= floor for i, floor in enumerate(floors))
    else:
        assert sum(shares[f"civil/t{i}"].entitled for i in range(len(rows))) == capacity


@given(st.integers(0, 100), TENANTS, st.integers(0, 1000))
def test_shares_of_one_flavor_do_not_depend_on_another_flavor(capacity, rows, other):
    leaves = [leaf(f"t{i}", nominal, weight) for i, (nominal, weight, _, _) in enumerate(rows)]
    mixed = [
        Tenant(id=one.id, domain=one.domain, parent=one.parent, fair_weight=one.fair_weight,
               quotas=(*one.quotas, Quota(flavor="B", nominal_millis=other))) for one in leaves
    ]  # fmt: skip
    demand = {f"t{i}": row[2] for i, row in enumerate(rows)}
    assert shared(capacity, demand, *leaves) == shared(capacity, demand, *mixed)


def test_a_reservation_of_one_tenant_is_not_paid_for_by_its_siblings_quota():
    def tenant(name, nominal, parent=None):
        domain = SecurityDomain(name.partition("/")[0])
        return Tenant(id=name, domain=domain, parent=parent, quotas=(Quota(flavor="A", nominal_millis=nominal),))

    tenants = (
        tenant("civil", 2000),
        tenant("civil/x", 2000, "civil"),
        tenant("defence", 2000),
        tenant("defence/x", 1000, "defence"),
        tenant("defence/y", 1000, "defence"),
    )
    demand, reserved = {"civil/x": 4000, "defence/x": 1000}, {"defence/y": 1000}
    shares = entitle(tree(tenants, "A", demand, reserved), 4000)
    assert shares["defence/x"].entitled == 1000
    assert shares["civil/x"].entitled == 2000
    asking = entitle(tree(tenants, "A", demand | {"defence/y": 1000}, reserved), 4000)
    assert (asking["defence/x"].entitled, asking["defence/y"].entitled) == (1000, 1000)
