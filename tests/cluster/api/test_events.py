"""The stream of events: what happens arrives, in order, and one can continue where one left off."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cluster.api.access import Caller, Role
from cluster.api.events import _stream
from cluster.api.problems import ApiRefusal
from policies.model.units import TenantId
from tests.cluster.api.platform import Platform, running
from tests.cluster.nouns import a_claim

OPERATOR = Caller(name="operator", role=Role.OPERATOR)
JUSTICE = Caller(name="justice", role=Role.TENANT, tenant=TenantId("civil/justice"))


async def heard(platform: Platform, caller: Caller, after: int, count: int, then: Any = None) -> list[str]:
    """Return so many messages of the stream; ``then`` happens once it listens."""
    stream = _stream(platform.parts, caller, after, platform.parts.view.listen(8))
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
