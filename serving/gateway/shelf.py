"""Files and batches of tenants on disk: each tenant's in a folder of its own, each change atomic."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from serving.gateway.errors import BadRequest, NoSuchPath

FILES_PER_TENANT = 200
LINES_PER_BATCH = 50_000
IN_PROGRESS = "in_progress"
_ID = re.compile(r"(file|batch)-[0-9a-f]{24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file as OpenAI's API describes it."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    object: str = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as OpenAI's API describes it, and whose it is."""

    id: str
    endpoint: str
    input_file_id: str
    created_at: int
    expires_at: int
    key_prefix: str
    """Key that it runs under: revoking the key ends the batch."""
    tenant: str
    total: int
    status: str = IN_PROGRESS
    """``in_progress``, ``completed``, ``cancelled``, ``expired`` or ``failed``."""
    completed: int = 0
    failed: int = 0
    ended_at: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    metadata: dict[str, str] | None = None
    errors: list[dict[str, Any]] | None = None
    """What is wrong with the input; a batch that has any never began."""

    def document(self) -> dict[str, Any]:
        """Return what the tenant sees."""
        plain = {key: value for key, value in asdict(self).items() if key not in _INNER}
        counts = {"total": self.total, "completed": self.completed, "failed": self.failed}
        ended = {f"{self.status}_at": self.ended_at} if self.ended_at is not None else {}
        plain["errors"] = {"object": "list", "data": self.errors} if self.errors else None
        return plain | ended | {"object": "batch", "completion_window": "24h", "request_counts": counts}


_INNER = ("key_prefix", "tenant", "total", "completed", "failed", "ended_at")


class Shelf:
    """Files and batches below one folder; mode 0700, since requests of batches lie in it until they are deleted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._owned: BinaryIO | None = None

    def own(self) -> bool:
        """Become the one process that works through the batches here; return False while another does.

        Two gateways share a folder while one takes over from the other. A process that dies owns nothing any more.
        """
        if self._owned is None:
            owned = (self._folder / "owner").open("ab")
            try:
                fcntl.flock(owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                owned.close()
                return False
            self._owned = owned
        return True

    def disown(self) -> None:
        """Let another process work through the batches here."""
        if self._owned is not None:
            self._owned.close()
            self._owned = None

    def put_file(self, tenant: str, content: bytes, filename: str, purpose: str, now_s: int) -> StoredFile:
        """Keep the content and return its description. Raises ``BadRequest`` if the tenant has too many files."""
        place = self._of(tenant)
        if len(list(place.glob("file-*.json"))) >= FILES_PER_TENANT:
            raise BadRequest(f"Your tenant has {FILES_PER_TENANT} files; delete some first.")
        kept = StoredFile(
            id=_new("file"), bytes=len(content), created_at=now_s, filename=filename[:200], purpose=purpose
        )
        (place / f"{kept.id}.content").write_bytes(content)
        _write(place / f"{kept.id}.json", asdict(kept))
        return kept

    def file(self, tenant: str, name: str) -> StoredFile:
        """Return the file's description. Raises ``NoSuchPath``, also for files of others."""
        return StoredFile(**self._read(tenant, name, "file"))

    def files(self, tenant: str) -> list[StoredFile]:
        """Return the tenant's files, newest first."""
        found = [StoredFile(**json.loads(path.read_bytes())) for path in self._of(tenant).glob("file-*.json")]
        return sorted(found, key=lambda each: (-each.created_at, each.id))

    def content(self, tenant: str, name: str) -> bytes:
        """Return the file's bytes. Raises ``NoSuchPath``."""
        self.file(tenant, name)
        return (self._of(tenant) / f"{name}.content").read_bytes()

    def delete_file(self, tenant: str, name: str) -> None:
        """Remove the file. Raises ``NoSuchPath``."""
        self.file(tenant, name)
        for ending in ("json", "content"):
            (self._of(tenant) / f"{name}.{ending}").unlink(missing_ok=True)

    def put_batch(self, batch: Batch) -> None:
        """Keep the batch as it is now."""
        _write(self._of(batch.tenant) / f"{batch.id}.json", asdict(batch))

    def batch(self, tenant: str, name: str) -> Batch:
        """Return the batch. Raises ``NoSuchPath``, also for batches of others."""
        return Batch(**self._read(tenant, name, "batch"))

    def batches(self, tenant: str) -> list[Batch]:
        """Return the tenant's batches, newest first."""
        found = [Batch(**json.loads(path.read_bytes())) for path in self._of(tenant).glob("batch-*.json")]
        return sorted(found, key=lambda each: (-each.created_at, each.id))

    def running(self) -> list[Batch]:
        """Return the batches of all tenants that have not ended, oldest first."""
        found = (Batch(**json.loads(path.read_bytes())) for path in self._folder.glob("*/batch-*.json"))
        return sorted((each for each in found if each.status == IN_PROGRESS), key=lambda each: each.created_at)

    def append_result(self, batch: Batch, line: dict[str, Any], *, is_error: bool) -> None:
        """Add a line to the batch's output or errors; survives a crash of the process."""
        with self._results(batch, "error" if is_error else "output").open("ab") as end:
            end.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def done(self, batch: Batch) -> tuple[set[str], set[str]]:
        """Return the custom ids that have an answer, and those that have an error."""
        answered, failed = ({str(line["custom_id"]) for line in _lines(self._results(batch, k))} for k in _KINDS)
        return answered, failed

    def settle(self, batch: Batch, status: str, now_s: int) -> Batch:
        """End the batch: its results become files of the tenant. Return it as it is now kept."""
        names: dict[str, str | None] = {}
        for kind in _KINDS:
            path = self._results(batch, kind)
            content = path.read_bytes() if path.exists() else b""
            kept = self.put_file(batch.tenant, content, f"{batch.id}_{kind}.jsonl", "batch_output", now_s)
            names[f"{kind}_file_id"] = kept.id if content else None
            if not content:
                self.delete_file(batch.tenant, kept.id)
            path.unlink(missing_ok=True)
        ended = replace(batch, status=status, ended_at=now_s, **names)  # type: ignore[arg-type]  # both are file ids
        self.put_batch(ended)
        return ended

    def _results(self, batch: Batch, kind: str) -> Path:
        return self._of(batch.tenant) / f"{batch.id}.{kind}"

    def _of(self, tenant: str) -> Path:
        place = self._folder / hashlib.sha256(tenant.encode()).hexdigest()[:24]
        place.mkdir(exist_ok=True, mode=0o700)
        return place

    def _read(self, tenant: str, name: str, kind: str) -> dict[str, Any]:
        path = self._of(tenant) / f"{name}.json"
        if not _ID.fullmatch(name) or not name.startswith(kind) or not path.is_file():
            raise NoSuchPath(f"No such {kind}: '{name[:64]}'")
        plain: dict[str, Any] = json.loads(path.read_bytes())
        return plain


_KINDS = ("output", "error")


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:  # the last line of a process that died
            continue


class BrokenLine(BadRequest):
    """A line of a batch's input that is no request."""

    def __init__(self, code: str, message: str, line: int) -> None:
        super().__init__(message, code=code)
        self.line = line

    def told(self) -> dict[str, Any]:
        """Return the fault as OpenAI's batches tell it."""
        return {"code": self.code, "message": str(self), "param": None, "line": self.line}


def batch_lines(content: bytes) -> Iterator[tuple[str, bytes, str]]:
    """Yield custom id, body and URL of each line of a batch's input. Raises ``BrokenLine`` at the first fault."""
    seen: set[str] = set()
    for number, raw in enumerate((line for line in content.splitlines() if line.strip()), start=1):
        if number > LINES_PER_BATCH:
            raise BrokenLine("too_many_lines", f"A batch has at most {LINES_PER_BATCH} lines.", number)
        line = _line(raw, number)
        name = line["custom_id"]
        if name in seen:
            said = f"The custom_id on line {number} is that of another line: '{name[:64]}'."
            raise BrokenLine("duplicate_custom_id", said, number)
        seen.add(name)
        yield name, json.dumps(line["body"]).encode(), str(line["url"])


def _line(raw: bytes, number: int) -> dict[str, Any]:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        raise BrokenLine("invalid_json_line", f"Line {number} is not parseable as valid JSON.", number) from None
    if not isinstance(line, dict):
        raise BrokenLine("invalid_json_line", f"Line {number} is not a JSON object.", number)
    for name in ("custom_id", "method", "url", "body"):
        if name not in line:
            said = f"Missing required parameter on line {number}: '{name}'."
            raise BrokenLine("missing_required_parameter", said, number)
    if line["method"] != "POST":
        raise BrokenLine("invalid_method", f"The method on line {number} must be POST.", number)
    if not isinstance(line["custom_id"], str):
        raise BrokenLine("invalid_custom_id", f"The custom_id on line {number} must be a text.", number)
    return line


def checked(content: bytes) -> tuple[int, list[dict[str, Any]]]:
    """Return how many requests are in a batch's input, and what is wrong with it: nothing if it may begin."""
    total = 0
    try:
        for _ in batch_lines(content):
            total += 1
    except BrokenLine as broken:
        return total, [broken.told()]
    if not total:
        return 0, [{"code": "empty_file", "message": "The input has no lines.", "param": None, "line": None}]
    return total, []


def _new(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(12)}"


def new_batch_id() -> str:
    """Return a name that nobody can guess."""
    return _new("batch")


def _write(path: Path, document: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(document), encoding="utf-8")
    unfinished.replace(path)
