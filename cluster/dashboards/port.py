"""What we need of a Grafana, and no more: the port that keeps the client library replaceable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A dashboard as Grafana holds it."""

    folder_uid: str
    """Empty for the root."""
    version: int
    content: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A mark on the time axis of every dashboard."""

    at_ms: int
    until_ms: int
    """Same as ``at_ms`` for a point in time."""
    text: str
    tags: tuple[str, ...]
    """All of them are needed to find it again."""


class Grafana(Protocol):
    """One organisation of one Grafana. Every method raises a ``Refusal`` of ``cluster.dashboards.refusals``."""

    def folder_title(self, uid: str) -> str | None:
        """Return the folder's title, None if there is no such folder."""
        ...

    def make_folder(self, uid: str, title: str) -> None:
        """Create the folder."""
        ...

    def datasource_uid(self, name: str) -> str | None:
        """Return the uid of the named data source, None if there is none."""
        ...

    def dashboard(self, uid: str) -> Stored | None:
        """Return the dashboard, None if there is none."""
        ...

    def put_dashboard(self, content: dict[str, Any], folder_uid: str, message: str) -> None:
        """Store the dashboard in the folder, over any older version of the same uid."""
        ...

    def annotations(self, tags: tuple[str, ...], from_ms: int, to_ms: int) -> tuple[Annotation, ...]:
        """Return the annotations that carry all the tags, oldest first; at most ``ANNOTATIONS_READ``."""
        ...

    def annotate(self, annotation: Annotation) -> None:
        """Add the annotation; twice the same makes two."""
        ...
