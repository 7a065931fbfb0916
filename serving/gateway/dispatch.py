"""Which request goes to which group, and when. Bounded queues, exact counts, no request lost by a planned move."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from policies.model.routing import (
    ClaimLoad,
    GatewayLoad,
    GroupLoad,
    Portion,
    Route,
    RoutedGroup,
    RoutingTable,
    VariantLoad,
)
from policies.model.units import ClaimId, VariantId
from serving import demand
from serving.gateway.choice import Place, Score, Wish, burden, choose
from serving.gateway.errors import ModelNotFound, Overloaded, QueueFull, WaitedTooLong
from serving.gateway.fair import FairQueue, Ticket

QUEUE_LIMIT = 512
"""Requests that may wait for one claim."""
LONGEST_RETRY_S = 60
SERVICE_GUESS_MS = 1_000
"""Time of one answer until some were measured."""
_SMOOTHING = 8


@dataclass(slots=True, kw_only=True)
class Line:
    """The requests of one claim and the groups that answer them."""

    route: Route
    queue: FairQueue
    demand: demand.Demand
    places: list[Place] = field(default_factory=list)
    """Routed groups, best rung first."""
    concurrency: int = 1
    """Of its groups, last seen; turns waiting requests into replicas while there is no group."""
    service_ms: int = SERVICE_GUESS_MS
    """Smoothed time of one answer."""
    in_flight: int = 0
    """Requests inside its groups, those no longer routed included."""
    filling: dict[int, Callable[[], None]] = field(default_factory=dict)
    """Requests inside that only fill idle places, and how each is asked to leave."""

    def slots(self) -> int:
        """Return the requests that the routed groups answer at once."""
        return sum(place.slots for place in self.places)


@dataclass(slots=True, kw_only=True, eq=False)
class Waiting(Ticket):
    """A ticket and the request behind it."""

    granted: asyncio.Future[Place]
    wish: Wish


@dataclass(slots=True, kw_only=True)
class Order:
    """What a request asks of the queue."""

    tenant: str
    cost: int
    wait_ms: int
    """Longest time in the queue."""
    weight: int = 1
    priority: int = 0
    avoid: frozenset[str] = frozenset()
    lot: int = 0
    """0..999, drawn for each request: which part of a split it belongs to."""
    affinity: str = ""
    """Requests of the same affinity go to the same group while it has room; empty for none."""


@dataclass(slots=True, kw_only=True)
class Lease:
    """The right to have one request inside one group. Must be given back."""

    line: Line
    place: Place
    ticket: Ticket | None
    since_ms: int
    cost: int = 0
    """Tokens that the request is expected to take."""

    @property
    def group(self) -> str:
        """Name of the group's Serve application."""
        return str(self.place.routed.group)


class Dispatcher:
    """The claims, groups and counts of one domain. Lives in one event loop; ``clock`` gives milliseconds."""

    def __init__(self, clock: Callable[[], int], queue_limit: int = QUEUE_LIMIT) -> None:
        self._clock = clock
        self.queue_limit = queue_limit
        self._table: RoutingTable | None = None
        self._lines: dict[str, Line] = {}
        self._places: dict[str, Place] = {}
        self._scores: dict[tuple[str, str], Score] = {}
        """By claim and variant: they outlive the groups."""

    @property
    def generation(self) -> int:
        """Generation of the table in force; 0 before the first."""
        return self._table.generation if self._table else 0

    def apply(self, table: RoutingTable) -> bool:
        """Make the table the one in force, in place; return False, changing nothing, if it is older than that.

        Requests inside a group that is no longer routed finish there and are reported until there are none.
        """
        if table.generation < self.generation:
            return False
        self._table = table
        for place in self._places.values():
            place.is_routed = False
        gone = self._lines
        self._lines = {str(route.claim): self._line(route) for route in table.routes}
        for claim in gone.keys() - self._lines.keys():
            _dismiss(gone[claim])
        self._forget_empty()
        for line in self._lines.values():
            self._pump(line)
        return True

    def models(self, tenant: str) -> list[str]:
        """Return the names of the models that the tenant may call, sorted."""
        return sorted({str(line.route.model) for line in self._lines.values() if _may_call(line.route, tenant)})

    def line(self, tenant: str, model: str) -> Line:
        """Return where the tenant's requests for the model go: its own claim first, then one shared with it.

        A claim that has groups is preferred to one that waits. Raises ``ModelNotFound``.
        """
        lines = [
            line for line in self._lines.values() if _is_named(line.route, model) and _may_call(line.route, tenant)
        ]
        if not lines:
            raise ModelNotFound(model)
        return min(lines, key=lambda line: (not line.places, line.route.tenant != tenant, line.route.claim))

    async def lease(self, line: Line, order: Order) -> Lease:
        """Return a lease once it is this request's turn. Raises ``Overloaded`` if shed or not served in time."""
        wish = Wish(avoid=order.avoid, lot=order.lot, affinity=order.affinity)
        place = choose(line.route, line.places, wish) if not len(line.queue) else None
        if place is not None:
            return self._admit(line, place, order.cost)
        ticket = Waiting(
            tenant=order.tenant,
            cost=max(1, order.cost),
            weight=order.weight,
            priority=order.priority,
            at_ms=self._clock(),
            granted=asyncio.get_running_loop().create_future(),
            wish=wish,
        )
        shed = line.queue.push(ticket)
        self._count(line)
        if isinstance(shed, Waiting) and not shed.granted.done():
            shed.granted.set_exception(self._overloaded(line, QueueFull, "The queue of this model is full"))
        self._make_room(line)
        self._pump(line)
        place = await self._turn(line, ticket, order.wait_ms)
        return Lease(line=line, place=place, ticket=ticket, since_ms=self._clock(), cost=ticket.cost)

    def fill(self, line: Line, leave: Callable[[], None], cost: int = 0) -> Lease | None:
        """Return a lease on a place that nobody wants now, or None; ``cost`` tokens are expected.

        ``leave`` is called, once, as soon as somebody wants the place; the lease must then be given back at once.
        """
        place = choose(line.route, line.places, Wish()) if not len(line.queue) else None
        if place is None:
            return None
        lease = self._admit(line, place, cost)
        line.filling[id(lease)] = leave
        self._count(line)
        return lease

    def copy_to(self, line: Line, shadow: Portion, cost: int = 0) -> Lease | None:
        """Return a lease on an idle place of the shadow's groups, or None; copies never wait."""
        free = [p for p in line.places if shadow.means(p.routed) and p.in_flight < p.slots]
        return self._admit(line, min(free, key=burden), cost) if free else None

    def give_back(self, lease: Lease, *, used: int | None, failed: bool = False) -> None:
        """End a lease: ``used`` tokens were taken, None if not known. The next in line is let in."""
        place, line = lease.place, lease.line
        self._let_out(line, place, lease.cost)
        line.filling.pop(id(lease), None)
        for count in (place, place.score):
            count.completed += not failed
            count.failed += failed
        if lease.ticket is not None and used is not None:
            line.queue.settle(lease.ticket, used)
        line.service_ms += (self._clock() - lease.since_ms - line.service_ms) // _SMOOTHING
        if not place.is_routed:
            self._forget_empty()
        self._pump(line)
        self._count(line)

    def load(self) -> GatewayLoad | None:
        """Return what is inside and what waits, by group and by claim; None before the first table."""
        if self._table is None:
            return None
        return GatewayLoad(
            domain=self._table.domain,
            generation=self.generation,
            observed_at_ms=self._clock(),
            groups=tuple(_group_load(place) for _, place in sorted(self._places.items())),
            claims=tuple(self._claim_load(line) for _, line in sorted(self._lines.items())),
            variants=tuple(_variant_load(*key, score) for key, score in sorted(self._scores.items())),
        )

    def queued(self) -> dict[int, int]:
        """Return how many requests wait, by priority."""
        counts: Counter[int] = Counter()
        for line in self._lines.values():
            counts.update(ticket.priority for ticket in line.queue.waiting())
        return counts

    def retry_after_s(self, line: Line) -> int:
        """Return when a request that comes now may expect a place, in whole seconds of at least 1."""
        ahead_ms = line.service_ms * (len(line.queue) + 1) // max(1, line.slots())
        return min(LONGEST_RETRY_S, max(1, -(-ahead_ms // 1000)))

    def _line(self, route: Route) -> Line:
        before = self._lines.get(str(route.claim))
        now = self._clock()
        start = demand.Demand(now, 0, now)
        line = before or Line(route=route, queue=FairQueue(self.queue_limit), demand=start)
        if _is_new_trial(line.route, route, is_first=before is None):
            self._scores = {key: score for key, score in self._scores.items() if key[0] not in claims_of(route)}
        line.route = route
        ranked = sorted(route.groups, key=lambda group: (group.rung, group.group))
        line.places = [self._place(group, route) for group in ranked]
        if route.groups:
            line.concurrency = max(1, min(group.concurrency for group in route.groups))
        return line

    def _place(self, group: RoutedGroup, route: Route) -> Place:
        place = self._places.setdefault(str(group.group), Place(routed=group))
        place.routed, place.is_routed = group, True
        key = (str(group.claim or route.claim), str(group.variant or ""))
        place.score = self._scores.setdefault(key, Score())
        return place

    def _admit(self, line: Line, place: Place, cost: int) -> Lease:
        self._let_in(line, place, cost)
        self._count(line)
        return Lease(line=line, place=place, ticket=None, since_ms=self._clock(), cost=cost)

    def _make_room(self, line: Line) -> None:
        """Ask what only fills idle places to leave, one for each request that waits."""
        for _ in range(min(len(line.queue), len(line.filling))):
            _, leave = line.filling.popitem()
            leave()

    def _let_in(self, line: Line, place: Place, cost: int) -> None:
        place.in_flight += 1
        place.outstanding += cost
        line.in_flight += 1

    def _let_out(self, line: Line, place: Place, cost: int) -> None:
        place.in_flight -= 1
        place.outstanding -= cost
        line.in_flight -= 1

    async def _turn(self, line: Line, ticket: Waiting, wait_ms: int) -> Place:
        timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._expire, line, ticket)
        try:
            return await ticket.granted
        except asyncio.CancelledError:
            self._withdraw(line, ticket)
            raise
        finally:
            timer.cancel()

    def _expire(self, line: Line, ticket: Waiting) -> None:
        if not ticket.granted.done():
            ticket.granted.set_exception(self._overloaded(line, WaitedTooLong, "No place became free in time"))
        line.queue.drop(ticket)
        self._count(line)

    def _withdraw(self, line: Line, ticket: Waiting) -> None:
        """Take a client that went out of the line; give its place back if it was granted in the same moment."""
        line.queue.drop(ticket)
        if ticket.granted.done() and not ticket.granted.cancelled() and ticket.granted.exception() is None:
            self._let_out(line, ticket.granted.result(), ticket.cost)
            self._pump(line)
        self._count(line)

    def _pump(self, line: Line) -> None:
        """Let in whoever is next while there is room."""
        while len(line.queue) and (anywhere := choose(line.route, line.places, Wish())) is not None:
            ticket = line.queue.pop(self._clock())
            if not isinstance(ticket, Waiting) or ticket.granted.done():
                continue
            place = choose(line.route, line.places, ticket.wish) or anywhere
            self._let_in(line, place, ticket.cost)
            ticket.granted.set_result(place)

    def _count(self, line: Line) -> None:
        line.demand = demand.changed(line.demand, line.in_flight - len(line.filling) + len(line.queue), self._clock())

    def _claim_load(self, line: Line) -> ClaimLoad:
        self._count(line)
        return ClaimLoad(
            claim=line.route.claim,
            in_flight=line.in_flight,
            queued=len(line.queue),
            desired_replicas=demand.replicas(line.demand, line.concurrency),
        )

    def _forget_empty(self) -> None:
        gone = [name for name, place in self._places.items() if not place.is_routed and place.in_flight == 0]
        for name in gone:
            del self._places[name]
        claims = {str(each) for line in self._lines.values() for each in claims_of(line.route)}
        self._scores = {key: score for key, score in self._scores.items() if key[0] in claims}

    def _overloaded(self, line: Line, kind: type[Overloaded], why: str) -> Overloaded:
        message = f"{why}; try again after the time given in Retry-After."
        return kind(message, retry_after_s=self.retry_after_s(line))


def _is_new_trial(before: Route, after: Route, *, is_first: bool) -> bool:
    """Return whether a canary begins: from now on it and its main claim are counted side by side."""
    known = None if is_first or before.canary is None else before.canary.claim
    return after.canary is not None and after.canary.claim != known


def _may_call(route: Route, tenant: str) -> bool:
    return route.tenant == tenant or tenant in route.shared_with


def _is_named(route: Route, model: str) -> bool:
    return route.model == model or model in route.aliases


def _dismiss(line: Line) -> None:
    for ticket in line.queue.waiting():
        line.queue.drop(ticket)
        if isinstance(ticket, Waiting) and not ticket.granted.done():
            ticket.granted.set_exception(ModelNotFound(str(line.route.model)))


def _group_load(place: Place) -> GroupLoad:
    return GroupLoad(
        group=place.routed.group, in_flight=place.in_flight, completed=place.completed, failed=place.failed
    )


def _variant_load(claim: str, variant: str, score: Score) -> VariantLoad:
    return VariantLoad(
        claim=ClaimId(claim),
        variant=VariantId(variant) if variant else None,
        completed=score.completed,
        failed=score.failed,
        first_p50_ms=score.percentile(50),
        first_p95_ms=score.percentile(95),
    )


def claims_of(route: Route) -> frozenset[ClaimId]:
    """Return the claims whose groups stand in the route: its own, and its canary's."""
    return frozenset({route.claim} | {group.claim for group in route.groups if group.claim is not None})


def routed_groups(table: RoutingTable) -> Iterable[str]:
    """Return the names of all groups in the table."""
    return (str(group.group) for route in table.routes for group in route.groups)
