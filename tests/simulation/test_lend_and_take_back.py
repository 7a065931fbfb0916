"""The story the platform exists for: lend what is idle, take it back on demand, lend it again."""

from __future__ import annotations

from pathlib import Path

from policies.documents.document import parse_policy
from policies.model.workload import Claim, ClaimKind, Shape
from tests.simulation.world import fleet

DEFAULT = Path(__file__).parents[2] / "policies" / "profiles" / "default.yaml"


def chat(tenant: str, name: str, most: int, priority: str = "standard") -> Claim:
    return Claim(
        id=f"{tenant}:{name}", tenant=tenant, kind=ClaimKind.SERVING, model="small",
        ladder=(Shape(flavors=("H100-80GB",)),), min_replicas=1, desired_replicas=1, max_replicas=most,
        priority_class=priority,
    )  # fmt: skip


def two_domains():
    world = fleet(parse_policy(DEFAULT.read_text()), 4)
    for claim in (chat("civil/justice", "chat", 4), chat("defence/cyber", "triage", 3, "critical")):
        world.claims[claim.id] = claim
    return world


def test_civil_borrows_idle_defence_devices_and_gives_them_back_when_defence_needs_them():
    world = two_domains()
    world.demands = {"civil/justice:chat": 3, "defence/cyber:triage": 1}
    world.settle()
    assert (world.running("civil/justice:chat"), world.running("defence/cyber:triage")) == (3, 1)
    assert len(world.held_by("civil")) == 3

    world.demands["defence/cyber:triage"] = 2
    world.settle()
    assert (world.running("civil/justice:chat"), world.running("defence/cyber:triage")) == (2, 2)
    order = [kind for kind in world.history if kind in ("stop_routing", "stop_group", "stop_worker", "scrub_device")]
    assert order == ["stop_routing", "stop_group", "stop_worker", "scrub_device"]

    world.demands["defence/cyber:triage"] = 1
    world.demands["civil/justice:chat"] = 3
    world.run(12)
    world.settle()
    assert (world.running("civil/justice:chat"), world.running("defence/cyber:triage")) == (3, 1)


def test_a_settled_world_plans_nothing():
    world = two_domains()
    world.demands = {"civil/justice:chat": 3, "defence/cyber:triage": 1}
    world.settle()
    for _ in range(100):
        assert world.step()[2].actions == ()
