"""Files and batches: work that nobody waits for, in places that nobody wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serving.gateway.asgi import HttpGateway
from serving.gateway.batch import BatchRunner
from serving.gateway.files_http import FilesHttp
from serving.gateway.shelf import Shelf
from tests.serving.fakes import CONTROL_TOKEN, TAX, Response, World, chat, group, key_of, route, settle, table

CHAT = "/v1/chat/completions"


@dataclass
class BatchWorld(World):
    folder: Path = field(default_factory=Path)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shelf = Shelf(self.folder)
        self.runner = BatchRunner(self.gateway, self.shelf)
        self.app = HttpGateway(self.gateway, CONTROL_TOKEN, FilesHttp(self.shelf, self.runner))

    async def upload(self, *lines: object, key: str | None = None) -> str:
        content = "\n".join(json.dumps(line) for line in lines)
        form = (
            '--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            '--x\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n'
            f"Content-Type: application/jsonl\r\n\r\n{content}\r\n--x--\r\n"
        )
        sent = await self.call("/v1/files", form.encode(), key=key, content_type="multipart/form-data; boundary=x")
        assert sent.status == 200, sent.body
        return str(sent.json["id"])

    async def begin(self, *lines: object) -> str:
        asked = {"input_file_id": await self.upload(*lines), "endpoint": CHAT, "completion_window": "24h"}
        made = await self.call("/v1/batches", asked)
        assert made.status == 200, made.body
        return str(made.json["id"])

    async def batch(self, name: str) -> dict[str, object]:
        return (await self.call(f"/v1/batches/{name}")).json

    async def run_until(self, name: str, status: str) -> dict[str, object]:
        running = asyncio.ensure_future(self.runner.run())
        try:
            async with asyncio.timeout(20):
                while (found := await self.batch(name))["status"] != status:  # noqa: ASYNC110  # as a tenant does
                    await asyncio.sleep(0.01)
            return found
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await settle()

    async def lines_of(self, name: object) -> list[dict[str, object]]:
        content = await self.call(f"/v1/files/{name}/content")
        return [json.loads(line) for line in content.body.splitlines()]


def line(name: str, url: str = CHAT, **parameters: object) -> dict[str, object]:
    return {"custom_id": name, "method": "POST", "url": url, "body": chat(**parameters)}


def run(story: Callable[[BatchWorld], Awaitable[None]], folder: Path) -> None:
    async def tell() -> None:
        world = BatchWorld(folder=folder)
        world.gateway.apply(table(route(group("g1"), shared_with=())))
        await story(world)
        await settle()
        assert world.backend.inside == 0

    asyncio.run(tell())


def test_a_batch_answers_each_line_and_lists_errors_apart(tmp_path: Path) -> None:
    async def story(world: BatchWorld) -> None:
        wrong = [line("no-model", model="huge"), line("other", url="/v1/embeddings"), line("stream", stream=True)]
        name = await world.begin(line("a"), line("b"), *wrong)
        ended = await world.run_until(name, "completed")
        assert ended["request_counts"] == {"total": 5, "completed": 2, "failed": 3}
        answers = await world.lines_of(ended["output_file_id"])
        assert {answer["custom_id"] for answer in answers} == {"a", "b"}
        assert all(answer["response"]["status_code"] == 200 for answer in answers)
        errors = {e["custom_id"]: e["response"]["status_code"] for e in await world.lines_of(ended["error_file_id"])}
        assert errors == {"no-model": 404, "other": 400, "stream": 400}

    run(story, tmp_path)


def test_a_batch_waits_while_others_use_the_model_and_goes_on_after(tmp_path: Path) -> None:
    async def story(world: BatchWorld) -> None:
        world.backend.gate.clear()
        people = [world.start(CHAT, chat()) for _ in range(2)]
        await settle()
        name = await world.begin(line("a"))
        running = asyncio.ensure_future(world.runner.run())
        await asyncio.sleep(0.3)
        assert len(world.backend.asked) == 2
        world.backend.gate.set()
        await asyncio.gather(*(client.done() for client in people))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await world.run_until(name, "completed")

    run(story, tmp_path)


def test_a_batch_leaves_at_once_when_somebody_waits_and_loses_nothing(tmp_path: Path) -> None:
    async def story(world: BatchWorld) -> None:
        world.backend.gate.clear()
        name = await world.begin(line("a"), line("b"), line("c"))
        running = asyncio.ensure_future(world.runner.run())
        await settle()
        assert world.backend.inside == 2, "both idle places are filled"
        person = world.start(CHAT, chat(user="person"))
        await settle()
        assert json.loads(world.backend.order[-1]).get("user") == "person", "served without waiting for the batch"
        assert world.backend.stopped == 1
        world.backend.gate.set()
        assert (await person.done()).status == 200
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        ended = await world.run_until(name, "completed")
        assert ended["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
        assert len(await world.lines_of(ended["output_file_id"])) == 3

    run(story, tmp_path)


def test_a_batch_survives_a_restart_of_the_gateway(tmp_path: Path) -> None:
    names: list[str] = []

    async def before(world: BatchWorld) -> None:
        names.append(await world.begin(*(line(str(n)) for n in range(5))))
        batch = world.shelf.running()[0]
        done = {"id": "x", "custom_id": "0", "response": {"status_code": 200, "body": {}}, "error": None}
        world.shelf.append_result(batch, done, is_error=False)

    async def after(world: BatchWorld) -> None:
        ended = await world.run_until(names[0], "completed")
        assert ended["request_counts"] == {"total": 5, "completed": 5, "failed": 0}
        assert len(world.backend.asked) == 4, "what was done is not done again"

    run(before, tmp_path)
    run(after, tmp_path)


def test_a_batch_ends_when_its_day_is_over(tmp_path: Path) -> None:
    async def story(world: BatchWorld) -> None:
        name = await world.begin(line("a"))
        world.clock.now_ms += 24 * 3_600_000
        await world.run_until(name, "expired")

    run(story, tmp_path)


def test_a_batch_of_a_revoked_key_ends(tmp_path: Path) -> None:
    async def story(world: BatchWorld) -> None:
        name = await world.begin(line("a"))
        from dataclasses import replace

        world.gateway.apply(replace(table(route(group("g1")), generation=2), keys=()))
        running = asyncio.ensure_future(world.runner.run())
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        world.gateway.apply(table(route(group("g1")), generation=3))
        ended = await world.batch(name)
        assert (ended["status"], ended["errors"]["data"][0]["code"]) == ("failed", "key_not_in_force")
        assert world.backend.asked == []

    run(story, tmp_path)


def test_a_cancelled_batch_keeps_what_was_done(tmp_path: Path) -> None:
    async def story(world: BatchWorld) -> None:
        name = await world.begin(line("a"))
        cancelled = await world.call(f"/v1/batches/{name}/cancel", b"")
        assert cancelled.json["status"] == "cancelled"

    run(story, tmp_path)


def test_files_and_batches_of_another_tenant_do_not_exist(tmp_path: Path) -> None:
    async def story(world: BatchWorld) -> None:
        file = await world.upload(line("a"))
        batch = await world.begin(line("a"))

        async def other(path: str, body: object = None) -> Response:
            return await world.call(path, body, key=key_of(TAX))

        for path in (f"/v1/files/{file}", f"/v1/files/{file}/content", f"/v1/batches/{batch}"):
            assert (await other(path)).status == 404
        assert (await other("/v1/files")).json["data"] == []
        stolen = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        assert (await other("/v1/batches", stolen)).status == 404
        assert (await other(f"/v1/batches/{batch}/cancel", b"")).status == 404

    run(story, tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "file-", "file-" + "0" * 24, "batch-" + "0" * 24 + "/../x"])
def test_names_that_are_none_find_nothing(tmp_path: Path, name: str) -> None:
    async def story(world: BatchWorld) -> None:
        assert (await world.call(f"/v1/files/{name}")).status == 404

    run(story, tmp_path)


BROKEN_INPUTS = {
    "missing_required_parameter": [{"custom_id": "a"}],
    "duplicate_custom_id": [line("a"), line("a")],
    "invalid_json_line": ["text"],
    "invalid_method": [line("a") | {"method": "GET"}],
    "invalid_custom_id": [line("a") | {"custom_id": 5}],
    "empty_file": [],
}


@pytest.mark.parametrize("code", BROKEN_INPUTS)
def test_a_batch_whose_input_is_broken_has_failed_from_the_start_and_names_the_line(tmp_path: Path, code: str) -> None:
    async def story(world: BatchWorld) -> None:
        batch = await world.batch(await world.begin(*BROKEN_INPUTS[code]))
        assert (batch["status"], batch["failed_at"]) == ("failed", batch["created_at"])
        (error,) = batch["errors"]["data"]
        assert error["code"] == code
        assert error["line"] == (len(BROKEN_INPUTS[code]) or None)
        assert world.shelf.running() == []

    run(story, tmp_path)


def test_of_two_gateways_at_one_folder_one_works_and_the_other_takes_over(tmp_path: Path) -> None:
    async def story(world: BatchWorld) -> None:
        other = BatchWorld(folder=tmp_path)
        other.gateway.apply(table(route(group("g1"))))
        world.backend.gate.clear()
        name = await world.begin(*(line(str(number)) for number in range(4)))
        running = [asyncio.ensure_future(each.runner.run()) for each in (world, other)]
        await asyncio.sleep(0.6)
        assert world.backend.inside > 0
        assert other.backend.asked == []
        running[0].cancel()
        await asyncio.gather(running[0], return_exceptions=True)
        running[1].cancel()
        await asyncio.gather(running[1], return_exceptions=True)
        ended = await other.run_until(name, "completed")
        answered = [each["custom_id"] for each in await other.lines_of(ended["output_file_id"])]
        assert sorted(answered) == ["0", "1", "2", "3"]

    run(story, tmp_path)


def test_a_batch_cancelled_at_one_gateway_is_left_by_the_other_that_works_on_it(tmp_path: Path) -> None:
    async def story(world: BatchWorld) -> None:
        other = BatchWorld(folder=tmp_path)
        other.gateway.apply(table(route(group("g1"))))
        world.backend.gate.clear()
        name = await world.begin(*(line(str(number)) for number in range(4)))
        running = asyncio.ensure_future(world.runner.run())
        await asyncio.sleep(0.5)
        assert world.backend.inside > 0
        assert (await other.call(f"/v1/batches/{name}/cancel", {})).json["status"] == "cancelled"
        await asyncio.sleep(0.5)
        assert world.backend.inside == 0
        assert (await world.batch(name))["status"] == "cancelled"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(story, tmp_path)


def test_lists_are_given_in_pages(tmp_path: Path) -> None:
    async def story(world: BatchWorld) -> None:
        made = [await world.begin(line(str(number))) for number in range(3)]
        first = (await world.call("/v1/batches?limit=2")).json
        assert (len(first["data"]), first["has_more"]) == (2, True)
        rest = (await world.call(f"/v1/batches?limit=2&after={first['last_id']}")).json
        assert rest["has_more"] is False
        assert {each["id"] for each in first["data"] + rest["data"]} == set(made)
        for odd in ("limit=0", "limit=x", "after=batch-none"):
            assert (await world.call(f"/v1/batches?{odd}")).status == 400
        files = (await world.call("/v1/files?limit=1")).json
        assert (files["has_more"], files["data"][0]["status"]) == (True, "processed")

    run(story, tmp_path)
