"""Everything but tidiness in two processes: what starts real Ray or system programs waits for them, others run beside.

Called by ``make test``; the report on those comes last. Arguments go to both.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile

PYTEST = (sys.executable, "-m", "pytest", "-q", "--ignore=tests/tidy")
WAITING = "e2e or system or real_cluster"
"""Marks of the tests that mostly wait for programs to start."""


def main(arguments: list[str]) -> int:
    """Run both and return the worse exit status. Ctrl-C reaches both, and both clean up before this returns."""
    with tempfile.TemporaryFile("w+") as report:
        waiting = subprocess.Popen([*PYTEST, "-m", WAITING, *arguments], stdout=report, stderr=subprocess.STDOUT)
        try:
            others = subprocess.call([*PYTEST, "-m", f"not ({WAITING})", *arguments])
        finally:
            status = waiting.wait()
            report.seek(0)
            sys.stdout.write("\nthose that start real Ray or programs of the system:\n")
            shutil.copyfileobj(report, sys.stdout)
    return max(others, status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
