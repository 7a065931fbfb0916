"""MIG geometry: free slices are not always a larger instance, and layouts follow demand."""

from __future__ import annotations

import pytest

from policies.mig import GEOMETRIES, Geometry, Instance, layouts, mig_parted, propose, starts
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
