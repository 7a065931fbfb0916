"""Where a program of the development environment is: `python -m tests.tools helm`."""

from __future__ import annotations

import sys

from tests.kubernetes_tools import tool

if __name__ == "__main__":
    sys.stdout.write(f"{tool(sys.argv[1])}\n")
