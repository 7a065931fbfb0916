"""What is kept of a request, what is never kept, and the limits that a tenant agreed to."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from policies.model.routing import TenantShare
from serving.gateway.errors import BudgetSpent, RateLimited
from serving.gateway.limits import MINUTE_MS, Limits
from serving.ledger import Ledger, UsageRecord, read, verify
from tests.serving.fakes import CONTROL_TOKEN, JUSTICE, TAX, World, chat, group, key_of, route, settle, table

CANARY = "canary-7b1f-do-not-log"
Story = Callable[[World], Awaitable[None]]


def tell(story: Story, folder: Path, *shares: TenantShare, hashes_content: bool = False) -> list[UsageRecord]:
    async def run() -> None:
        ledger = Ledger(folder)
        world = World(ledger=ledger, hashes_content=hashes_content)
        world.gateway.apply(table(route(group("g1")), shares=shares))
        await story(world)
        await settle()
        ledger.flush()

    asyncio.run(run())
    return list(read(folder))


def test_each_request_leaves_one_record_with_who_what_when_and_the_outcome(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.chat()
        await world.chat(stream=True, key=key_of(TAX))
        await world.chat(model="huge")
        await world.chat(seed=-1)

    answered, streamed, unknown, refused = tell(story, tmp_path)
    assert (answered.tenant, answered.model, answered.status) == (JUSTICE, "small", 200)
    assert (answered.variant, answered.group, answered.claim) == ("variant-0", "g1", f"{JUSTICE}:chat")
    assert (answered.prompt_tokens, answered.completion_tokens) == (3, 4)
    assert (streamed.tenant, streamed.completion_tokens) == (TAX, 4)
    assert (unknown.status, unknown.error) == (404, "model_not_found")
    assert (refused.status, refused.error) == (400, "bad_seed")
    assert verify(tmp_path) == ()


def test_a_client_that_leaves_is_recorded_as_such(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.backend.gate.clear()
        client = world.start("/v1/chat/completions", chat(stream=True))
        await settle()
        await client.leave()

    (record,) = tell(story, tmp_path)
    assert record.status == 499


def test_no_prompt_answer_or_key_enters_a_record_a_metric_or_a_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[bytes] = []

    async def story(world: World) -> None:
        said = [{"role": "user", "content": CANARY}]
        await world.chat(messages=said)
        await world.chat(messages=said, stream=True, user=CANARY, metadata={"a": CANARY})
        await world.chat(messages=said, model=CANARY)
        await world.chat(messages=said, seed=-1)
        await world.chat(messages=said, **{CANARY: 1})
        await world.call("/v1/chat/completions", b"{" + CANARY.encode())
        await world.call("/v1/chat/completions", chat(messages=said), x_request_id=CANARY + " ")
        await world.call(f"/v1/{CANARY}")
        world.backend.broken = {"g1"}
        await world.chat(messages=said)
        seen.append((await world.call("/-/partage/metrics", key=CONTROL_TOKEN)).body)
        seen.append((await world.call("/-/partage/load", key=CONTROL_TOKEN)).body)

    tell(story, tmp_path)
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for text in (kept, *seen, caplog.text.encode()):
        assert CANARY.encode() not in text
        assert b"secret-part-of" not in text
    assert kept.count(b"\n") == 6, "requests that parse and have a key are recorded"


def test_the_content_is_hashed_only_where_policy_asks_for_it_and_with_a_key(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.chat()

    (plain,) = tell(story, tmp_path / "a")
    (hashed,) = tell(story, tmp_path / "b", hashes_content=True)
    assert plain.content_mac == ""
    assert len(hashed.content_mac) == 64


def test_a_changed_or_removed_line_of_the_ledger_shows(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for _ in range(4):
            await world.chat()

    tell(story, tmp_path)
    (file,) = tmp_path.iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], lines[1].replace(b'"status":200', b'"status":404'), *lines[2:]]))
    assert [found.line for found in verify(tmp_path)] == [3]
    file.write_bytes(b"".join([lines[0], *lines[2:]]))
    assert [found.line for found in verify(tmp_path)] == [2]
    file.write_bytes(b"".join(lines) + b'{"cut')
    assert [found.line for found in verify(tmp_path)] == [5]
    assert len(list(read(tmp_path))) == 4


def test_requests_per_minute_are_bound_with_openais_headers_and_an_honest_wait(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first, second, third = [await world.chat() for _ in range(3)]
        assert [first.status, second.status, third.status] == [200, 200, 429]
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert third.error["code"] == "rate_limit_exceeded"
        wait_s = int(third.headers["retry-after"])
        world.clock.now_ms += (wait_s - 1) * 1000
        assert (await world.chat()).status == 429
        world.clock.now_ms += 1000
        assert (await world.chat()).status == 200, "who waits as long as told is let in"
        assert (await world.chat(key=key_of(TAX))).status == 200, "another tenant's limit is its own"

    tell(story, tmp_path, TenantShare(tenant=JUSTICE, requests_per_minute=2))


def test_tokens_that_were_expected_but_not_taken_come_back(tmp_path: Path) -> None:
    limits = Limits()
    limits.apply([TenantShare(tenant=JUSTICE, tokens_per_minute=1000)], 0)
    limits.admit(JUSTICE, 900, 0)
    with pytest.raises(RateLimited):
        limits.admit(JUSTICE, 900, 0)
    limits.settle(JUSTICE, 900, 10, 0)
    limits.admit(JUSTICE, 900, 0)


def test_a_request_larger_than_the_minute_is_let_in_when_the_bucket_is_full() -> None:
    limits = Limits()
    limits.apply([TenantShare(tenant=JUSTICE, tokens_per_minute=100)], 0)
    limits.admit(JUSTICE, 5_000, 0)
    with pytest.raises(RateLimited):
        limits.admit(JUSTICE, 5_000, MINUTE_MS)
    limits.admit(JUSTICE, 5_000, 51 * MINUTE_MS)


def test_a_new_table_with_the_same_limit_does_not_fill_the_bucket() -> None:
    limits, share = Limits(), TenantShare(tenant=JUSTICE, requests_per_minute=1)
    limits.apply([share], 0)
    limits.admit(JUSTICE, 1, 0)
    limits.apply([share], 0)
    with pytest.raises(RateLimited):
        limits.admit(JUSTICE, 1, 0)


def test_budgets_hold_over_a_restart_and_end_with_the_day() -> None:
    day_ms = 86_400_000
    used = UsageRecord(
        at_ms=day_ms * 40,
        request_id="r",
        tenant=JUSTICE,
        key_prefix="p",
        operation="chat",
        model="small",
        prompt_tokens=60,
        completion_tokens=40,
    )
    limits = Limits()
    limits.remember([used])
    limits.apply([TenantShare(tenant=JUSTICE, tokens_per_day=100)], day_ms * 40)
    with pytest.raises(BudgetSpent, match="the next begins 1970-02-11, 00:00 UTC"):
        limits.admit(JUSTICE, 1, day_ms * 41 - 1)
    limits.admit(JUSTICE, 1, day_ms * 41)
    limits.apply([TenantShare(tenant=JUSTICE, tokens_per_month=100)], day_ms * 41)
    with pytest.raises(BudgetSpent, match="the next begins 1970-03-01") as spent:
        limits.admit(JUSTICE, 1, day_ms * 41)
    assert (b"x-should-retry", b"false") in spent.value.headers()


def test_a_budget_counts_what_is_inside_so_that_many_at_once_do_not_pass_it_together() -> None:
    limits = Limits()
    limits.apply([TenantShare(tenant=JUSTICE, tokens_per_month=100)], 0)
    limits.admit(JUSTICE, 60, 0)
    limits.admit(JUSTICE, 60, 0)
    with pytest.raises(BudgetSpent):
        limits.admit(JUSTICE, 60, 0)
    for _ in range(2):
        limits.settle(JUSTICE, 60, 30, 0)
    limits.admit(JUSTICE, 60, 0)


def test_gpu_time_is_metered_by_the_share_of_a_replica_that_a_slot_stands_for(tmp_path: Path) -> None:
    from dataclasses import replace

    async def story(world: World) -> None:
        half = replace(group("g1", concurrency=4), gpu_millis=500)
        world.gateway.apply(table(route(half), generation=2))
        world.backend.gate.clear()
        client = world.start("/v1/chat/completions", chat())
        await settle()
        world.clock.now_ms += 8_000
        world.backend.gate.set()
        await client.done()

    (record,) = tell(story, tmp_path)
    assert record.gpu_ms == 1_000


def test_the_metrics_count_requests_tokens_and_waiting(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.chat()
        await world.chat(model="huge")
        await world.call("/v1/models", key="wrong")
        text = (await world.call("/-/partage/metrics", key=CONTROL_TOKEN)).body.decode()
        who = f'domain="civil",model="small",tenant="{JUSTICE}"'
        assert f'partage_gateway_requests_total{{code="200",{who}}} 1.0' in text
        assert f'partage_gateway_requests_total{{code="404",domain="civil",model="",tenant="{JUSTICE}"}} 1.0' in text
        assert 'partage_gateway_requests_total{code="401",domain="civil",model="",tenant=""} 1.0' in text
        assert f'partage_gateway_tokens_total{{direction="out",{who},variant="variant-0"}} 4.0' in text
        assert (await world.call("/-/partage/metrics")).status == 401

    tell(story, tmp_path)


def test_a_disk_that_is_full_loses_nothing_that_memory_can_hold(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    record = UsageRecord(at_ms=1, request_id="r", tenant="t", key_prefix="p", operation="chat", model="m")
    ledger.append(record)
    (tmp_path / "ledger").rmdir()
    with pytest.raises(OSError, match="No such file"):
        ledger.flush()
    (tmp_path / "ledger").mkdir()
    ledger.flush()
    assert list(read(tmp_path / "ledger")) == [record]
    assert json.loads(next((tmp_path / "ledger").iterdir()).read_text())["previous"] == "0" * 64
