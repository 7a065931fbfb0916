"""Who holds each device, and the recorded proof of every change of domain."""

from __future__ import annotations

from dataclasses import dataclass

from policies.model.inventory import ScrubState
from policies.model.units import DeviceId, SecurityDomain, WorkerId


@dataclass(frozen=True, slots=True)
class StepResult:
    """Whether a step of a scrub is shown to have worked, and what was seen."""

    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubStep:
    """One step of a scrub and what was seen."""

    name: str
    """Such as ``no_process``, ``framebuffer_baseline``, ``write_pattern``, ``reset``, ``simulated``."""
    passed: bool
    detail: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubProof:
    """The record that a device left one domain clean."""

    device: DeviceId
    from_domain: SecurityDomain
    to_domain: SecurityDomain
    steps: tuple[ScrubStep, ...]
    started_at_ms: int
    finished_at_ms: int
    simulated: bool
    driver: str = ""

    @property
    def passed(self) -> bool:
        """Whether there were steps and every one of them passed."""
        return bool(self.steps) and all(step.passed for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """What the ledger holds of one device: the authority on who owns it."""

    device: DeviceId
    scrub: ScrubState = ScrubState.CLEAN
    domain: SecurityDomain | None = None
    """Domain that holds it, or held it last while not clean."""
    worker: WorkerId | None = None
    """Worker bound to it; None if free."""
    fencing_generation: int = 0
    changed_at_ms: int = 0
