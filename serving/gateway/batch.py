"""Batches fill places that nobody wants, and leave at once when somebody does: what is cut off is done again later."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from policies.model.routing import KeyRecord
from serving.gateway.dispatch import Lease
from serving.gateway.errors import ApiError, BadRequest, BudgetSpent, EngineBroke, RateLimited, Refused
from serving.gateway.exchange import Gateway
from serving.gateway.request import OPERATIONS, Request, parse
from serving.gateway.shelf import IN_PROGRESS, Batch, Shelf, batch_lines
from serving.gateway.tally import ANSWERED, Tally

LOOK_INTERVAL_S = 0.2
"""Between two looks for idle places."""
AT_ONCE = 256
"""Items of all batches inside groups at the same time."""
KEY_ENDED = {
    "code": "key_not_in_force",
    "message": "The key that began this batch was revoked or has expired. What was done by then is in the results.",
    "param": None,
    "line": None,
}
_MS = 1_000

_log = logging.getLogger("ray.serve")


class _Guest:
    """One item inside a group, as long as nobody else wants its place."""

    def __init__(self) -> None:
        self.must_leave = False
        self.has_begun = False
        self.task: asyncio.Task[None] | None = None

    def leave(self) -> None:
        """Stop the item. One that has not begun finds the mark: cancelled now, it would never give its place back."""
        self.must_leave = True
        if self.has_begun and self.task is not None:
            self.task.cancel()


@dataclass(slots=True, kw_only=True)
class _Running:
    batch: Batch
    waiting: deque[tuple[str, Request | ApiError]]
    guests: set[_Guest] = field(default_factory=set)


class BatchRunner:
    """Works through the batches of a shelf for as long as ``run`` runs; finds them again after a restart.

    Of several runners at one shelf, one works; the others answer for it, and take over when it has ended.
    """

    def __init__(self, gateway: Gateway, shelf: Shelf) -> None:
        self._gateway = gateway
        self._shelf = shelf
        self._running: dict[str, _Running] = {}

    async def run(self) -> None:
        """Fill idle places until cancelled; items in progress then are done again by the next run."""
        try:
            while True:
                if self._shelf.own():
                    self._adopt()
                    for running in list(self._running.values()):
                        self._advance(running)
                await asyncio.sleep(LOOK_INTERVAL_S)
        finally:
            for running in self._running.values():
                _empty(running)
            self._shelf.disown()

    def progress(self, batch: Batch) -> Batch:
        """Return the batch with the counts as they are now."""
        running = self._running.get(batch.id)
        if running is not None:
            return running.batch
        if batch.status != IN_PROGRESS:
            return batch
        answered, failed = self._shelf.done(batch)  # another process works through it
        return replace(batch, completed=len(answered), failed=len(failed))

    def cancel(self, batch: Batch) -> Batch:
        """End the batch; what is inside is stopped, what is done is kept."""
        running = self._running.pop(batch.id, None)
        if running is not None:
            _empty(running)
        return self._shelf.settle(running.batch if running else batch, "cancelled", self._now_s())

    def _adopt(self) -> None:
        waiting = self._shelf.running()
        for name in self._running.keys() - {batch.id for batch in waiting}:
            _empty(self._running.pop(name))  # cancelled at another gateway
        for batch in waiting:
            if batch.id not in self._running:
                try:
                    self._running[batch.id] = self._loaded(batch)
                except ApiError:  # its input was deleted meanwhile
                    self._shelf.settle(batch, "failed", self._now_s())

    def _loaded(self, batch: Batch) -> _Running:
        answered, failed = self._shelf.done(batch)
        content = self._shelf.content(batch.tenant, batch.input_file_id)
        left = deque((n, r) for n, r in _requests(content, batch.endpoint) if n not in answered and n not in failed)
        return _Running(batch=replace(batch, completed=len(answered), failed=len(failed)), waiting=left)

    def _advance(self, running: _Running) -> None:
        batch = running.batch
        if self._now_s() >= batch.expires_at:
            self._end(running, "expired")
        elif not running.waiting and not running.guests:
            self._end(running, "completed")
        elif (key := self._gateway.key(batch.key_prefix)) is None:
            running.batch = replace(batch, errors=[KEY_ENDED])
            self._end(running, "failed")
        else:
            while running.waiting and len(running.guests) < AT_ONCE and self._start(running, key):
                pass

    def _start(self, running: _Running, key: KeyRecord) -> bool:
        """Begin the next item if there is an idle place for it; return False if there is none."""
        name, request = running.waiting[0]
        if isinstance(request, ApiError):
            running.waiting.popleft()
            self._note(running, name, request)
            return True
        tally = self._gateway.open(key, request, f"{running.batch.id}-{len(running.waiting)}")
        tally.class_name = "batch"
        guest = _Guest()
        try:
            lease = self._gateway.fill(tally, guest.leave)
        except (RateLimited, BudgetSpent):
            return False  # later minutes, days or months have room again
        except ApiError as error:
            running.waiting.popleft()
            self._note(running, name, error)
            return True
        if lease is None:
            return False
        running.waiting.popleft()
        running.guests.add(guest)
        guest.task = asyncio.get_running_loop().create_task(self._item(running, name, (tally, lease, guest)))
        return True

    async def _item(self, running: _Running, name: str, visit: tuple[Tally, Lease, _Guest]) -> None:
        tally, lease, guest = visit
        guest.has_begun = True
        if guest.must_leave:
            self._gateway.dispatcher.give_back(lease, used=None)
            running.waiting.append((name, tally.request))
            running.guests.discard(guest)
            self._gateway.settle(tally)
            return
        try:
            document = await self._gateway.filled(tally, lease)
            tally.status = ANSWERED
            self._note(running, name, document)
        except asyncio.CancelledError:
            running.waiting.append((name, tally.request))  # somebody needed the place
        except EngineBroke:
            running.waiting.append((name, tally.request))
        except ApiError as error:
            tally.fail(error)
            self._note(running, name, error)
        finally:
            running.guests.discard(guest)
            self._gateway.settle(tally)

    def _note(self, running: _Running, name: str, result: bytes | ApiError) -> None:
        batch, asked = running.batch, f"{running.batch.id}-{name}"
        if isinstance(result, ApiError):
            told = {"status_code": result.status, "request_id": asked, "body": json.loads(result.document())}
            running.batch = replace(batch, failed=batch.failed + 1)
        else:
            told = {"status_code": ANSWERED, "request_id": asked, "body": json.loads(result)}
            running.batch = replace(batch, completed=batch.completed + 1)
        line = {"id": asked, "custom_id": name, "response": told, "error": None}
        self._shelf.append_result(batch, line, is_error=isinstance(result, ApiError))

    def _end(self, running: _Running, status: str) -> None:
        _empty(running)
        del self._running[running.batch.id]
        with contextlib.suppress(BadRequest):  # the tenant has too many files: results wait until some are deleted
            self._shelf.settle(running.batch, status, self._now_s())

    def _now_s(self) -> int:
        return self._gateway.clock() // _MS


def _empty(running: _Running) -> None:
    for guest in tuple(running.guests):
        guest.leave()


def _requests(content: bytes, endpoint: str) -> Iterator[tuple[str, Request | ApiError]]:
    for name, body, url in batch_lines(content):
        try:
            if url != endpoint:
                raise Refused(400, f"the batch is for {endpoint}, this line for {url}", "mismatched_url")
            request = parse(OPERATIONS[endpoint], body)
            if request.is_stream:
                raise Refused(400, "a batch cannot stream", "stream_in_batch")
        except ApiError as error:
            yield name, error
        else:
            yield name, request
