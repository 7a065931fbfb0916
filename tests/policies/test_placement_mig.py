"""MIG geometry: free slices are not always a larger instance, and layouts follow demand."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from policies.fleet.mig import GEOMETRIES, Geometry, Instance, _seven_slices, layouts, mig_parted, propose, starts
from policies.model.units import DeviceId

H100 = GEOMETRIES["H100-80GB"]
IDLE = [DeviceId(f"GPU-{number}") for number in range(3)]


def test_two_free_slices_are_not_always_one_larger_instance() -> None:
    present = [Instance(0, "1g.10gb"), Instance(2, "1g.10gb"), Instance(4, "2g.20gb")]
    assert starts(H100, present, "1g.10gb") == (1, 3, 6)
    assert starts(H100, present, "2g.20gb") == ()


MOST = {"1g.10gb": 7, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1}
"""Instances per GPU in mig-parted's own configurations of an H100-80GB that use one profile."""


@pytest.mark.parametrize(("name", "most"), MOST.items())
def test_as_many_instances_of_one_profile_fit_as_the_vendor_configures(name: str, most: int) -> None:
    assert max(sum(one.profile == name for one in layout) for layout in layouts(H100)) == most


@pytest.mark.parametrize("model", sorted(set(GEOMETRIES) - {"A30-24GB"}))
def test_the_vendors_balanced_layout_is_one_of_ours(model: str) -> None:
    names = [name for name, _ in GEOMETRIES[model].profiles]
    balanced = sorted([names[2], names[3], names[5], names[5]])
    assert any(sorted(one.profile for one in layout) == balanced for layout in layouts(GEOMETRIES[model]))


def test_seven_small_instances_fill_a_gpu_and_an_eighth_has_no_compute() -> None:
    present = [Instance(start, "1g.10gb") for start in range(7)]
    assert all(starts(H100, present, name) == () for name, _ in H100.profiles)


@pytest.mark.parametrize("model", GEOMETRIES)
def test_every_layout_is_full_and_no_two_instances_overlap(model: str) -> None:
    geometry = GEOMETRIES[model]
    for layout in layouts(geometry):
        assert _is_disjoint(geometry, layout)
        assert all(starts(geometry, layout, name) == () for name, _ in geometry.profiles)


def _is_disjoint(geometry: Geometry, layout: tuple[Instance, ...]) -> bool:
    slices = [one.start + i for one in layout for i in range(geometry.profile(one.profile).size)]
    return len(slices) == len(set(slices)) and max(slices) < geometry.memory


def test_layouts_cover_demand_and_gpus_without_demand_stay_whole() -> None:
    proposal = propose(H100, IDLE, {"3g.40gb": 2, "1g.10gb": 3})
    offered = [one.profile for layout in proposal.values() for one in layout]
    assert offered.count("3g.40gb") >= 2
    assert offered.count("1g.10gb") >= 3
    assert len(proposal) == 2
    assert propose(H100, IDLE, {}) == {}


def test_a_profile_that_the_gpu_does_not_have_is_refused() -> None:
    with pytest.raises(KeyError):
        propose(H100, IDLE, {"1g.5gb": 1})


def test_a_proposal_is_written_as_mig_parted_reads_it() -> None:
    halves = (Instance(0, "3g.40gb"), Instance(4, "3g.40gb"))
    assert mig_parted({0: halves, 2: halves, 1: (Instance(0, "7g.80gb"),)}) == {
        "version": "v1",
        "mig-configs": {
            "partage": [
                {"devices": [0, 2], "mig-enabled": True, "mig-devices": {"3g.40gb": 2}},
                {"devices": [1], "mig-enabled": True, "mig-devices": {"7g.80gb": 1}},
            ]
        },
    }


PLACEMENTS = """{0,1,2,3,4,5,6}:1 {0,2,4,6}:2 {0,2,4}:2 {0,4}:4 {0}:4 {0}:8"""
"""As ``nvidia-smi mig -lgipp`` prints them for an H100, the smallest profile first: starts and memory slices."""


def test_instances_begin_and_end_where_the_driver_lets_them() -> None:
    names = [name for name, _ in reversed(H100.profiles)]
    for geometry in (H100, _seven_slices(*reversed(names))):
        said = ["{" + ",".join(map(str, one.starts)) + f"}}:{one.size}" for _, one in reversed(geometry.profiles)]
        assert " ".join(said) == PLACEMENTS
        assert [one.compute for _, one in reversed(geometry.profiles)] == [int(name[0]) for name in names]
        assert (geometry.compute, geometry.memory) == (7, 8)


@pytest.mark.parametrize("model", ["H100-80GB", "A30-24GB"])
def test_every_full_layout_is_found_by_adding_instances_in_any_order(model: str) -> None:
    geometry = GEOMETRIES[model]
    full, seen, grown = set(), set(), [frozenset()]
    while grown:
        present = grown.pop()
        more = {present | {Instance(at, name)} for name, _ in geometry.profiles
                for at in starts(geometry, present, name)}  # fmt: skip
        if not more:
            full.add(tuple(sorted(one.profile for one in present)))
        grown += more - seen
        seen |= more
    assert sorted(tuple(sorted(one.profile for one in layout)) for layout in layouts(geometry)) == sorted(full)


def test_each_gpu_is_divided_so_that_most_of_what_is_still_wanted_fits_in_the_fewest_instances() -> None:
    names = [name for name, _ in H100.profiles]
    for amounts in itertools.product((0, 1, 5), (0, 1), (0, 2), (0, 3), (0, 2, 9)):
        left = Counter(dict(zip(names[1:], amounts, strict=True)))
        divided = propose(H100, IDLE, left).values()
        for layout in divided:
            parts = Counter(one.profile for one in layout)
            worth = sum(H100.profile(name).compute * count for name, count in (parts & left).items())
            others = [Counter(one.profile for one in other) for other in layouts(H100)]
            best = max(
                (sum(H100.profile(name).compute * count for name, count in (one & left).items()), -one.total())
                for one in others
            )
            assert (worth, -len(layout)) == best
            assert worth > 0
            left -= parts
        assert len(divided) == len(IDLE) or not +left


def test_a_demand_for_no_instance_divides_nothing() -> None:
    assert propose(H100, IDLE, {"1g.10gb": 0, "2g.20gb": -2}) == {}
    assert propose(H100, [], {"1g.10gb": 1}) == {}
    assert propose(H100, IDLE, {"1g.10gb": 1, "2g.20gb": -2}) == propose(H100, IDLE, {"1g.10gb": 1})
