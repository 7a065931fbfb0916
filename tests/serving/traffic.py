"""Two tenants at one model: one steady and modest, one that sends whatever the flood says. In virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random  # noqa: TID251  # seeded below

from serving.gateway.dispatch import Dispatcher, Line, Order
from serving.gateway.errors import Overloaded
from tests.serving import virtual
from tests.serving.fakes import JUSTICE, MODEL, TAX, group, route, table

SLOTS = 4
LONGEST_MS = 1_000
SHORTEST_MS = 200
CALM_PER_S = 1.0
DURATION_S = 300
TOKENS_PER_MS = 1


@dataclass
class Outcome:
    calm_ms: list[int] = field(default_factory=list)
    """Queue and service of each answered request of the modest tenant."""
    calm_shed: int = 0
    flood_answered: int = 0
    flood_shed: int = 0

    def p99_ms(self) -> int:
        ordered = sorted(self.calm_ms)
        return ordered[int(len(ordered) * 0.99)]


def flood(per_s: float, *, fair: bool = True, slots: int = SLOTS, seed: int = 1, priority: int = 0) -> Outcome:
    """Return what became of both tenants while the second sends ``per_s`` requests a second, in class ``priority``.

    Unfair is one queue in order of arrival, as a gateway has that does not know its tenants.
    """
    chances = {tenant: Random(f"{seed} {tenant}") for tenant in (JUSTICE, TAX)}  # noqa: S311  # traffic, not secrets
    return virtual.run(_flood(per_s, fair, slots, chances, priority))


async def _flood(per_s: float, fair: bool, slots: int, chances: dict[str, Random], priority: int) -> Outcome:
    outcome = Outcome()
    dispatcher = Dispatcher(virtual.now_ms)
    dispatcher.apply(table(route(group("g1", concurrency=slots))))
    line = dispatcher.line(JUSTICE, MODEL)
    async with asyncio.TaskGroup() as running:
        for tenant, rate, its in ((JUSTICE, CALM_PER_S, 0), (TAX, per_s, priority)):
            how = (tenant, rate, fair, its, chances[tenant])
            running.create_task(_arrive(running, dispatcher, line, outcome, how))
    return outcome


async def _arrive(running, dispatcher: Dispatcher, line: Line, outcome: Outcome, how) -> None:
    tenant, rate, fair, priority, chance = how
    ends_at = virtual.now_ms() + DURATION_S * 1000
    while rate and virtual.now_ms() < ends_at:
        await asyncio.sleep(chance.expovariate(rate))
        service_ms = chance.randint(SHORTEST_MS, LONGEST_MS)
        running.create_task(_one(dispatcher, line, outcome, (tenant, service_ms, fair, priority)))


async def _one(dispatcher: Dispatcher, line: Line, outcome: Outcome, what) -> None:
    tenant, service_ms, fair, priority = what
    began_ms = virtual.now_ms()
    order = Order(
        tenant=tenant if fair else "everyone", cost=service_ms * TOKENS_PER_MS, wait_ms=60_000, priority=priority
    )
    try:
        lease = await dispatcher.lease(line, order)
    except Overloaded:
        if tenant == JUSTICE:
            outcome.calm_shed += 1
        else:
            outcome.flood_shed += 1
        return
    await asyncio.sleep(service_ms / 1000)
    dispatcher.give_back(lease, used=service_ms * TOKENS_PER_MS)
    if tenant == JUSTICE:
        outcome.calm_ms.append(virtual.now_ms() - began_ms)
    else:
        outcome.flood_answered += 1
