"""Every dashboard that we ship, by uid."""

from __future__ import annotations

from cluster.dashboards.boards import devices, energy, isolation, reclaim, scheduler, serving, shares
from cluster.dashboards.spec import Board

FOLDER_UID = "partage"
FOLDER_TITLE = "partage"

BOARDS: dict[str, Board] = {
    board.uid: board
    for board in (
        shares.BOARD,
        reclaim.BOARD,
        devices.BOARD,
        serving.BOARD,
        isolation.BOARD,
        scheduler.BOARD,
        energy.BOARD,
    )
}
