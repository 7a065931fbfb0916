"""Who is next: priority classes, and between tenants of a class fair shares of tokens by weight.

Start-time fair queueing (Goyal, Vin, Cheng 1996): over any time in which two tenants both wait, the tokens served to
them, each divided by its weight, differ by at most one request of each. A tenant in flood therefore delays another by
the requests already inside and one of its own, however many more it sends.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

_SLACK = 2
"""The heap holds at most this many times its limit: dropped tickets are swept out when it has grown so far."""


@dataclass(slots=True, kw_only=True, eq=False)
class Ticket:
    """A request that waits."""

    tenant: str
    cost: int
    """Tokens that it is expected to take, >= 1."""
    weight: int = 1
    priority: int = 0
    """Higher is served first and shed last."""
    start: float = 0.0
    order: int = 0
    is_gone: bool = False
    """Left the queue without being served: its client went, its deadline passed, or it was shed."""

    def __lt__(self, other: Ticket) -> bool:
        return (-self.priority, self.start, self.order) < (-other.priority, other.start, other.order)


@dataclass(slots=True)
class _Backlog:
    """What one tenant waits with in one class."""

    amount: float = 0.0
    """Tokens for its weight."""
    tickets: deque[Ticket] = field(default_factory=deque)
    """Oldest first; may hold some that have gone."""


@dataclass(slots=True)
class FairQueue:
    """Waiting tickets of one model, at most ``limit``. Holds no clock; costs O(log n) per ticket."""

    limit: int
    _heap: list[Ticket] = field(default_factory=list)
    _finish: dict[str, float] = field(default_factory=dict)
    """Virtual time at which each tenant's last ticket ends."""
    _now: float = 0.0
    """Virtual time: the start of the ticket served last."""
    _waiting: int = 0
    _count: int = 0
    _backlogs: dict[tuple[int, str], _Backlog] = field(default_factory=dict)
    """By priority and tenant; only of those that wait."""

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
        ticket.start = max(self._now, self._finish.get(ticket.tenant, 0.0))
        self._finish[ticket.tenant] = ticket.start + ticket.cost / ticket.weight
        heapq.heappush(self._heap, ticket)
        self._waiting += 1
        backlog = self._backlogs.setdefault((ticket.priority, ticket.tenant), _Backlog())
        backlog.amount += ticket.cost / ticket.weight
        backlog.tickets.append(ticket)
        if self._waiting <= self.limit:
            return None
        shed = self._least_entitled()
        self.drop(shed)
        return shed

    def pop(self) -> Ticket | None:
        """Remove and return the ticket that is served next; None if nobody waits."""
        while self._heap:
            ticket = heapq.heappop(self._heap)
            if not ticket.is_gone:
                self._leave(ticket)
                self._now = max(self._now, ticket.start)
                return ticket
        return None

    def drop(self, ticket: Ticket) -> None:
        """Remove a ticket that will not be served; its tenant is not charged for it. Harmless if it has gone."""
        if ticket.is_gone:
            return
        self._leave(ticket)
        if len(self._heap) > _SLACK * self.limit:
            self._heap = self.waiting()
            heapq.heapify(self._heap)
        if ticket.tenant in self._finish:
            self._finish[ticket.tenant] = max(self._now, self._finish[ticket.tenant] - ticket.cost / ticket.weight)

    def settle(self, ticket: Ticket, used: int) -> None:
        """Charge a served ticket's tenant with the tokens that it really took instead of those expected."""
        if ticket.tenant in self._finish:
            self._finish[ticket.tenant] += (used - ticket.cost) / ticket.weight

    def waiting(self) -> list[Ticket]:
        """Return the tickets that wait, in no order."""
        return [ticket for ticket in self._heap if not ticket.is_gone]

    def _leave(self, ticket: Ticket) -> None:
        ticket.is_gone = True
        self._waiting -= 1
        backlog = self._backlogs[ticket.priority, ticket.tenant]
        backlog.amount -= ticket.cost / ticket.weight
        while backlog.tickets and backlog.tickets[0].is_gone:
            backlog.tickets.popleft()
        while backlog.tickets and backlog.tickets[-1].is_gone:
            backlog.tickets.pop()
        if not backlog.tickets:
            del self._backlogs[ticket.priority, ticket.tenant]

    def _least_entitled(self) -> Ticket:
        lowest = min(priority for priority, _ in self._backlogs)
        of_class = [backlog for (priority, _), backlog in self._backlogs.items() if priority == lowest]
        return max(of_class, key=lambda backlog: (backlog.amount, backlog.tickets[-1].order)).tickets[-1]
