"""MIG geometry: which instances fit beside one another on a GPU, and which layout demand asks for.

Two free slices are not always one larger instance: each profile may start only at certain memory slices.
Source: NVIDIA's MIG user guide, tables of supported profiles and placements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from policies.model.units import DeviceId


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of MIG instance."""

    compute: int
    """Compute slices, of seven (four on an A30)."""
    size: int
    """Memory slices, of eight (four on an A30)."""
    starts: tuple[int, ...]
    """Memory slices at which it may begin."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a GPU model can be divided into."""

    compute: int
    memory: int
    profiles: tuple[tuple[str, Profile], ...]
    """By name, the largest first."""

    def profile(self, name: str) -> Profile:
        """Return the profile of that name. Raises ``KeyError``."""
        return dict(self.profiles)[name]


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """A profile at its place on one GPU."""

    start: int
    profile: str


def _seven_slices(*names: str) -> Geometry:
    """Return the geometry that A100, H100 and H200 share; the names differ by memory, largest instance first."""
    shapes = (
        Profile(7, 8, (0,)),
        Profile(4, 4, (0,)),
        Profile(3, 4, (0, 4)),
        Profile(2, 2, (0, 2, 4)),
        Profile(1, 2, (0, 2, 4, 6)),
        Profile(1, 1, (0, 1, 2, 3, 4, 5, 6)),
    )
    return Geometry(compute=7, memory=8, profiles=tuple(zip(names, shapes, strict=True)))


GEOMETRIES: dict[str, Geometry] = {
    "A100-40GB": _seven_slices("7g.40gb", "4g.20gb", "3g.20gb", "2g.10gb", "1g.10gb", "1g.5gb"),
    "A100-80GB": _seven_slices("7g.80gb", "4g.40gb", "3g.40gb", "2g.20gb", "1g.20gb", "1g.10gb"),
    "H100-80GB": _seven_slices("7g.80gb", "4g.40gb", "3g.40gb", "2g.20gb", "1g.20gb", "1g.10gb"),
    "H100-94GB": _seven_slices("7g.94gb", "4g.47gb", "3g.47gb", "2g.24gb", "1g.24gb", "1g.12gb"),
    "H200-141GB": _seven_slices("7g.141gb", "4g.71gb", "3g.71gb", "2g.35gb", "1g.35gb", "1g.18gb"),
    "B200-180GB": _seven_slices("7g.180gb", "4g.90gb", "3g.90gb", "2g.45gb", "1g.45gb", "1g.23gb"),
    "A30-24GB": Geometry(
        compute=4,
        memory=4,
        profiles=(
            ("4g.24gb", Profile(4, 4, (0,))),
            ("2g.12gb", Profile(2, 2, (0, 2))),
            ("1g.6gb", Profile(1, 1, (0, 1, 2, 3))),
        ),
    ),
}
"""By GPU model. A model that is not here is not divided."""


def starts(geometry: Geometry, present: Iterable[Instance], name: str) -> tuple[int, ...]:
    """Return where an instance of the profile may still begin beside those present, ascending; empty if nowhere."""
    there = tuple(present)
    taken = {one.start + offset for one in there for offset in range(geometry.profile(one.profile).size)}
    used = sum(geometry.profile(one.profile).compute for one in there)
    wanted = geometry.profile(name)
    if used + wanted.compute > geometry.compute:
        return ()
    return tuple(s for s in wanted.starts if taken.isdisjoint(range(s, s + wanted.size)))


@cache
def layouts(geometry: Geometry) -> tuple[tuple[Instance, ...], ...]:
    """Return every full layout of one GPU: no further instance fits. Cost: a few hundred, found once."""
    found: dict[tuple[str, ...], tuple[Instance, ...]] = {}

    def grow(present: tuple[Instance, ...]) -> None:
        after = present[-1].start if present else -1
        further = [
            Instance(start, name)
            for name, _ in geometry.profiles
            for start in starts(geometry, present, name)
            if start > after
        ]
        for one in further:
            grow((*present, one))
        if present and not any(starts(geometry, present, name) for name, _ in geometry.profiles):
            found.setdefault(tuple(sorted(one.profile for one in present)), present)

    grow(())
    return tuple(found[key] for key in sorted(found))


def propose(
    geometry: Geometry, idle: Sequence[DeviceId], demand: Mapping[str, int]
) -> dict[DeviceId, tuple[Instance, ...]]:
    """Return a layout for each idle GPU that demand asks for: as many compute slices of what is wanted as fit.

    Only GPUs without running work may be given: a layout is never changed under a claim. GPUs that no demand is left
    for are not in the result and stay whole. Greedy, one GPU after the other; ties go to fewer instances.

    Raises:
        KeyError: the demand names a profile that the GPU model does not have.
    """
    left = Counter({name: count for name, count in demand.items() if geometry.profile(name) and count > 0})
    result: dict[DeviceId, tuple[Instance, ...]] = {}
    for device in idle:
        if not +left:
            break
        best = max(layouts(geometry), key=lambda layout: (_served(geometry, layout, left), -len(layout)))
        result[device] = best
        left -= Counter(one.profile for one in best)
    return result


def _served(geometry: Geometry, layout: Sequence[Instance], left: Mapping[str, int]) -> int:
    offered = Counter(one.profile for one in layout)
    return sum(min(count, left.get(name, 0)) * geometry.profile(name).compute for name, count in offered.items())


def mig_parted(proposal: Mapping[int, Sequence[Instance]], name: str = "partage") -> dict[str, Any]:
    """Return a proposal by GPU index as a configuration of mig-parted, version v1; equal layouts share an entry."""
    by_layout: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for index in sorted(proposal):
        counts = Counter(one.profile for one in proposal[index])
        by_layout.setdefault(tuple(sorted(counts.items())), []).append(index)
    entries = [
        {"devices": devices, "mig-enabled": bool(counts), "mig-devices": dict(counts)}
        for counts, devices in by_layout.items()
    ]
    return {"version": "v1", "mig-configs": {name: entries}}
