"""``/v1/files`` and ``/v1/batches`` in OpenAI's shapes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Protocol
from urllib.parse import parse_qsl

from policies.model.routing import KeyRecord
from serving.gateway.batch import BatchRunner
from serving.gateway.errors import BadRequest, NoSuchPath
from serving.gateway.forms import form, text_of
from serving.gateway.request import OPERATIONS
from serving.gateway.shelf import IN_PROGRESS, Batch, Shelf, StoredFile, checked, new_batch_id

FILE_LIMIT_BYTES = 64 * 1024 * 1024
WINDOW_S = 24 * 3600
PURPOSES = ("batch",)
METADATA_KEYS = 16
METADATA_CHARACTERS = 512
PAGE_MOST = 10_000
"""Files or batches in one answer."""


class Exchange(Protocol):
    """What is needed of an HTTP exchange."""

    method: str
    path: str
    query: bytes

    def header(self, name: bytes) -> str:
        """Return the header's value; empty if it is not there."""
        ...

    async def body(self, limit: int) -> bytes:
        """Return the whole body."""
        ...

    async def json(self, status: int, document: bytes) -> None:
        """Send a JSON response."""
        ...

    async def respond(self, status: int, content_type: bytes, body: bytes) -> None:
        """Send a response."""
        ...


class FilesHttp:
    """Answers for the files and batches of the tenant whose key was given."""

    def __init__(self, shelf: Shelf, runner: BatchRunner) -> None:
        self._shelf = shelf
        self._runner = runner

    async def answer(self, exchange: Exchange, key: KeyRecord, now_s: int) -> None:
        """Answer a request below ``/v1/files`` or ``/v1/batches``. Raises ``ApiError``."""
        kind, name, rest = [*exchange.path.removeprefix("/v1/").split("/"), "", ""][:3]
        routes = {
            ("POST", "files", False, ""): self._upload,
            ("GET", "files", False, ""): self._list_files,
            ("GET", "files", True, ""): self._describe_file,
            ("GET", "files", True, "content"): self._content,
            ("DELETE", "files", True, ""): self._delete_file,
            ("POST", "batches", False, ""): self._create,
            ("GET", "batches", False, ""): self._list_batches,
            ("GET", "batches", True, ""): self._describe_batch,
            ("POST", "batches", True, "cancel"): self._cancel,
        }
        found = routes.get((exchange.method, kind, bool(name), rest))
        if found is None:
            raise NoSuchPath(f"Invalid URL ({exchange.method} {exchange.path[:100]})")
        await found(exchange, key, name, now_s)

    async def _upload(self, exchange: Exchange, key: KeyRecord, _: str, now_s: int) -> None:
        parts = form(exchange.header(b"content-type"), await exchange.body(FILE_LIMIT_BYTES))
        purpose, file = text_of(parts.get("purpose")), parts.get("file")
        if purpose not in PURPOSES:
            raise BadRequest("'purpose' must be 'batch'.", param="purpose")
        if file is None:
            raise BadRequest("'file' is missing.", param="file")
        content = file.get_payload(decode=True)
        raw = content if isinstance(content, bytes) else b""
        kept = self._shelf.put_file(key.tenant, raw, file.get_filename() or "batch.jsonl", purpose, now_s)
        await _send(exchange, _told(kept))

    async def _list_files(self, exchange: Exchange, key: KeyRecord, _: str, __: int) -> None:
        await _send(exchange, _page([_told(file) for file in self._shelf.files(key.tenant)], exchange.query))

    async def _describe_file(self, exchange: Exchange, key: KeyRecord, name: str, _: int) -> None:
        await _send(exchange, _told(self._shelf.file(key.tenant, name)))

    async def _content(self, exchange: Exchange, key: KeyRecord, name: str, _: int) -> None:
        await exchange.respond(200, b"application/jsonl", self._shelf.content(key.tenant, name))

    async def _delete_file(self, exchange: Exchange, key: KeyRecord, name: str, _: int) -> None:
        self._shelf.delete_file(key.tenant, name)
        await _send(exchange, {"id": name, "object": "file", "deleted": True})

    async def _create(self, exchange: Exchange, key: KeyRecord, _: str, now_s: int) -> None:
        asked = _asked(await exchange.body(FILE_LIMIT_BYTES))
        endpoint = str(asked.get("endpoint"))
        if endpoint not in OPERATIONS:
            raise BadRequest(f"'endpoint' must be one of {', '.join(OPERATIONS)}.", param="endpoint")
        if asked.get("completion_window") != "24h":
            raise BadRequest("'completion_window' must be '24h'.", param="completion_window")
        total, faults = checked(self._shelf.content(key.tenant, str(asked.get("input_file_id"))))
        batch = Batch(
            id=new_batch_id(),
            endpoint=endpoint,
            input_file_id=str(asked["input_file_id"]),
            created_at=now_s,
            expires_at=now_s + WINDOW_S,
            key_prefix=key.prefix,
            tenant=key.tenant,
            total=total,
            status="failed" if faults else IN_PROGRESS,
            ended_at=now_s if faults else None,
            errors=faults or None,
            metadata=_metadata(asked.get("metadata")),
        )
        self._shelf.put_batch(batch)
        await _send(exchange, batch.document())

    async def _list_batches(self, exchange: Exchange, key: KeyRecord, _: str, __: int) -> None:
        found = [self._runner.progress(batch).document() for batch in self._shelf.batches(key.tenant)]
        await _send(exchange, _page(found, exchange.query))

    async def _describe_batch(self, exchange: Exchange, key: KeyRecord, name: str, _: int) -> None:
        await _send(exchange, self._runner.progress(self._shelf.batch(key.tenant, name)).document())

    async def _cancel(self, exchange: Exchange, key: KeyRecord, name: str, _: int) -> None:
        batch = self._shelf.batch(key.tenant, name)
        ended = self._runner.cancel(batch) if batch.status == IN_PROGRESS else batch
        await _send(exchange, ended.document())


def _asked(raw: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(raw)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise BadRequest("We could not parse the JSON body of your request.")
    return asked


def _metadata(given: object) -> dict[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or len(given) > METADATA_KEYS:
        raise BadRequest(f"'metadata' is an object of at most {METADATA_KEYS} texts.", param="metadata")
    return {str(key)[:64]: str(value)[:METADATA_CHARACTERS] for key, value in given.items()}


def _told(file: StoredFile) -> dict[str, Any]:
    """Return the file as OpenAI tells of it; nothing here is still being read."""
    return asdict(file) | {"status": "processed"}


def _page(data: list[dict[str, Any]], query: bytes) -> dict[str, Any]:
    """Return the part of the list, newest first, that ``limit`` and ``after`` ask for. Raises ``BadRequest``."""
    asked = dict(parse_qsl(query.decode("latin-1")))
    limit = asked.get("limit", str(PAGE_MOST))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= PAGE_MOST:
        raise BadRequest(f"'limit' is a number from 1 to {PAGE_MOST}.", param="limit")
    names = [each["id"] for each in data]
    after = asked.get("after")
    if after and after not in names:
        raise BadRequest("'after' is none of the ids in this list.", param="after")
    rest = data[names.index(after) + 1 :] if after else data
    page = rest[: int(limit)]
    edges = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return {"object": "list", "data": page, "has_more": len(rest) > len(page), **edges}


async def _send(exchange: Exchange, document: dict[str, Any]) -> None:
    await exchange.json(200, json.dumps(document).encode())
