"""A thin client of the control API on the standard library alone, so that the command line starts quickly."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PAGE = 500


class Unreachable(Exception):
    """Nothing answers at the address of the control plane."""

    code = "unreachable"

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(url, cause)
        self.url, self.cause = url, cause

    def __str__(self) -> str:
        todo = "start it with `partage up`, or name another context"
        return f"no control plane answers at {self.url} ({self.cause}); {todo}"


class Problem(Exception):
    """The control plane refused, and said why."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body
        self.code = str(body.get("code", f"http_{status}"))

    def __str__(self) -> str:
        return str(self.body.get("detail") or self.body.get("title") or f"HTTP {self.status}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    body: Any
    etag: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Calls one control plane with one token."""

    url: str
    token: str = field(repr=False)
    timeout_s: float = 30

    def get(self, path: str, **query: object) -> Any:
        """Return the body of a GET. Raises ``Problem`` or ``Unreachable``."""
        return self.call("GET", path, query=query).body

    def items(self, path: str, **query: object) -> list[Any]:
        """Return every item of a list, page by page."""
        found: list[Any] = []
        more: dict[str, object] = {}
        while True:
            page = self.get(path, limit=PAGE, **more, **query)
            found += page["items"]
            if page["next"] is None:
                return found
            more = {"continue": page["next"]}

    def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Return the answer of one request. Raises ``Problem`` for a refusal, ``Unreachable`` without an answer."""
        connection = self._connection(self.timeout_s)
        try:
            connection.request(
                method, _address(path, query or {}), _encoded(body), {**self._headers(), **(headers or {})}
            )
            response = connection.getresponse()
            return _answer(response.status, response.read(), response.getheader("ETag"))
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self.url, str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def watch(self, path: str, **query: object) -> Iterator[dict[str, Any]]:
        """Yield the data of each server-sent event until the stream ends; bookmarks are left out."""
        connection = self._connection(60)
        try:
            connection.request("GET", _address(path, query), None, self._headers())
            response = connection.getresponse()
            if response.status != http.client.OK:
                _answer(response.status, response.read(), None)
            for raw in response:
                line = raw.decode().rstrip("\n")
                if line.startswith("data: ") and line != "data: {}":
                    yield json.loads(line.removeprefix("data: "))
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self.url, str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        parsed = urllib.parse.urlsplit(self.url)
        kind = http.client.HTTPSConnection if parsed.scheme == "https" else http.client.HTTPConnection
        return kind(parsed.hostname or "127.0.0.1", parsed.port, timeout=timeout_s)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}


def _address(path: str, query: dict[str, object]) -> str:
    given = {name: str(value) for name, value in query.items() if value is not None}
    quoted = urllib.parse.quote(path)
    return f"{quoted}?{urllib.parse.urlencode(given)}" if given else quoted


def _encoded(body: object) -> bytes | None:
    return None if body is None else json.dumps(body, ensure_ascii=False).encode()


def _answer(status: int, raw: bytes, etag: str | None) -> Answer:
    try:
        body = json.loads(raw) if raw else None
    except ValueError:
        body = {"detail": raw[:200].decode(errors="replace")}
    if status >= http.client.BAD_REQUEST:
        raise Problem(status, body if isinstance(body, dict) else {})
    return Answer(status=status, body=body, etag=etag)
