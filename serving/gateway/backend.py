"""How the gateway reaches a group."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from serving.engines.protocol import Piece


class Backend(Protocol):
    """Brings requests to the engines of groups."""

    def answer(
        self, group: str, operation: str, body: bytes, priority: int, affinity: str = ""
    ) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of the answer; closing the generator stops the engine's work.

        Of a group's replicas, requests of the same ``affinity`` meet the same one where the way there allows it.
        A group that is gone or breaks is a FAILED piece, never an exception.
        """
        ...

    def expect(self, groups: frozenset[str]) -> None:
        """Prepare for these groups and forget others without requests."""
        ...
