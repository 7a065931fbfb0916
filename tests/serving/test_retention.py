"""The ledger is kept as long as the policy says, and not longer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from cluster.actuate.routing import next_table, promises
from policies.documents.document import parse_policy
from policies.model.routing import RoutingTable
from policies.model.units import SecurityDomain
from serving.gateway.keeping import Keeping
from serving.ledger import Ledger, read, verify
from tests.serving.fakes import World, group, route, table
from tests.serving.test_cli import record

DAY_MS = 86_400_000
PROFILE = Path(__file__).parents[2] / "policies" / "profiles" / "default.yaml"


def ledger_of(folder: Path, days: int, now_ms: int) -> Ledger:
    """Write a record for each of the last days."""
    for ago in range(days):
        ledger = Ledger(folder)
        ledger.append(record(at_ms=now_ms - ago * DAY_MS))
        ledger.flush()
    return ledger


def days_kept(folder: Path, retention: int | None) -> int:
    async def story() -> None:
        world = World()
        world.clock.now_ms = 100 * DAY_MS
        ledger = ledger_of(folder, 10, world.clock())
        world.gateway.apply(replace(table(route(group("g1"))), usage_retention_days=retention))
        beginning, ending = asyncio.Event(), asyncio.Event()

        async def app(scope: object, receive: object, send: object) -> None:
            beginning.set()
            await ending.wait()

        living = asyncio.ensure_future(
            Keeping(app, ledger, None, world.gateway.oldest_day)({"type": "lifespan"}, None, None)
        )
        await beginning.wait()
        ending.set()
        await living

    asyncio.run(story())
    assert verify(folder) == ()
    return len(list(read(folder)))


def test_days_beyond_the_retention_are_deleted_and_the_rest_is_whole(tmp_path: Path) -> None:
    assert days_kept(tmp_path / "a", retention=3) == 4, "three whole days and today"
    assert days_kept(tmp_path / "b", retention=None) == 10
    assert days_kept(tmp_path / "c", retention=0) == 1


def test_the_policy_says_how_long_and_the_routing_table_carries_it() -> None:
    policy = parse_policy(
        PROFILE.read_text().replace("revision: default-1", "revision: d2\n  usage_retention_days: 30")
    )
    known = promises(SecurityDomain.CIVIL, policy, (), (), simulated=True)
    made = next_table(RoutingTable(generation=1, domain=SecurityDomain.CIVIL), known, {}, frozenset())
    assert (made.generation, made.usage_retention_days) == (2, 30)
    assert parse_policy(PROFILE.read_text()).usage_retention_days is None
