"""Write the golden output again, to be reviewed as a diff: `python -m tests.helm.accept`."""

from __future__ import annotations

from pathlib import Path

from tests.helm.chart import render

GOLDEN = Path(__file__).parent / "golden" / "default.yaml"
WITHOUT = "secrets.create=false,secrets.existingSecret=mine,monitoring.rules=false,monitoring.dashboards=false"
"""Left out: tokens, which are random, and what cluster/dashboards has tests of its own for."""


def golden() -> str:
    return render("--set", WITHOUT)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(golden())
