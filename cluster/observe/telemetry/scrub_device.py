"""A real device as scrubbing needs it: seen through NVML, overwritten through CUDA, reset by the driver's own tool."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pynvml

from cluster.observe.nvml import open_nvml
from cluster.observe.telemetry.gate import Gate, Unanswered
from cluster.observe.telemetry.lane import within
from cluster.observe.telemetry.readings import mebibytes, plausible
from policies.model.proof import StepResult
from policies.model.telemetry import DeviceFacts, Missing, MissingCause, Reading

LOOK_S = 5.0
"""Longest wait for one look through NVML."""
PATTERN_S = 120
"""Longest time for overwriting and reading back 192 GB at a tenth of the bandwidth of HBM."""
RESET_S = 90
NO_CUDA = 3
"""Exit status of the pattern program where there is no CUDA driver."""


class NvmlDevice:
    """One GPU or MIG instance, found by UUID at every look: handles do not outlive a reset."""

    simulated = False

    def __init__(self, fact: DeviceFacts, siblings: tuple[DeviceFacts, ...] = (), baseline_mib: Reading = 0) -> None:
        """Take the device's facts, those of the other instances of its GPU, and its use of memory when empty.

        The driver's reserve is told apart by NVML on drivers from 510 on; there an empty device uses 0 to 16 MiB.
        """
        self._fact = fact
        self._siblings = tuple(one for one in siblings if one.gpu == fact.gpu and one.device != fact.device)
        self._baseline = baseline_mib

    def driver(self) -> str:
        """Return the driver's version; empty if it cannot be had."""
        answer = self._look(lambda gate: gate.require(pynvml.nvmlSystemGetDriverVersion))
        return "" if isinstance(answer, Missing) else str(answer)

    def processes(self) -> tuple[int, ...] | Missing:
        """Return host PIDs with a compute or graphics context on the device, sorted."""
        return _pids(self._look(lambda gate: _running(gate, _handle(gate, self._fact.device))))

    def sharers(self) -> tuple[str, ...] | Missing:
        """Return what else is on the same physical GPU: sibling instances, and processes on the GPU as a whole."""
        others = tuple(one.device for one in self._siblings if one.schedulable)
        pids = _pids(self._look(lambda gate: _running(gate, _handle(gate, self._fact.gpu))))
        if isinstance(pids, Missing):
            return pids
        return (*others, *(f"pid {pid}" for pid in pids))

    def memory_used_mib(self) -> Reading:
        """Return framebuffer in use, without the driver's reserve where NVML tells it apart."""
        answer = self._look(lambda gate: _memory_used(gate, _handle(gate, self._fact.device)))
        return answer if isinstance(answer, Missing) else plausible("memory_used_mib", int(answer))

    def baseline_mib(self) -> Reading:
        """Return what the device uses when empty."""
        return self._baseline

    def write_pattern(self) -> StepResult | Missing:
        """Overwrite the free memory in a process of its own, which dies with its context; Missing without CUDA."""
        visible = f"CUDA_VISIBLE_DEVICES={self._fact.device}"
        command = ["env", visible, sys.executable, "-m", "cluster.observe.telemetry.overwrite", self._fact.device]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATTERN_S, check=False)
        except subprocess.TimeoutExpired:
            return StepResult(passed=False, detail=f"not finished after {PATTERN_S} s")
        if done.returncode == NO_CUDA:
            return Missing(MissingCause.LIBRARY_NOT_FOUND, "libcuda.so.1")
        return _pattern_result(done.returncode, done.stdout, done.stderr)

    def reset(self) -> StepResult:
        """Reset the physical GPU with nvidia-smi, which refuses while anything uses it."""
        tool = shutil.which("nvidia-smi")
        if tool is None:
            return StepResult(passed=False, detail="nvidia-smi is not installed")
        if self._fact.mig_profile is not None:
            return StepResult(passed=False, detail="a MIG instance is not reset by itself; destroy and make it anew")
        try:
            done = subprocess.run(
                [tool, "--gpu-reset", "-i", self._fact.gpu],
                capture_output=True,
                text=True,
                timeout=RESET_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return StepResult(passed=False, detail=f"not finished after {RESET_S} s")
        return StepResult(passed=done.returncode == 0, detail=(done.stdout + done.stderr).strip()[-200:])

    def _look(self, question: Callable[[Gate], Any]) -> Any | Missing:
        return within(LOOK_S, "scrub", lambda: _answer(question))


def _answer(question: Callable[[Gate], Any]) -> Any | Missing:
    problem = open_nvml()
    if problem is not None:
        return problem
    try:
        return question(Gate())
    except Unanswered as refusal:
        return refusal.missing
    finally:
        Gate().ask(pynvml.nvmlShutdown)


def _handle(gate: Gate, uuid: str) -> Any:
    return gate.require(pynvml.nvmlDeviceGetHandleByUUID, uuid)


def _running(gate: Gate, handle: Any) -> list[int]:
    """Return the PIDs; what has no graphics has none of those, but compute processes must be visible."""
    found = {int(one.pid) for one in gate.require(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)}
    graphics = gate.ask(pynvml.nvmlDeviceGetGraphicsRunningProcesses, handle)
    if not isinstance(graphics, Missing):
        found |= {int(one.pid) for one in graphics}
    return sorted(found)


def _pids(answer: Any | Missing) -> tuple[int, ...] | Missing:
    return answer if isinstance(answer, Missing) else tuple(answer)


def _memory_used(gate: Gate, handle: Any) -> int:
    memory = gate.ask(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2, key="v2")
    if isinstance(memory, Missing):
        memory = gate.require(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return mebibytes(memory.used)


def _pattern_result(status: int, out: str, err: str) -> StepResult:
    try:
        seen = json.loads(out)
    except ValueError:
        return StepResult(passed=False, detail=f"exit {status}: {err.strip()[-200:]}")
    return StepResult(passed=status == 0 and bool(seen.get("passed")), detail=str(seen.get("detail", "")))
