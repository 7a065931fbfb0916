"""Between two domains: wipe, verify, prove. A step that cannot be shown to have worked has failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from cluster.ports import Clock
from policies.model.proof import ScrubProof, ScrubStep, StepResult
from policies.model.telemetry import Missing, Reading
from policies.model.units import DeviceId, SecurityDomain


class WritePattern(StrEnum):
    """Whether free memory is overwritten."""

    NEVER = "never"
    IF_AVAILABLE = "if_available"
    """Where no CUDA driver is present, the proof names the step ``write_pattern_unavailable``."""
    REQUIRED = "required"
    """Where no CUDA driver is present, the scrub fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubPolicy:
    """How hard to scrub."""

    baseline_tolerance_mib: int = 16
    """Framebuffer in use above the baseline of the empty device that still counts as empty."""
    settle_ms: int = 10_000
    """Longest wait for processes to leave and memory to return."""
    poll_ms: int = 200
    write_pattern: WritePattern = WritePattern.IF_AVAILABLE
    reset: bool = False
    """Whether to reset the device at the end. Never done while anything else uses it or shares its GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubRequest:
    """Which device leaves which domain for which."""

    device: DeviceId
    from_domain: SecurityDomain
    to_domain: SecurityDomain


class ScrubbedDevice(Protocol):
    """What scrubbing needs of a device. Implemented over NVML and CUDA, and by a simulation."""

    simulated: bool

    def driver(self) -> str:
        """Return the driver's version; empty if not known."""
        ...

    def processes(self) -> tuple[int, ...] | Missing:
        """Return host PIDs with a context on the device, sorted, or why they could not be seen."""
        ...

    def sharers(self) -> tuple[str, ...] | Missing:
        """Return who else uses the same physical GPU: PIDs and MIG instances other than this device's."""
        ...

    def memory_used_mib(self) -> Reading:
        """Return framebuffer in use, without the driver's reserve."""
        ...

    def baseline_mib(self) -> Reading:
        """Return framebuffer in use when the device was last known to be empty."""
        ...

    def write_pattern(self) -> StepResult | Missing:
        """Overwrite the free memory, read it back, overwrite it with zeros; Missing where no CUDA driver is present."""
        ...

    def reset(self) -> StepResult:
        """Reset the device."""
        ...


def scrub(request: ScrubRequest, device: ScrubbedDevice, policy: ScrubPolicy, clock: Clock) -> ScrubProof:
    """Scrub the device and return the proof; steps after the first failed one are not taken.

    Never raises for a fault of the device: that is a failed step. Takes up to ``2 * settle_ms`` and the time of the
    write pattern (seconds) and reset (tens of seconds).
    """
    started_ms = clock.now_ms()
    return ScrubProof(
        device=request.device,
        from_domain=request.from_domain,
        to_domain=request.to_domain,
        steps=_steps(device, policy, clock),
        started_at_ms=started_ms,
        finished_at_ms=clock.now_ms(),
        simulated=device.simulated,
        driver=device.driver(),
    )


Step = Callable[[ScrubbedDevice, ScrubPolicy, Clock], tuple[str, StepResult]]


def _steps(device: ScrubbedDevice, policy: ScrubPolicy, clock: Clock) -> tuple[ScrubStep, ...]:
    planned: list[Step] = [_no_process, _framebuffer_baseline]
    if policy.write_pattern is not WritePattern.NEVER:
        planned += [_write_pattern, _framebuffer_baseline]
    if policy.reset:
        planned += [_reset, _no_process, _framebuffer_baseline]
    taken: list[ScrubStep] = []
    for step in planned:
        name, result = step(device, policy, clock)
        taken.append(ScrubStep(name=name, passed=result.passed, detail=result.detail, at_ms=clock.now_ms()))
        if not result.passed:
            break
    return tuple(taken)


def _no_process(device: ScrubbedDevice, policy: ScrubPolicy, clock: Clock) -> tuple[str, StepResult]:
    return "no_process", _wait(lambda: _processes_gone(device), policy, clock)


def _framebuffer_baseline(device: ScrubbedDevice, policy: ScrubPolicy, clock: Clock) -> tuple[str, StepResult]:
    return "framebuffer_baseline", _wait(lambda: _memory_returned(device, policy), policy, clock)


def _wait(look: Callable[[], StepResult | Missing], policy: ScrubPolicy, clock: Clock) -> StepResult:
    """Look until it passed or the policy's patience ends. What cannot be seen has not passed."""
    give_up_ms = clock.monotonic_ms() + policy.settle_ms
    while True:
        seen = look()
        if isinstance(seen, Missing):
            return StepResult(passed=False, detail=f"not seen: {seen.cause} {seen.detail}".rstrip())
        if seen.passed or clock.monotonic_ms() >= give_up_ms:
            return seen
        clock.sleep_ms(policy.poll_ms)


def _processes_gone(device: ScrubbedDevice) -> StepResult | Missing:
    seen = device.processes()
    if isinstance(seen, Missing):
        return seen
    pids = ", ".join(str(pid) for pid in seen)
    return StepResult(passed=not seen, detail=f"still there: pid {pids}" if seen else "no process holds a context")


def _memory_returned(device: ScrubbedDevice, policy: ScrubPolicy) -> StepResult | Missing:
    baseline, used = device.baseline_mib(), device.memory_used_mib()
    if isinstance(baseline, Missing):
        return baseline
    if isinstance(used, Missing):
        return used
    passed = used <= baseline + policy.baseline_tolerance_mib
    return StepResult(passed=passed, detail=f"{used} MiB in use, {baseline} MiB when empty")


def _write_pattern(device: ScrubbedDevice, policy: ScrubPolicy, _clock: Clock) -> tuple[str, StepResult]:
    result = device.write_pattern()
    if isinstance(result, StepResult):
        return "write_pattern", result
    enough = policy.write_pattern is WritePattern.IF_AVAILABLE
    return "write_pattern_unavailable", StepResult(passed=enough, detail=f"{result.cause} {result.detail}".rstrip())


def _reset(device: ScrubbedDevice, _policy: ScrubPolicy, _clock: Clock) -> tuple[str, StepResult]:
    sharers = device.sharers()
    if isinstance(sharers, Missing):
        return "reset", StepResult(passed=False, detail=f"not reset, sharers not seen: {sharers.cause}")
    if sharers:
        return "reset", StepResult(passed=False, detail=f"not reset, shared with {', '.join(sharers)}")
    return "reset", device.reset()


@dataclass(slots=True)
class SimulatedDevice:
    """A device that exists only in memory. Its proof says so in every step."""

    held_mib: int = 0
    pids: tuple[int, ...] = ()
    fault: str = ""
    """When set, the write pattern fails with this text."""
    simulated: bool = field(default=True, init=False)

    def driver(self) -> str:
        """Return a name that no real driver has."""
        return "simulated"

    def processes(self) -> tuple[int, ...] | Missing:
        """Return what was given."""
        return self.pids

    def sharers(self) -> tuple[str, ...] | Missing:
        """Return nobody."""
        return ()

    def memory_used_mib(self) -> Reading:
        """Return what is left in memory."""
        return self.held_mib

    def baseline_mib(self) -> Reading:
        """Return zero: nothing reserves memory here."""
        return 0

    def write_pattern(self) -> StepResult | Missing:
        """Pass, saying that nothing was written, unless a fault was set."""
        if self.fault:
            return StepResult(passed=False, detail=f"simulated: {self.fault}")
        return StepResult(passed=True, detail="simulated: no memory was written")

    def reset(self) -> StepResult:
        """Pass, saying that nothing was reset."""
        return StepResult(passed=True, detail="simulated: nothing was reset")
