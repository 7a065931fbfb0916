"""What one browser has chosen to look at; lives as long as its page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cluster.console.scene import ClaimView
from policies.model.decision import ClaimState

CLAIMS_PER_PAGE = 50
TEXT_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Filters, page and chosen device."""

    search: str = ""
    state: str = ""
    page: int = 1
    device: str = ""
    offer: str = ""
    """Sentences of the offer last asked for, one a line."""
    offered: bool = False
    """Whether the form may be submitted."""
    notice: str = ""
    secret: str = ""
    """A new key, shown once."""


def filtered(claims: tuple[ClaimView, ...], selection: Selection) -> tuple[ClaimView, ...]:
    """Return the claims that match, those that are not fully served first, then by name."""
    needle = selection.search.casefold()
    found = [view for view in claims if needle in view.claim.id.casefold() and selection.state in {"", state_of(view)}]
    return tuple(sorted(found, key=lambda view: (ORDER[state_of(view)], view.claim.id)))


ORDER = {"waiting": 0, "degraded": 1, "unknown": 2, "held": 3, "served": 4}


def state_of(view: ClaimView) -> str:
    """Return the claim's state, ``unknown`` until the loop has decided on it."""
    return view.reason.state.value if view.reason else "unknown"


def turn_page(selection: Selection, matching: int, step: int) -> Selection:
    """Return the selection one page on or back, inside what there is."""
    return replace(selection, page=min(max(1, selection.page + step), pages(matching)))


def pages(matching: int) -> int:
    """Return how many pages so many claims fill, at least one."""
    return max(1, -(-matching // CLAIMS_PER_PAGE))


def text(value: Any) -> str:
    """Return what a browser sent as text of bounded length; anything else is empty."""
    return value[:TEXT_MAX].strip() if isinstance(value, str) else ""


STATES = (*(state.value for state in ClaimState), "unknown")
