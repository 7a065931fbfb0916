"""Who is next: priority classes, and between tenants of a class fair shares of tokens by weight.

Start-time fair queueing (Goyal, Vin, Cheng 1996): over any time in which two tenants both wait, the tokens served to
them, each divided by its weight, differ by at most one request of each. A tenant in flood therefore delays another by
the requests already inside and one of its own, however many more it sends.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True, eq=False)
class Ticket:
    """A request that waits."""

    tenant: str
    cost: int
    """Tokens that it is expected to take, >= 1."""
    weight: int = 1
    priority: int = 0
    """Higher is served first and shed last."""
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
    _waiting: int = 0
    _count: int = 0

    def __len__(self) -> int:
        return self._waiting

    def push(self, ticket: Ticket) -> Ticket | None:
        """Add the ticket; return the one that must be shed for it, which may be itself, or None if there is room.

        Shed is the newest ticket of the tenant that waits with the most tokens for its weight, in the lowest class.
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

    def pop(self) -> Ticket | None:
        """Remove and return the ticket that is served next; None if nobody waits."""
        if not self._flows:
            return None
        key, flow = min(self._flows.items(), key=lambda item: (-item[0][0], item[1].start, item[1].head().order))
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

    def _least_entitled(self) -> Ticket:
        lowest = min(priority for priority, _ in self._flows)
        of_class = [flow for (priority, _), flow in self._flows.items() if priority == lowest]
        return max(of_class, key=lambda flow: (flow.backlog, flow.newest().order)).newest()
