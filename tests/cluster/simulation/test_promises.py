"""Whatever happens, in whatever order, wherever the process ends: the promises hold."""

from __future__ import annotations

from tests.cluster.simulation.scene import Broken, Scene, without_spoiling

TURNS_TO_SETTLE = 900


def lived(seed: int, steps: int) -> Scene:
    """Return a scene after so many steps; a broken promise names how to see it again."""
    scene = Scene(seed)
    for step in range(steps):
        try:
            scene.step()
        except Broken as broken:
            raise Broken(
                f"{broken}\nagain: pytest tests/cluster/simulation --seed {seed} --steps {step + 1}"
            ) from broken
    return scene


def test_no_promise_is_broken_and_calm_returns_once_faults_end(seed: int, steps: int) -> None:
    scene = without_spoiling(lived(seed, steps))
    last = scene.settle(TURNS_TO_SETTLE)
    running = {group.claim for group in last.snapshot.groups}
    assert running <= {claim.id for claim in last.snapshot.claims}, f"seed {seed}: groups of claims that are gone"


def test_the_same_seed_tells_the_same_story(seed: int, steps: int) -> None:
    if seed % 10 == 0:
        assert lived(seed, steps).trace == lived(seed, steps).trace
