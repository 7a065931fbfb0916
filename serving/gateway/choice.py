"""Which of the groups with room gets a request: best rung, split, affinity, least outstanding tokens. Pure."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from policies.model.routing import Portion, Route, RoutedGroup

AFFINITY_SLACK = 0.5
"""A group keeps its sessions while it is at most this much fuller, in parts of its places, than the least full."""

AFFINITY_TOKENS = 512
"""And while at most this many tokens more are outstanding there for each place: a prompt read again costs less."""


TIMES_KEPT = 512
"""Latest times to the first piece that a score knows."""


@dataclass(slots=True, kw_only=True, eq=False)
class Score:
    """How one variant of one claim has answered, whichever of its groups did."""

    completed: int = 0
    failed: int = 0
    first_ms: deque[int] = field(default_factory=lambda: deque(maxlen=TIMES_KEPT))
    """From entering a group to the first piece, of streamed answers."""

    def percentile(self, percent: int) -> int | None:
        """Return the time that so many percent of the latest streams did not exceed; None if there were none."""
        known = sorted(self.first_ms)
        return known[max(0, -(-len(known) * percent // 100) - 1)] if known else None


@dataclass(slots=True, kw_only=True, eq=False)
class Place:
    """A group as the gateway knows it: how many requests may be inside, and how many are."""

    routed: RoutedGroup
    in_flight: int = 0
    outstanding: int = 0
    """Tokens that the requests inside are expected to take, prompt and answer."""
    completed: int = 0
    failed: int = 0
    is_routed: bool = True
    score: Score = field(default_factory=Score)

    @property
    def slots(self) -> int:
        """Requests that the group answers at once."""
        return self.routed.replicas * self.routed.concurrency


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request would like of its place."""

    avoid: frozenset[str] = frozenset()
    """Groups that failed for this request."""
    lot: int = 0
    """0..999: which part of a split it belongs to."""
    affinity: str = ""


def choose(route: Route, places: Sequence[Place], wish: Wish) -> Place | None:
    """Return the place for a request, None if there is no room. ``places`` are sorted by rung."""
    free = [place for place in places if place.in_flight < place.slots]
    if route.shadow is not None:
        free = [place for place in free if not route.shadow.means(place.routed)]
    if route.canary is not None and not route.canary.permille:
        free = _without(route.canary, places, free)
    if wish.avoid:
        free = [place for place in free if place.routed.group not in wish.avoid]
    if not free:
        return None
    if route.canary is not None:
        free = _split(route, free, wish)
    best = [place for place in free if place.routed.rung == free[0].routed.rung]
    least = min(best, key=burden)
    if not wish.affinity or len(best) == 1:
        return least
    home = max(best, key=lambda place: _score(wish.affinity, place))
    return home if _is_near(home, least) else least


def _is_near(home: Place, least: Place) -> bool:
    (tokens, full), (fewest, emptiest) = burden(home), burden(least)
    return full <= emptiest + AFFINITY_SLACK and tokens <= fewest + AFFINITY_TOKENS


def fullness(place: Place) -> float:
    """Return the part of the places taken, 0..1."""
    return place.in_flight / max(1, place.slots)


def burden(place: Place) -> tuple[float, float]:
    """Return what orders groups of one rung: tokens outstanding for each of its places, then the places taken."""
    return place.outstanding / max(1, place.slots), fullness(place)


def _split(route: Route, free: list[Place], wish: Wish) -> list[Place]:
    """Keep the canary's groups for its part of the requests, others for the rest; all if only one kind has room."""
    if route.canary is None:
        return free
    is_canary = wish.lot < route.canary.permille
    kept = [place for place in free if route.canary.means(place.routed) is is_canary]
    return kept or free


def _without(part: Portion, places: Sequence[Place], free: list[Place]) -> list[Place]:
    """Leave out the groups of a part of nothing, unless there are no others at all."""
    if all(part.means(place.routed) for place in places):
        return free
    return [place for place in free if not part.means(place.routed)]


def _score(affinity: str, place: Place) -> bytes:
    """Rendezvous hashing: when groups come or go, only the sessions of those groups move."""
    return hashlib.blake2b(f"{affinity}\0{place.routed.group}".encode(), digest_size=8).digest()
