"""Stories that anybody can read: one command per line, the expected story beside it in ``*.expected``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from policies.document import parse_policy
from policies.model.inventory import DeviceHealth
from policies.model.policy import ModeDeclaration, OperatingMode
from policies.model.workload import Claim, ClaimKind, Shape
from tests.simulation.world import World, fleet

HERE = Path(__file__).parent
PROFILES = HERE.parents[1] / "policies" / "profiles"
STORIES = sorted(HERE.glob("*.txt"))


def policy(words: list[str], world: World | None) -> World:
    return World(policy=parse_policy((PROFILES / f"{words[0]}.yaml").read_text()))


def host(words: list[str], world: World) -> World:
    return fleet(world.policy, *(int(word) for word in words))


def claim(words: list[str], world: World) -> World:
    name, least, most = words[0], int(words[2]), int(words[4])
    rest = words[5:]
    rank = rest[rest.index("class") + 1] if "class" in rest else "standard"
    millis = [int(word) for word in rest[rest.index("ladder") + 1 :]] if "ladder" in rest else [1000]
    world.claims[name] = Claim(
        id=name, tenant=name.split(":")[0], kind=ClaimKind.SERVING, model=name.split(":")[1], priority_class=rank,
        ladder=tuple(Shape(flavors=("H100-80GB",), gpu_millis=one, variant=f"v{one}") for one in millis),
        min_replicas=least, desired_replicas=most, max_replicas=most, submitted_at_ms=len(world.claims),
    )  # fmt: skip
    return world


def demand(words: list[str], world: World) -> World:
    world.demands[words[0]] = int(words[1])
    return world


def crisis(words: list[str], world: World) -> World:
    declared = ModeDeclaration(
        mode=OperatingMode.CRISIS, declared_at_ms=world.now_ms, expires_at_ms=world.now_ms + int(words[0]) * 1000,
        approvers=tuple(words[1:]),
    )  # fmt: skip
    world.policy = replace(world.policy, declaration=declared)
    return world


def health(words: list[str], world: World, state: DeviceHealth) -> World:
    node, _, index = words[0].rpartition("/")
    name = sorted(one.id for one in world.devices.values() if one.node == node)[int(index)]
    world.devices[name] = replace(world.devices[name], health=state)
    return world


def wait(words: list[str], world: World) -> World:
    world.run(int(words[0]))
    return world


def settle(words: list[str], world: World) -> World:
    world.settle()
    return world


COMMANDS = {
    "policy": policy, "host": host, "claim": claim, "demand": demand, "crisis": crisis, "wait": wait, "settle": settle,
    "sick": lambda words, world: health(words, world, DeviceHealth.QUARANTINED),
    "well": lambda words, world: health(words, world, DeviceHealth.HEALTHY),
}  # fmt: skip


def shown(world: World) -> list[str]:
    """Return who runs what where, one line each, and what the world did since the last look."""
    lines = []
    for name in sorted(world.claims):
        groups = sorted((g for g in world.groups.values() if g.claim == name), key=lambda g: g.devices)
        places = ", ".join(f"{g.devices[0]} x{g.running}{f' {g.variant}' if g.variant else ''}" for g in groups)
        lines.append(f"  {name}: {world.running(name)} running ({places or 'nowhere'})")
    lines.append(f"  did: {', '.join(world.history) or 'nothing'}")
    world.history.clear()
    return lines


def told(path: Path) -> str:
    """Return the story with what happened after each ``show`` and ``why``."""
    world, lines = None, []
    for line in path.read_text().splitlines():
        lines.append(line)
        word, *words = line.split() or ["#"]
        if word == "show":
            lines += shown(world)
        elif word == "why":
            reasons = {reason.claim: reason for reason in world.turn()[1].reasons}
            lines.append(f"  {reasons[words[0]].state}: {reasons[words[0]].sentence}")
        elif word != "#":
            world = COMMANDS[word](words, world)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_the_story_goes_as_it_is_written(story):
    assert told(story) == story.with_suffix(".expected").read_text()


if __name__ == "__main__":
    for one in STORIES:
        one.with_suffix(".expected").write_text(told(one))
