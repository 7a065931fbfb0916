"""Stories that anybody can read: one command per line, the expected story beside it in ``*.expected``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from policies.documents.document import parse_policy
from policies.model.inventory import DeviceHealth, UsageState
from policies.model.policy import ModeDeclaration, OperatingMode
from policies.model.snapshot import Gap, GapKind
from policies.model.workload import Claim, ClaimKind, Reservation, Shape
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
    over = _after("until", words, "")
    millis = [int(word) for word in words[words.index("ladder") + 1 :]] if "ladder" in words else [1000]
    world.claims[name] = Claim(
        id=name, tenant=name.split(":")[0], kind=ClaimKind.SERVING, model=name.split(":")[1],
        priority_class=_after("class", words, "standard"),
        ladder=tuple(Shape(flavors=("H100-80GB",), gpu_millis=one, variant=f"v{one}") for one in millis),
        min_replicas=least, desired_replicas=most, max_replicas=most, submitted_at_ms=world.now_ms + len(world.claims),
        expires_at_ms=world.now_ms + int(over) * 1000 if over else None,
    )  # fmt: skip
    return world


def job(words: list[str], world: World) -> World:
    name, due = words[0], _after("deadline", words, "")
    world.claims[name] = Claim(
        id=name, tenant=name.split(":")[0], kind=ClaimKind.JOB, priority_class=_after("class", words, "standard"),
        ladder=(Shape(flavors=("H100-80GB",), devices=int(_after("gpus", words, "1"))),), min_replicas=1,
        desired_replicas=1, max_replicas=1, submitted_at_ms=world.now_ms + len(world.claims),
        duration_s=int(_after("for", words, "0")) or None, deadline_ms=world.now_ms + int(due) * 1000 if due else None,
    )  # fmt: skip
    return world


def _after(word: str, words: list[str], otherwise: str) -> str:
    return words[words.index(word) + 1] if word in words else otherwise


def end(words: list[str], world: World) -> World:
    del world.claims[words[0]]
    return world


def reserve(words: list[str], world: World) -> World:
    """``reserve defence/cyber 2 from 600 to 900``: whole GPUs, seconds from now."""
    world.reservations.append(Reservation(
        id=f"reservation-{len(world.reservations)}", tenant=words[0], flavor="H100-80GB",
        gpu_millis=int(words[1]) * 1000, starts_at_ms=world.now_ms + int(words[3]) * 1000,
        ends_at_ms=world.now_ms + int(words[5]) * 1000,
    ))  # fmt: skip
    return world


def unseen(words: list[str], world: World) -> World:
    world.gaps = [Gap(kind=GapKind.CLUSTER, subject=words[0], cause="timeout", since_ms=world.now_ms)]
    return world


def seen(words: list[str], world: World) -> World:
    world.gaps = []
    return world


def used(words: list[str], world: World, usage: UsageState) -> World:
    world.groups |= {one.id: replace(one, usage=usage) for one in world.groups.values() if one.claim == words[0]}
    return world


def closed(words: list[str], world: World) -> World:
    world.nodes[words[0]] = replace(world.nodes[words[0]], schedulable=False)
    return world


def demand(words: list[str], world: World) -> World:
    world.demands[words[0]] = int(words[1])
    world.queued[words[0]] = int(_after("queued", words, "0"))
    return world


def mode(words: list[str], world: World, declared: OperatingMode) -> World:
    declaration = ModeDeclaration(
        mode=declared, declared_at_ms=world.now_ms, expires_at_ms=world.now_ms + int(words[0]) * 1000,
        approvers=tuple(words[1:]),
    )  # fmt: skip
    world.policy = replace(world.policy, declaration=declaration)
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
    "policy": policy, "host": host, "claim": claim, "job": job, "end": end, "demand": demand, "wait": wait,
    "settle": settle, "reserve": reserve, "unseen": unseen, "seen": seen, "closed": closed,
    "crisis": lambda words, world: mode(words, world, OperatingMode.CRISIS),
    "heightened": lambda words, world: mode(words, world, OperatingMode.HEIGHTENED),
    "idle": lambda words, world: used(words, world, UsageState.TRULY_IDLE),
    "busy": lambda words, world: used(words, world, UsageState.ACTIVE),
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
    lines += [f"  {name} made room: {why}" for name, why in world.left.items()]
    lines.append(f"  did: {', '.join(world.history) or 'nothing'}")
    world.history.clear()
    world.left.clear()
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
