"""A device changes domain only with a proof, and a proof says what was seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.actuate.scrub import ScrubPolicy, ScrubRequest, SimulatedDevice, WritePattern, scrub
from policies.model.proof import ScrubProof, StepResult
from policies.model.telemetry import Missing, MissingCause, Reading
from policies.model.units import DeviceId, SecurityDomain

REQUEST = ScrubRequest(device=DeviceId("GPU-0"), from_domain=SecurityDomain.CIVIL, to_domain=SecurityDomain.DEFENCE)


WRITTEN = StepResult(passed=True, detail="81000 MiB written, read back and zeroed")


@dataclass
class SteppedClock:
    """Time that moves only when somebody sleeps."""

    now: int = 1_000
    slept: list[int] = field(default_factory=list)

    def now_ms(self) -> int:
        return self.now

    def monotonic_ms(self) -> int:
        return self.now

    def sleep_ms(self, duration_ms: int) -> None:
        self.slept.append(duration_ms)
        self.now += duration_ms


@dataclass
class ScriptedDevice:
    """A real device as scrubbing sees it; each look takes the next answer, the last one stays."""

    pids: list[tuple[int, ...] | Missing] = field(default_factory=lambda: [()])
    used: list[Reading] = field(default_factory=lambda: [0])
    baseline: Reading = 0
    shared_with: tuple[str, ...] | Missing = ()
    pattern: StepResult | Missing = WRITTEN
    simulated: bool = False
    resets: int = 0

    def driver(self) -> str:
        return "590.48.01"

    def processes(self) -> tuple[int, ...] | Missing:
        return self.pids.pop(0) if len(self.pids) > 1 else self.pids[0]

    def sharers(self) -> tuple[str, ...] | Missing:
        return self.shared_with

    def memory_used_mib(self) -> Reading:
        return self.used.pop(0) if len(self.used) > 1 else self.used[0]

    def baseline_mib(self) -> Reading:
        return self.baseline

    def write_pattern(self) -> StepResult | Missing:
        return self.pattern

    def reset(self) -> StepResult:
        self.resets += 1
        return StepResult(passed=True, detail="reset")


def proof_of(device: ScriptedDevice | SimulatedDevice, policy: ScrubPolicy | None = None) -> ScrubProof:
    return scrub(REQUEST, device, policy or ScrubPolicy(), SteppedClock())


def test_an_empty_device_gets_a_proof_of_every_step() -> None:
    proof = proof_of(ScriptedDevice())
    assert proof.passed
    assert [step.name for step in proof.steps] == [
        "no_process",
        "framebuffer_baseline",
        "write_pattern",
        "framebuffer_baseline",
    ]
    assert proof.driver == "590.48.01"
    assert not proof.simulated


def test_a_process_that_takes_a_moment_to_die_is_waited_for() -> None:
    device = ScriptedDevice(pids=[(4711,), (4711,), ()], used=[70_000, 900, 3])
    assert proof_of(device).passed


def test_a_process_that_will_not_die_fails_the_scrub_and_is_named() -> None:
    proof = proof_of(ScriptedDevice(pids=[(4711, 4712)]))
    assert not proof.passed
    assert proof.steps[-1].name == "no_process"
    assert "4711, 4712" in proof.steps[-1].detail
    assert len(proof.steps) == 1, "nothing is overwritten while a process is alive"


def test_memory_left_behind_fails_the_scrub() -> None:
    proof = proof_of(ScriptedDevice(used=[512], baseline=3))
    assert not proof.passed
    assert proof.steps[-1].detail == "512 MiB in use, 3 MiB when empty"


def test_what_cannot_be_seen_is_not_clean() -> None:
    gone = Missing(MissingCause.GPU_IS_LOST)
    for blind in (ScriptedDevice(pids=[gone]), ScriptedDevice(used=[gone]), ScriptedDevice(baseline=gone)):
        proof = proof_of(blind)
        assert not proof.passed
        assert "gpu_is_lost" in proof.steps[-1].detail


def test_without_cuda_the_proof_says_that_nothing_was_overwritten() -> None:
    device = ScriptedDevice(pattern=Missing(MissingCause.LIBRARY_NOT_FOUND, "libcuda.so.1"))
    proof = proof_of(device)
    assert proof.passed
    assert "write_pattern_unavailable" in [step.name for step in proof.steps]
    assert "write_pattern" not in [step.name for step in proof.steps]


def test_a_policy_that_requires_the_pattern_fails_where_it_cannot_be_written() -> None:
    device = ScriptedDevice(pattern=Missing(MissingCause.LIBRARY_NOT_FOUND, "libcuda.so.1"))
    assert not proof_of(device, ScrubPolicy(write_pattern=WritePattern.REQUIRED)).passed


def test_a_pattern_read_back_wrongly_fails_the_scrub() -> None:
    device = ScriptedDevice(pattern=StepResult(passed=False, detail="word 12 reads 0x0"))
    assert not proof_of(device).passed


def test_a_device_is_reset_only_if_the_policy_says_so() -> None:
    device = ScriptedDevice()
    proof_of(device)
    assert device.resets == 0
    proof_of(device, ScrubPolicy(reset=True))
    assert device.resets == 1


def test_a_device_shared_with_others_is_never_reset() -> None:
    for sharers in (("MIG-2",), Missing(MissingCause.HUNG)):
        device = ScriptedDevice(shared_with=sharers)
        proof = proof_of(device, ScrubPolicy(reset=True))
        assert not proof.passed
        assert device.resets == 0


def test_a_simulated_scrub_says_so_in_its_proof() -> None:
    proof = proof_of(SimulatedDevice())
    assert proof.passed
    assert proof.simulated
    assert proof.driver == "simulated"
    assert "simulated" in next(step.detail for step in proof.steps if step.name == "write_pattern")


def test_a_simulated_device_can_keep_residual_memory() -> None:
    assert not proof_of(SimulatedDevice(held_mib=4096)).passed
    assert not proof_of(SimulatedDevice(pids=(7,))).passed
    assert not proof_of(SimulatedDevice(fault="word 12 reads 0x0")).passed
