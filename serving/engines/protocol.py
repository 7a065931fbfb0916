"""What every engine does: takes an OpenAI request, gives pieces of an OpenAI answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class PieceKind(IntEnum):
    """What a piece holds. The numbers travel between gateway and engine."""

    DATA = 0
    """A JSON document for the client: the whole answer, or one chunk of a stream."""
    USAGE = 1
    """A JSON object with ``prompt_tokens`` and ``completion_tokens``: the last piece of a complete answer."""
    REFUSED = 2
    """The request cannot be answered as it stands: JSON with ``status``, ``message``, ``code``. Nothing follows."""
    FAILED = 3
    """The engine broke; another replica may answer. JSON with ``message``. Nothing follows."""


class Piece(NamedTuple):
    """A part of an answer, ready to send."""

    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to an engine."""

    operation: str
    """``chat``, ``completions``, ``embeddings`` or ``transcriptions``."""
    body: dict[str, Any]
    """The request as OpenAI's API defines it, a sound as ``file`` in base64; parameters were checked by the gateway."""
    priority: int = 0
    """Higher is scheduled first by engines that can."""

    @property
    def is_stream(self) -> bool:
        """Whether the client wants chunks as they come."""
        return bool(self.body.get("stream"))

    @property
    def wants_usage(self) -> bool:
        """Whether a streaming client asked for the chunk that holds the usage."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What a replica is told of its engine by the arguments of its application."""

    group: str
    model: str
    variant: str
    engine: str
    weights: Path | None = None
    """Absolute; None for engines without weights."""
    sha256: str = ""
    """Checked before the weights are opened, if given."""
    publisher_key: str = ""
    """File of the public key that must have signed a folder's list of files; empty asks for no signature."""
    context: int = 2048
    """Tokens of one request, prompt and answer together."""
    concurrency: int = 1
    threads: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    """Further settings, known to one engine."""


class Engine(Protocol):
    """A model. Construction and ``start`` together load it; they may take minutes and raise ``ServingError``."""

    async def start(self) -> None:
        """Do the part of loading that needs an event loop; answers may be asked for after it."""
        ...

    def answer(self, call: Call) -> AsyncIterator[Piece]:
        """Yield DATA pieces, then one USAGE piece; or one REFUSED piece. Closing the iterator stops the work."""
        ...

    async def close(self) -> None:
        """Free memory and threads; answers in progress end with FAILED."""
        ...
