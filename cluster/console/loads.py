"""The loads of all devices, sent by themselves: they change every second, the map around them seldom does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nicegui.element import Element

from cluster.console.devices import Spot
from cluster.console.words import Words


class Loads(Element, component="loads.js"):
    """An element without looks that writes loads into the tiles of the map."""

    def __init__(self, words: Words) -> None:
        super().__init__()
        self._props["nodes"] = {}
        self._props["known"] = words.template("device.load")
        self._props["unknown"] = words("device.load.unknown")

    def show(self, spots: Mapping[str, Sequence[Spot]]) -> bool:
        """Send the loads, node by node in the order of their tiles, if one has changed; return whether they were."""
        nodes = {f"at-node-{name}": ",".join(map(_percent, found)) for name, found in spots.items()}
        if self._props["nodes"] == nodes:
            return False
        self._props["nodes"] = nodes
        self.update()
        return True


def _percent(spot: Spot) -> str:
    percent = spot.reading.utilisation_percent if spot.reading else None
    return "" if percent is None else str(percent)
