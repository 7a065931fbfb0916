"""The fake on the wire: HTTP/1.1, JSON, chunked watches, scripted faults, a log of every request."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

from . import discovery, patches, protobuf, table
from .errors import Refused, bad_request, gone, not_found
from .kinds import Resource
from .store import Query, Store, Write

BOOKMARK_EVERY_S = 1.0
PATH = re.compile(
    r"^(?:/api/(?P<core>v1)|/apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?$"
)
VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass
class Fault:
    """What to answer instead, for the next requests of this method whose path contains this text."""

    method: str
    path: str
    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "status"
    """``status``, ``reset``, ``hang``, ``truncate``: half of the true answer."""
    times: int = 1


@dataclass(frozen=True)
class Request:
    """One request as it was seen, for checks of rights and of traffic."""

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str | None
    bytes_in: int
    manager: str
    agent: str
    """First word of the User-Agent header."""


class FakeApiServer:
    """Runs until closed; ``url`` is where."""

    def __init__(self, token: str | None = None) -> None:
        self.store = Store()
        self.token = token
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.watch_bytes = 0
        self.released = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fail(self, method: str, path: str, **how: Any) -> None:
        self.faults.append(Fault(method, path, **how))

    def take_fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and fault.path in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def drop_connections(self) -> None:
        """Cut every open connection, watches among them."""
        for open_socket in list(self._sockets):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self.drop_connections()
        with self.store.changed:
            self.store.changed.notify_all()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no error of the server."""


def _handler(owner: FakeApiServer) -> type[BaseHTTPRequestHandler]:
    doors = {f"do_{method}": _Handler.serve for method in VERBS}
    return type("Handler", (_Handler,), {"owner": owner, **doors})


class _Handler(BaseHTTPRequestHandler):
    owner: FakeApiServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.owner._sockets.add(self.connection)

    def finish(self) -> None:
        self.owner._sockets.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *args: Any) -> None:
        """Silent: the log of requests is a list."""

    def serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        parsed = urllib.parse.urlsplit(self.path)
        self.route = parsed.path.rstrip("/") or "/"
        self.query = dict(urllib.parse.parse_qsl(parsed.query, keep_blank_values=True))
        self.fault = self.owner.take_fault(self.command, self.path)
        if self.fault and self.fault.kind != "truncate":
            self._misbehave(self.fault)
            return
        try:
            self._authenticate()
            self._answer()
        except Refused as refusal:
            self._send(refusal.code, refusal.status())

    def _authenticate(self) -> None:
        if self.owner.token and self.headers.get("Authorization") != f"Bearer {self.owner.token}":
            raise Refused(401, "Unauthorized", "Unauthorized")

    def _misbehave(self, fault: Fault) -> None:
        if fault.kind == "hang":
            self.owner.released.wait(30)
        if fault.kind in {"reset", "hang"}:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(fault.status)
        for name, value in {"Content-Type": "application/json", **fault.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(fault.body)))
        self.end_headers()
        self.wfile.write(fault.body)

    def _send(self, code: int, obj: Any) -> None:
        data = json.dumps(obj).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.fault and self.fault.kind == "truncate":
            data = data[: len(data) // 2]
            self.close_connection = True
        self.wfile.write(data)

    def _answer(self) -> None:
        store = self.owner.store
        if document := discovery.document(store.resources, self.route):
            self._send(200, document)
            return
        where = PATH.match(self.route)
        if where is None:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        resource, namespace, name, sub = self._resource(where)
        self._log(resource, namespace, name, sub)
        if self.command == "GET" and name is None and self.query.get("watch") in {"1", "true"}:
            self._watch(resource, namespace)
        elif self.command == "GET" and name is None:
            self._list(resource, namespace)
        elif self.command == "GET":
            self._send(200, table.maybe(resource, self.headers, [store.get(resource, namespace, name)], single=True))
        else:
            self._write(resource, namespace, name, sub)

    def _resource(self, where: re.Match[str]) -> tuple[Resource, str | None, str | None, str]:
        group, version = where["group"] or "", where["core"] or where["version"]
        namespace, plural, name, sub = where["namespace"], where["plural"], where["name"], where["sub"] or ""
        if namespace and plural in {"status", "finalize"} and not name:
            plural, name, sub, namespace = "namespaces", namespace, plural, None
        resource = self.owner.store.resources.get((group, version, plural))
        if resource is None or (sub == "status" and not resource.status):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        if sub not in {"", "status", "binding", "eviction", "finalize"}:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        if resource.namespaced and namespace is None and (name or self.command == "POST"):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        return resource, namespace if resource.namespaced else None, name, sub

    def _log(self, resource: Resource, namespace: str | None, name: str | None, sub: str) -> None:
        verb = VERBS[self.command]
        if verb == "get" and name is None:
            verb = "watch" if self.query.get("watch") in {"1", "true"} else "list"
        if verb == "delete" and name is None:
            verb = "deletecollection"
        seen = Request(
            verb, resource.group, resource.plural, sub, namespace, len(self.body), self._manager(), self._agent()
        )
        self.owner.requests.append(seen)

    def _manager(self) -> str:
        return self.query.get("fieldManager") or self._agent()

    def _agent(self) -> str:
        return (self.headers.get("User-Agent") or "unknown").split("/")[0]

    def _selection(self, namespace: str | None) -> Query:
        return Query(namespace, self.query.get("labelSelector", ""), self.query.get("fieldSelector", ""))

    def _list(self, resource: Resource, namespace: str | None) -> None:
        store = self.owner.store
        start, version = 0, 0
        if token := self.query.get("continue"):
            version, start = (int(part) for part in token.split(":"))
            if version < store.compacted:
                raise gone("The provided continue parameter is too old")
        found, rv = store.list(resource, self._selection(namespace))
        limit = int(self.query.get("limit") or 0) or len(found)
        page = found[start : start + limit]
        meta: dict[str, Any] = {"resourceVersion": str(version or rv)}
        if (left := len(found) - start - len(page)) > 0:
            meta |= {"continue": f"{version or rv}:{start + limit}", "remainingItemCount": left}
        self._send(200, table.maybe(resource, self.headers, page, meta=meta))

    def _write(self, resource: Resource, namespace: str | None, name: str | None, sub: str) -> None:
        store = self.owner.store
        strict = self.query.get("fieldValidation") == "Strict"
        write = Write(self._manager(), sub if sub in {"status", "binding"} else "", strict, "dryRun" in self.query)
        if self.command == "DELETE":
            self._delete(resource, namespace, name)
        elif self.command == "POST" and sub == "binding":
            target = self._json()["target"]["name"]
            store.update(resource, namespace, name or "", lambda pod: _bound(pod, target), write)
            self._send(201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
        elif self.command == "POST" and sub == "eviction":
            store.delete(resource, namespace, name or "", self._json().get("deleteOptions") or {})
            self._send(201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
        elif self.command == "POST":
            self._send(201, store.create(resource, namespace, self._typed(resource), write))
        elif self.command == "PUT":
            body = self._typed(resource)
            if resource.custom and not body.get("metadata", {}).get("resourceVersion"):
                raise _no_version(resource, name or "")
            self._send(200, store.update(resource, namespace, name or "", lambda _: body, write))
        else:
            self._patch(resource, namespace, name or "", write)

    def _delete(self, resource: Resource, namespace: str | None, name: str | None) -> None:
        store = self.owner.store
        options = (self._json() if self.body else {}) | {
            k: v for k, v in self.query.items() if k == "gracePeriodSeconds"
        }
        if name is not None:
            self._send(200, store.delete(resource, namespace, name, options))
            return
        found, rv = store.list(resource, self._selection(namespace))
        for obj in found:
            store.delete(resource, obj["metadata"].get("namespace"), obj["metadata"]["name"], options)
        self._send(200, table.plain(resource, found, {"resourceVersion": str(rv)}))

    def _patch(self, resource: Resource, namespace: str | None, name: str, write: Write) -> None:
        kind = (self.headers.get("Content-Type") or "").split(";")[0]
        store, body = self.owner.store, self._json()
        if kind == "application/apply-patch+yaml":
            if not self.query.get("fieldManager"):
                raise bad_request(
                    "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
                )
            body.setdefault("metadata", {}).setdefault("name", name)
            obj, created = store.apply(resource, namespace, body, write, force=self.query.get("force") == "true")
            self._send(201 if created else 200, obj)
            return
        changes = {
            "application/json-patch+json": patches.json_patch,
            "application/merge-patch+json": patches.merge_patch,
            "application/strategic-merge-patch+json": patches.strategic_merge,
        }
        if kind not in changes or (kind.startswith("application/strategic") and resource.custom):
            raise Refused(415, "UnsupportedMediaType", f"the body of the request was in an unknown format - {kind}")
        self._send(200, store.update(resource, namespace, name, lambda obj: changes[kind](obj, body), write))

    def _json(self) -> Any:
        try:
            if self.body.startswith(protobuf.MAGIC):
                return protobuf.decoded(self.body)
            if "yaml" in (self.headers.get("Content-Type") or ""):
                return yaml.safe_load(self.body)
            return json.loads(self.body)
        except ValueError as error:
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error

    def _typed(self, resource: Resource) -> dict[str, Any]:
        body = self._json()
        if body.get("kind") not in {None, resource.kind} or body.get("apiVersion") not in {None, resource.api_version}:
            raise bad_request(f"the object provided is unrecognized (must be of type {resource.kind})")
        return {**body, "apiVersion": resource.api_version, "kind": resource.kind}

    def _watch(self, resource: Resource, namespace: str | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        timeout = float(self.query.get("timeoutSeconds") or 300)
        try:
            for event in self._events(resource, self._selection(namespace), timeout):
                data = json.dumps(event).encode() + b"\n"
                self.owner.watch_bytes += len(data)
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def _events(self, resource: Resource, query: Query, timeout: float) -> Iterator[dict[str, Any]]:
        store = self.owner.store
        since = self.query.get("resourceVersion", "")
        if since in {"", "0"}:
            found, version = store.list(resource, query)
            yield from ({"type": "ADDED", "object": table.row(resource, self.headers, obj)} for obj in found)
        else:
            version = int(since)
        waited = 0.0
        while waited < timeout and not self.owner.released.is_set():
            with store.changed:
                try:
                    events, version = store.events(resource, query, version)
                except Refused as refusal:
                    yield {"type": "ERROR", "object": refusal.status()}
                    return
                if not events:
                    step = min(BOOKMARK_EVERY_S, timeout - waited)
                    woken = store.changed.wait(step)
                    waited += 0 if woken else step
                    if woken:
                        continue
            yield from ({"type": kind, "object": table.row(resource, self.headers, obj)} for kind, obj in events)
            if not events and self.query.get("allowWatchBookmarks") == "true":
                meta = {"resourceVersion": str(version)}
                bookmark = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}
                yield {"type": "BOOKMARK", "object": bookmark}


def _bound(pod: dict[str, Any], node: str) -> dict[str, Any]:
    if pod["spec"].get("schedulingGates"):
        raise Refused(409, "Conflict", f"pod {pod['metadata']['name']} has non-empty .spec.schedulingGates")
    pod["spec"]["nodeName"] = node
    return pod


def _no_version(resource: Resource, name: str) -> Refused:
    what = f'{resource.plural}.{resource.group} "{name}" is invalid'
    message = f"{what}: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
    return Refused(422, "Invalid", message)


__all__ = ["FakeApiServer", "Fault", "Request", "not_found"]
