"""Compare what we ship with what a Grafana holds, and make them the same. Doing it twice changes nothing."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cluster.dashboards.catalogue import BOARDS, FOLDER_TITLE, FOLDER_UID
from cluster.dashboards.port import Grafana, Stored
from cluster.dashboards.refusals import DataSourceMissing
from cluster.dashboards.render import render
from cluster.dashboards.spec import Board
from policies.model.codec import digest

GIVEN_BY_GRAFANA = ("id", "version", "iteration")
"""Fields that Grafana writes itself; they say nothing about the content."""


class Change(StrEnum):
    """What has to happen to one dashboard."""

    CREATE = "create"
    UPDATE = "update"
    MOVE = "move"
    """Same content, wrong folder."""
    SAME = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One dashboard: what we ship, what is there."""

    uid: str
    title: str
    change: Change
    wanted: dict[str, Any]
    found: dict[str, Any] | None

    def lines(self) -> tuple[str, ...]:
        """Return a unified diff, empty when the content is the same."""
        before = _text(self.found).splitlines() if self.found else []
        after = _text(self.wanted).splitlines()
        return tuple(difflib.unified_diff(before, after, f"grafana/{self.uid}", f"partage/{self.uid}", lineterm=""))


def compare(
    grafana: Grafana, *, datasource: str, boards: Mapping[str, Board] = BOARDS, folder_uid: str = FOLDER_UID
) -> tuple[Difference, ...]:
    """Return one difference per board, in the order of the catalogue. Changes nothing.

    Raises ``DataSourceMissing`` if no data source has the name, and the refusals of the port.
    """
    uid = grafana.datasource_uid(datasource)
    if uid is None:
        raise DataSourceMissing(datasource)
    wanted = (render(board, datasource=datasource, datasource_uid=uid) for board in boards.values())
    return tuple(_difference(each, grafana.dashboard(each["uid"]), folder_uid) for each in wanted)


def push(
    grafana: Grafana, *, datasource: str, boards: Mapping[str, Board] = BOARDS, folder_uid: str = FOLDER_UID
) -> tuple[Difference, ...]:
    """Make Grafana hold our boards in our folder; return what was different before.

    A fault part of the way leaves whole dashboards behind; the next push goes on from there.
    """
    differences = compare(grafana, datasource=datasource, boards=boards, folder_uid=folder_uid)
    if grafana.folder_title(folder_uid) is None:
        grafana.make_folder(folder_uid, FOLDER_TITLE)
    for difference in differences:
        if difference.change is not Change.SAME:
            message = f"partage {digest(difference.wanted)[:12]}"
            grafana.put_dashboard(difference.wanted, folder_uid, message)
    return differences


def export(folder: Path, *, datasource: str, boards: Mapping[str, Board] = BOARDS) -> tuple[Path, ...]:
    """Write one JSON file per board, for provisioning from disk; the same boards write the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for uid, board in boards.items():
        path = folder / f"{uid}.json"
        path.write_text(_text(render(board, datasource=datasource)) + "\n", encoding="utf-8")
        written.append(path)
    return tuple(written)


def _difference(wanted: dict[str, Any], stored: Stored | None, folder_uid: str) -> Difference:
    found = None if stored is None else {k: v for k, v in stored.content.items() if k not in GIVEN_BY_GRAFANA}
    if stored is None:
        change = Change.CREATE
    elif found != wanted:
        change = Change.UPDATE
    elif stored.folder_uid != folder_uid:
        change = Change.MOVE
    else:
        change = Change.SAME
    return Difference(uid=wanted["uid"], title=wanted["title"], change=change, wanted=wanted, found=found)


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
