"""A piece of a page that is replaced as a whole, without losing the reader's place."""

from __future__ import annotations

from nicegui.element import Element

from cluster.console.markup import Markup


class Fragment(Element, component="fragment.js"):
    """An element whose content the server draws."""

    def __init__(self, tag: str = "div", *, name: str, **attributes: str) -> None:
        super().__init__()
        self._props["tag"] = tag
        self._props["html"] = ""
        self._props["id"] = f"at-{name}"
        self._props.update({key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()})

    def show(self, content: Markup) -> bool:
        """Send the content if it is not what is shown; return whether it was sent."""
        if self._props["html"] == content:
            return False
        self._props["html"] = content
        self.update()
        return True
