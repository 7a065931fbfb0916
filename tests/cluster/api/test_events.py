"""The stream of events: what happens arrives, in order, and one can continue where one left off."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cluster.api.access import Caller, Role
from cluster.api.events import ADMITTED_MS, _stream
from cluster.api.problems import ApiRefusal
from cluster.journal.audit import LOOKED_AT_ONCE, newest
from policies.model.units import SecurityDomain, TenantId
from tests.cluster.api.platform import OPERATOR as TOKEN
from tests.cluster.api.platform import Platform, running
from tests.cluster.nouns import a_claim

OPERATOR = Caller(name="operator", role=Role.OPERATOR)
BEARER = f"Bearer {TOKEN}"
JUSTICE = Caller(name="justice", role=Role.TENANT, tenant=TenantId("civil/justice"))


async def heard(platform: Platform, caller: Caller, after: int, count: int, then: Any = None) -> list[str]:
    """Return so many messages of the stream; ``then`` happens once it listens."""
    stream = _stream(platform.parts, caller, after, platform.parts.view.listen(8), BEARER)
    found = [await anext(stream) for _ in range(count if then is None else 0)]
    if then is not None:
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        then()
        platform.parts.view.changed()
        found = [await asyncio.wait_for(waiting, 10)]
    await stream.aclose()
    return found


def test_a_stream_tells_the_past_from_where_one_left_off(platform: Platform) -> None:
    found = asyncio.run(heard(platform, OPERATOR, 2, 3))
    assert [message.split("\n")[0] for message in found] == ["id: 3", "id: 4", "id: 5"]


def test_what_happens_now_arrives_at_once(platform: Platform) -> None:
    last = platform.call("GET", "/v1/events", params={"newest": True, "limit": 1}).json()["revision"]
    put = lambda: platform.parts.registry.put_claim(a_claim("new"), expected_generation=0)  # noqa: E731  # said once
    found = asyncio.run(heard(platform, OPERATOR, last, 1, put))
    assert "event: claim.put" in found[0]
    assert "civil/justice:new" in found[0]


def test_a_tenant_hears_of_nothing_foreign(platform: Platform) -> None:
    found = asyncio.run(heard(platform, JUSTICE, 0, 1))
    assert "civil/justice:assistant" in found[0]
    assert "defence" not in found[0]


def test_one_stream_too_many_is_refused(tmp_path: Path) -> None:
    platform = running(tmp_path)

    async def listen() -> None:
        for _ in range(3):
            platform.parts.view.listen(2)

    with pytest.raises(ApiRefusal, match="2 event streams"):
        asyncio.run(listen())


def test_a_stream_ends_soon_after_its_key_was_revoked(platform: Platform) -> None:
    bearer = f"Bearer {platform.key('civil/justice')}"
    caller = platform.parts.gate.admit(bearer)

    async def events_after_revoking() -> list[str]:
        stream = _stream(platform.parts, caller, 0, platform.parts.view.listen(8), bearer)
        first = await anext(stream)
        platform.parts.registry.delete_key(platform.parts.registry.keys(SecurityDomain.CIVIL)[0].prefix)
        platform.parts.registry.put_claim(a_claim("new"), expected_generation=0)
        platform.clock.sleep_ms(ADMITTED_MS)
        platform.parts.view.changed()
        return [first, *[event async for event in stream]]

    told = asyncio.run(asyncio.wait_for(events_after_revoking(), 10))
    assert not any("civil/justice:new" in event for event in told)


def test_the_newest_events_of_a_tenant_are_found_behind_those_of_others(platform: Platform) -> None:
    platform.parts.registry.put_claim(a_claim("mine"), expected_generation=0)
    for revision in range(60):
        platform.parts.registry.cordon(f"node-{revision}", "node", "practice")
    key = platform.key("civil/justice")
    found = platform.call(
        "GET", "/v1/events", key, params={"newest": True, "limit": 2, "subject": "civil/justice:mine"}
    )
    assert [event["kind"] for event in found.json()["items"]] == ["claim.put"]
    everything = platform.call("GET", "/v1/events", params={"newest": True, "limit": 1}).json()
    assert found.json()["revision"] == everything["revision"]


def test_a_search_from_the_end_goes_back_page_by_page_and_keeps_the_order(platform: Platform) -> None:
    for number in range(LOOKED_AT_ONCE + 20):
        platform.parts.registry.cordon(f"node-{number}", "node", "practice")
    found = newest(platform.parts.store, 3, lambda record: record.subject in {"node-1", "node-3", "node-515"})
    assert [record.subject for record in found] == ["node-1", "node-3", "node-515"]
