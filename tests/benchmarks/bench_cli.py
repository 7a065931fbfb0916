"""How long a person waits for the command line: ``make bench-cli``. Prints medians and the processor's time.

Each command is a process of its own, as in a shell; the platform that answers `get` is simulated and runs beside it.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import simulated_platform

ROUNDS = 15
PROMISES_MS = {"--help": 150, "get claims": 300, "get claims -o json": 300, "why claim civil/justice:assistant": 300}


def main():
    """Print one line per command: until the first output, in milliseconds, beside what is promised."""
    with (
        tempfile.TemporaryDirectory() as folder,
        simulated_platform.running(Path(folder) / "home") as platform,
    ):
        home = Path(folder)
        simulated_platform.documents(home)
        environment = {**os.environ, **platform.variables}  # noqa: TID251  # for a child
        for document in ("policy.yaml", "claims.yaml"):
            begun(["apply", "-f", str(home / document)], environment)
        time.sleep(2)  # noqa: TID251  # the first decision is taken by another process
        print(f"{'command':<36}{'median':>8}{'least':>8}{'processor':>11}{'promised':>10}   ms, {ROUNDS} rounds each")
        for command, promised in PROMISES_MS.items():
            rounds = [begun(command.split(), environment) for _ in range(ROUNDS)]
            walls, works = ([each[place] for each in rounds] for place in (0, 1))
            median, least, work = statistics.median(walls), min(walls), statistics.median(works)
            print(f"{command:<36}{median:>8.0f}{least:>8.0f}{work:>11.0f}{promised:>10}")


def begun(arguments, environment):
    """Run the command and return the milliseconds until its first output, and those that the processor worked."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    program = [sys.executable, "-m", "cluster.cli.door", *arguments]
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.read(1)
        first = time.perf_counter() - start
        process.stdout.read()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    work = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return first * 1000, work * 1000


if __name__ == "__main__":
    main()
