"""The port over the library grafana-api. Nothing else imports the library; runbooks/decisions says what replaces it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from grafana_api.grafana_api import GrafanaException
from grafana_api.grafana_face import GrafanaFace

from cluster.dashboards.port import Annotation, Stored
from cluster.dashboards.refusals import (
    AddressInvalid,
    GrafanaRefused,
    GrafanaUnauthorised,
    GrafanaUnreachable,
    GrafanaUnreadable,
    TokenUnusable,
)

TIMEOUT_S = 10
ANNOTATIONS_READ = 5_000
TOKEN_BYTES = 4_096
"""Longest token file that is read."""
NOT_FOUND = 404


def connect(address: str, token_file: Path, *, ca_file: Path | None = None) -> GrafanaClient:
    """Return a client of the Grafana at the address. Nothing is sent yet.

    Raises ``AddressInvalid`` and ``TokenUnusable``.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise AddressInvalid(address)
    path = parts.path.strip("/")
    face = GrafanaFace(
        auth=read_token(token_file),
        host=parts.netloc.rpartition("@")[2],
        url_path_prefix=f"{path}/" if path else "",
        protocol=parts.scheme,
        verify=str(ca_file) if ca_file else True,
        timeout=TIMEOUT_S,
    )
    # A proxy of the environment must not see the token of a service on our own network.
    face.api.s.trust_env = False
    return GrafanaClient(address.rstrip("/"), face)


def read_token(path: Path) -> str:
    """Return the token in the file, without its line end. Raises ``TokenUnusable``; the token is never in a message."""
    try:
        with path.open(encoding="ascii") as file:
            token = file.read(TOKEN_BYTES).strip()
    except OSError as error:
        raise TokenUnusable(path, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TokenUnusable(path, "is not text") from error
    if not token:
        raise TokenUnusable(path, "is empty")
    if any(character.isspace() for character in token):
        raise TokenUnusable(path, "holds more than one word")
    return token


class GrafanaClient:
    """The port, over HTTP."""

    def __init__(self, url: str, face: Any) -> None:
        self.url = url
        self._face = face

    def folder_title(self, uid: str) -> str | None:
        """Return the folder's title, None if there is no such folder."""
        asked = f"folder {uid!r}"
        found = self._find(asked, lambda: self._face.folder.get_folder(quote(uid, safe="")))
        return None if found is None else self._text(found, "title", asked)

    def make_folder(self, uid: str, title: str) -> None:
        """Create the folder."""
        self._ask(f"creating folder {title!r}", lambda: self._face.folder.create_folder(title, uid))

    def datasource_uid(self, name: str) -> str | None:
        """Return the uid of the named data source, None if there is none."""
        asked = f"data source {name!r}"
        found = self._find(asked, lambda: self._face.datasource.get_datasource_by_name(quote(name, safe="")))
        return None if found is None else self._text(found, "uid", asked)

    def dashboard(self, uid: str) -> Stored | None:
        """Return the dashboard, None if there is none."""
        asked = f"dashboard {uid!r}"
        found = self._find(asked, lambda: self._face.dashboard.get_dashboard(quote(uid, safe="")))
        if found is None:
            return None
        content, meta = found.get("dashboard"), found.get("meta")
        if not isinstance(content, dict) or not isinstance(meta, dict):
            raise GrafanaUnreadable(self.url, asked)
        return Stored(folder_uid=str(meta.get("folderUid", "")), version=int(meta.get("version", 0)), content=content)

    def put_dashboard(self, content: dict[str, Any], folder_uid: str, message: str) -> None:
        """Store the dashboard in the folder, over any older version of the same uid."""
        body = {"dashboard": content, "folderUid": folder_uid, "message": message, "overwrite": True}
        self._ask(f"storing dashboard {content['uid']!r}", lambda: self._face.dashboard.update_dashboard(body))

    def annotations(self, tags: tuple[str, ...], from_ms: int, to_ms: int) -> tuple[Annotation, ...]:
        """Return the annotations that carry all the tags, oldest first; at most ``ANNOTATIONS_READ``."""
        found = self._ask(
            "reading annotations",
            lambda: self._face.annotations.get_annotation(
                time_from=from_ms,
                time_to=to_ms,
                tags=[quote(tag, safe="") for tag in tags],
                limit=ANNOTATIONS_READ,
            ),
        )
        if not isinstance(found, list):
            raise GrafanaUnreadable(self.url, "reading annotations")
        return tuple(sorted((_annotation(item) for item in found), key=lambda each: (each.at_ms, each.tags)))

    def annotate(self, annotation: Annotation) -> None:
        """Add the annotation; twice the same makes two."""
        self._ask(
            "adding an annotation",
            lambda: self._face.annotations.add_annotation(
                time_from=annotation.at_ms,
                time_to=annotation.until_ms,
                tags=list(annotation.tags),
                text=annotation.text,
            ),
        )

    def _text(self, found: Any, field: str, asked: str) -> str:
        if not isinstance(found, dict) or not isinstance(found.get(field), str):
            raise GrafanaUnreadable(self.url, asked)
        return str(found[field])

    def _find(self, asked: str, call: Callable[[], Any]) -> Any | None:
        try:
            found = self._ask(asked, call)
        except GrafanaRefused as refused:
            if refused.status == NOT_FOUND:
                return None
            raise
        if not isinstance(found, dict):
            raise GrafanaUnreadable(self.url, asked)
        return found

    def _ask(self, asked: str, call: Callable[[], Any]) -> Any:
        """Translate the library's faults. It raises ``TypeError`` where an error body is not an object."""
        try:
            return call()
        except GrafanaException as error:
            if error.status_code in (401, 403):
                raise GrafanaUnauthorised(self.url, error.status_code, asked) from error
            raise GrafanaRefused(asked, error.status_code, _message(error)) from error
        except (requests.exceptions.JSONDecodeError, TypeError) as error:
            raise GrafanaUnreadable(self.url, asked) from error
        except requests.exceptions.RequestException as error:
            raise GrafanaUnreachable(self.url, type(error).__name__) from error


def _message(error: GrafanaException) -> str:
    body = error.response
    return str(body.get("message", error.message)) if isinstance(body, dict) else "no reason given"


def _annotation(item: Any) -> Annotation:
    return Annotation(
        at_ms=int(item["time"]),
        until_ms=int(item.get("timeEnd") or item["time"]),
        text=str(item.get("text", "")),
        tags=tuple(item.get("tags") or ()),
    )
