"""Who is next: priority classes, and between tenants of a class fair shares of tokens by weight.

A higher class goes first, but not for ever: once a request of a lower one has waited for ``PATIENCE_MS``, the late
ones are owed a quarter of the tokens served, and a quarter of the places in the queue is never taken from lower
classes. Of a share that nobody claimed nothing is kept.

Start-time fair queueing (Goyal, Vin, Cheng 1996): over any time in which two tenants both wait, the tokens served to
them, each divided by its weight, differ by at most one request of each. A tenant in flood therefore delays another by
the requests already inside and one of its own, however many more it sends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RESERVED_PART = 4
"""One of so many tokens, and of so many places in the queue, is kept for classes below the one that goes first."""
PATIENCE_MS = 10_000
"""Wait after which a request is late, and its class is owed its part."""


@dataclass(slots=True, kw_only=True, eq=False)
class Ticket:
    """A request that waits."""

    tenant: str
    cost: int
    """Tokens that it is expected to take, >= 1."""
    weight: int = 1
    priority: int = 0
    """Higher is served first and shed last."""
    at_ms: int = 0
    """When it came, by the clock of whoever calls ``pop``."""
    order: int = 0
    is_gone: bool = False
    """No longer in the queue: served, shed, late, or its client went."""

    @property
    def charge(self) -> float:
        """Virtual time that serving it takes from its tenant."""
        return self.cost / self.weight


@dataclass(slots=True, kw_only=True)
class _Flow:
    """What one tenant waits with in one class. Only its head has a start, so tickets that go cost it nothing."""

    start: float
    backlog: float = 0.0
    tickets: dict[Ticket, None] = field(default_factory=dict)
    """An ordered set, oldest first."""

    def head(self) -> Ticket:
        return next(iter(self.tickets))

    def newest(self) -> Ticket:
        return next(reversed(self.tickets))


Key = tuple[int, str]
"""Priority and tenant."""


@dataclass(slots=True)
class FairQueue:
    """Waiting tickets of one model, at most ``limit``. Holds no clock; a step costs O(tenants that wait)."""

    limit: int
    _flows: dict[Key, _Flow] = field(default_factory=dict)
    """Of those that wait."""
    _finish: dict[Key, float] = field(default_factory=dict)
    """Virtual time at which each tenant's last served ticket ends."""
    _now: float = 0.0
    """Virtual time: the start of the ticket served last."""
    _owed: dict[int, float] = field(default_factory=dict)
    """Tokens that each class owes to late ones below it."""
    _waiting: int = 0
    _count: int = 0

    def __len__(self) -> int:
        return self._waiting

    def push(self, ticket: Ticket) -> Ticket | None:
        """Add the ticket; return the one that must be shed for it, which may be itself, or None if there is room.

        Shed is the newest ticket of the tenant that waits with the most tokens for its weight, in the lowest class that
        is not down to the places kept for it.
        """
        if not self._waiting:
            self._finish.clear()  # nobody waits: what was served while there was room is nobody's debt
        self._count += 1
        ticket.order = self._count
        key = (ticket.priority, ticket.tenant)
        if key not in self._flows:
            self._flows[key] = _Flow(start=max(self._now, self._finish.get(key, 0.0)))
        flow = self._flows[key]
        flow.tickets[ticket] = None
        flow.backlog += ticket.charge
        self._waiting += 1
        if self._waiting <= self.limit:
            return None
        shed = self._least_entitled()
        self.drop(shed)
        return shed

    def pop(self, now_ms: int = 0) -> Ticket | None:
        """Remove and return the ticket that is served next; None if nobody waits."""
        if not self._flows:
            return None
        key, flow = self._chosen(now_ms - PATIENCE_MS)
        ticket = flow.head()
        self._now = max(self._now, flow.start)
        self._finish[key] = flow.start = flow.start + ticket.charge
        self.drop(ticket)
        return ticket

    def drop(self, ticket: Ticket) -> None:
        """Remove a ticket; unless ``pop`` gave it, its tenant is not charged. Harmless if it has gone."""
        if ticket.is_gone:
            return
        ticket.is_gone = True
        self._waiting -= 1
        key = (ticket.priority, ticket.tenant)
        flow = self._flows[key]
        flow.backlog -= ticket.charge
        del flow.tickets[ticket]
        if not flow.tickets:
            del self._flows[key]

    def settle(self, ticket: Ticket, used: int) -> None:
        """Charge a served ticket's tenant with the tokens that it really took instead of those expected."""
        key, difference = (ticket.priority, ticket.tenant), (used - ticket.cost) / ticket.weight
        if key in self._finish:
            self._finish[key] += difference
        if key in self._flows:
            self._flows[key].start += difference

    def waiting(self) -> list[Ticket]:
        """Return the tickets that wait, by tenant."""
        return [ticket for flow in self._flows.values() for ticket in flow.tickets]

    def _classes(self) -> list[int]:
        """Return the classes that wait, highest first."""
        return sorted({priority for priority, _ in self._flows}, reverse=True)

    def _chosen(self, late_ms: int) -> tuple[Key, _Flow]:
        """Return the next flow: of the highest class, or a late one that all classes above owe what it takes."""
        highest, *lower = self._classes()
        late = {priority: found for priority in lower if (found := self._first_of(priority, late_ms))}
        owed = {each: self._owed.get(each, 0.0) for each in (highest, *lower) if late and each > min(late)}
        chosen = self._first_of(highest) or next(iter(self._flows.items()))
        for priority, found in sorted(late.items()):
            cost = found[1].head().cost
            short = [each for each, amount in owed.items() if each > priority and amount < cost]
            if not short:
                chosen = found
                owed |= {each: amount - cost for each, amount in owed.items() if each > priority}
            if not short or short == [highest]:
                break  # served, or next to be: those between stand back, or they would take what it waits for
        served = chosen[0][0]
        if served in owed:
            owed[served] += chosen[1].head().cost / (RESERVED_PART - 1)
        self._owed = owed
        return chosen

    def _first_of(self, priority: int, late_ms: int | None = None) -> tuple[Key, _Flow] | None:
        """Return the flow of the class that is next, of those with a late head if asked for; None if there is none."""
        of_class = (
            (key, flow)
            for key, flow in self._flows.items()
            if key[0] == priority and (late_ms is None or flow.head().at_ms <= late_ms)
        )
        return min(of_class, key=lambda item: (item[1].start, item[1].head().order), default=None)

    def _least_entitled(self) -> Ticket:
        *lower, highest = sorted(self._classes())
        waiting, sheds = 0, highest
        for priority in lower:
            waiting += sum(len(flow.tickets) for flow in self._of(priority))
            if waiting * RESERVED_PART > self.limit:
                sheds = priority
                break
        return max(self._of(sheds), key=lambda flow: (flow.backlog, flow.newest().order)).newest()

    def _of(self, priority: int) -> list[_Flow]:
        return [flow for (each, _), flow in self._flows.items() if each == priority]
