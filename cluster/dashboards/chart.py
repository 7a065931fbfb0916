"""Writes dashboards and alerts into the chart: `python -m cluster.dashboards.chart helm/partage/files`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cluster.dashboards.alerts.rules import write
from cluster.dashboards.catalogue import BOARDS
from cluster.dashboards.render import render


def write_files(folder: Path) -> None:
    """Let the folder hold the rules and one file per dashboard; the same boards write the same bytes."""
    (folder / "dashboards").mkdir(parents=True, exist_ok=True)
    write(folder / "rules.yaml")
    for uid, board in BOARDS.items():
        text = json.dumps(render(board), indent=1, sort_keys=True, ensure_ascii=False)
        (folder / "dashboards" / f"{uid}.json").write_text(text + "\n")


if __name__ == "__main__":
    write_files(Path(sys.argv[1]))
