"""What the telemetry agent costs, over the fake driver: CPU per round, memory, and how both grow.

Run: ``python -m tests.benchmarks.telemetry_cost``. Needs cc. Prints one line per figure; a real driver's own time comes
on top and is measured by the same program on a machine with devices (``--real``).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "cluster" / "observe" / "telemetry" / "fake_nvml.c"
ROUNDS, WARM_UP, LATER = 120, 10, 600
STARTS_WITHIN_S, SETTLE_S, WATCH_S = 60, 4, 20
BUDGET_SHARE, BUDGET_MIB, BUDGET_SAMPLE_MS = 0.01, 60e6 / 2**20, 50


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> None:
    """Measure in processes of their own, so that nothing else is counted."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--real", action="store_true", help="measure this machine's own devices")
    arguments.add_argument("--inside", type=int, metavar="ROUNDS", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.inside:
        inside(given.inside)
        return
    if given.real:
        report("this machine's devices", measured({}, ROUNDS))
        return
    with tempfile.TemporaryDirectory() as folder:
        over_the_fake(Path(folder))


def over_the_fake(folder: Path) -> None:
    from tests.cluster.observe.telemetry.fake_node import FakeNode, FakeProcess, h100

    library = folder / "libnvidia-ml.so.1"
    compiler = shutil.which("cc") or "cc"
    flags = ["-std=gnu11", "-shared", "-fPIC", "-O2", "-pthread", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE)], check=True)
    seen = {}
    for count in (1, 8):
        state = folder / f"state-{count}"
        running = [FakeProcess(pid=1, memory_mib=60_000, sm=70)]
        gpus = [h100(number, sm_util=60.0, used_mib=60_000, processes=running) for number in range(count)]
        state.write_text(FakeNode(gpus=gpus).to_text())
        environment = {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML_STATE": str(state)}
        seen[count] = measured(environment, ROUNDS)
        report(f"{count} devices", seen[count])
    whole_agent(environment, folder)
    longer = measured(environment, LATER)
    say(f"CPU of 8 devices beside 1: {seen[8]['cpu_ms'] / seen[1]['cpu_ms']:.1f} times")
    say(f"memory after {LATER} rounds beside {ROUNDS}: {longer['peak_mib'] / seen[8]['peak_mib']:.2f} times")


def whole_agent(environment: dict[str, str], folder: Path) -> None:
    """Measure the command as a node runs it: with metrics, and a control plane that does not answer."""
    token = folder / "token"
    token.write_text("token")
    address = f"127.0.0.1:{_free_port()}"
    options = ["telemetry", "--push", "http://127.0.0.1:9", "--token-file", str(token), "--listen", address]
    known = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"} | environment
    child = subprocess.Popen([sys.executable, "-m", "cluster.cli.main", *options], env=known, stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_looks(address)
        time.sleep(SETTLE_S)  # noqa: TID251 - the agent keeps real time
        began = _cpu_s(child.pid)
        time.sleep(WATCH_S)  # noqa: TID251 - as above
        cpu_ms = (_cpu_s(child.pid) - began) * 1000 / WATCH_S
        status = Path(f"/proc/{child.pid}/status").read_text()
    finally:
        child.terminate()
        child.wait()
    peak_mib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    report("the whole agent, 8 devices", {"cpu_ms": cpu_ms, "peak_mib": peak_mib, "sample_ms": 0.0})


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
    return port


def _wait_until_it_looks(address: str) -> None:
    """Return once the agent shows devices: on a busy machine its start takes longer than the time that is measured."""
    for _ in range(STARTS_WITHIN_S):
        time.sleep(1)  # noqa: TID251 - the agent keeps real time
        with suppress(OSError), urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            if b"partage_device_info{" in answer.read():
                return
    sys.exit(f"the agent showed no device within {STARTS_WITHIN_S} s")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(environment: dict[str, str], rounds: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.telemetry_cost", "--inside", str(rounds)]
    known = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"} | environment
    done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=500, check=True, cwd=ROOT)
    words = dict(line.split("=") for line in done.stdout.split())
    return {name: float(value) for name, value in words.items()}


def inside(rounds: int) -> None:
    """Look, store and put into words as the agent does, without the pauses between the rounds."""
    from cluster.clock import SystemClock
    from cluster.observe.telemetry.agent import Agent
    from cluster.observe.telemetry.store import TelemetryStore
    from policies.model.codec import to_json
    from policies.model.units import NodeId

    clock = SystemClock()
    agent, store = Agent(NodeId("node"), "boot", clock), TelemetryStore(clock)
    walls = []
    began = time.process_time()
    for number in range(WARM_UP + rounds):
        if number == WARM_UP:
            began = time.process_time()
        start = time.perf_counter()
        report_made = agent.look()
        walls.append(time.perf_counter() - start)
        agent.acknowledged(store.accept(report_made).event_sequence)
        to_json(report_made)
    cpu_ms = (time.process_time() - began) * 1000 / rounds
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sample_ms = sorted(walls[WARM_UP:])[rounds // 2] * 1000
    say(f"devices={len(store.devices())} cpu_ms={cpu_ms:.3f} sample_ms={sample_ms:.3f} peak_mib={peak_mib:.1f}")
    agent.close()


def report(title: str, figures: dict[str, float]) -> None:
    share = figures["cpu_ms"] / 1000
    sample = (
        f", {figures['sample_ms'] / BUDGET_SAMPLE_MS:.2f} of it for a sample of all" if figures["sample_ms"] else ""
    )
    say(
        f"{title}: {share:.2%} of one core at one round a second ({share / BUDGET_SHARE:.2f} of the budget), "
        f"{figures['peak_mib']:.0f} MiB at most ({figures['peak_mib'] / BUDGET_MIB:.2f} of the budget){sample}"
    )


if __name__ == "__main__":
    main()
