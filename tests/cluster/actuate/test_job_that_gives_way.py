"""The whole loop over this machine: a job gives its devices to the other domain and goes on when they come back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cluster.loop import Loop, Turn
from cluster.sim.journal import MemoryJournal
from policies.model.policy import Bounds, Policy
from policies.model.tenancy import PriorityClass, Quota, Tenant
from policies.model.units import ClaimId, FlavorId, SecurityDomain, TenantId
from policies.model.workload import Claim, ClaimKind, Job, Shape
from tests.cluster.actuate.test_jobs import PATIENT
from tests.local_platform import LocalPlatform, Settling, a_claim, local_platform

CIVIL, DEFENCE = SecurityDomain.CIVIL, SecurityDomain.DEFENCE
TRAIN = ClaimId("civil/justice:train")
PATIENCE_MS = 60_000


def half_each() -> Policy:
    """Return rules under which each domain has half of four devices and lends what it does not use."""
    tenants = []
    for domain, name in ((DEFENCE, "defence/cyber"), (CIVIL, "civil/justice")):
        quota = Quota(flavor=FlavorId("H100-80GB"), nominal_millis=2000)
        tenants.append(Tenant(id=TenantId(str(domain)), domain=domain, quotas=(quota,)))
        tenants.append(Tenant(id=TenantId(name), domain=domain, parent=TenantId(str(domain)), quotas=(quota,)))
    return Policy(
        revision="half", tenants=tuple(tenants), priority_classes=(PriorityClass(name="standard", value=1),),
        bounds=Bounds(cooldown_ms=0, worker_start_ms=1_000),
    )  # fmt: skip


class Story:
    """Turns of the loop until something holds."""

    def __init__(self, platform: LocalPlatform) -> None:
        self.platform = platform
        platform.shared.policy = half_each()
        platform.shared.adopted = True
        journal = MemoryJournal(platform.shared)
        journal.lead()
        self.loop = Loop(Settling(platform), platform.actuator, journal, platform.clock)  # type: ignore[arg-type]  # observes

    def until(self, holds: Callable[[Turn], bool], what: str) -> Turn:
        give_up_ms = self.platform.clock.monotonic_ms() + PATIENCE_MS
        while True:
            turn = self.loop.turn()
            assert not turn.violations, turn.violations
            if holds(turn):
                return turn
            assert self.platform.clock.monotonic_ms() < give_up_ms, (what, turn.decision.reasons, turn.outcome)
            self.platform.clock.sleep_ms(50)

    def ask_for(self, claim: Claim) -> None:
        self.platform.shared.claims[claim.id] = claim


def runs(turn: Turn, claim: ClaimId) -> bool:
    return any(group.claim == claim and group.running for group in turn.snapshot.groups)


def test_a_job_saves_its_work_gives_its_devices_to_the_other_domain_and_goes_on_when_they_come_back(
    tmp_path: Path,
) -> None:
    checkpoint = tmp_path / "checkpoint"
    train = Claim(
        id=TRAIN, tenant=TenantId("civil/justice"), kind=ClaimKind.JOB, ladder=(Shape(flavors=(), devices=4),),
        job=Job(command=(sys.executable, "-c", PATIENT), checkpoint=str(checkpoint)),
    )  # fmt: skip
    with local_platform(tmp_path / "home") as platform:
        story = Story(platform)
        story.ask_for(train)
        story.until(lambda turn: runs(turn, TRAIN), "the job runs on all devices, half of them lent")
        (log,) = platform.here.settings.logs.glob("job-*.log")
        story.until(lambda _: "from step 0" in log.read_text(), "it works")
        serving = replace(a_claim(DEFENCE), submitted_at_ms=platform.clock.now_ms())
        story.ask_for(serving)
        turn = story.until(lambda turn: runs(turn, serving.id), "the owner of the lent devices is served")
        assert not runs(turn, TRAIN), "a program that needs all of its devices runs on all or none"
        step = int((checkpoint / "step").read_text())
        proofs = [proof for proof in platform.shared.proofs if proof.passed]
        assert {(proof.from_domain, proof.to_domain) for proof in proofs} == {(CIVIL, DEFENCE)}
        assert TRAIN in platform.shared.claims
        assert platform.shared.notes == [], "it was asked to leave: no success, no failure"
        del platform.shared.claims[serving.id]
        story.until(lambda _: f"from step {step}" in log.read_text(), "the job goes on from where it was")
