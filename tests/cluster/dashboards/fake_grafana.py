"""A small stateful Grafana on a free port: the part of its HTTP API that we use, with its refusals and odd answers."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

EDITOR, VIEWER = "glsa_editor", "glsa_viewer"
DEFAULT_ANNOTATION_LIMIT = 100


class State:
    """What this Grafana holds, and how it misbehaves."""

    def __init__(self, prefix=""):
        self.prefix = prefix
        self.folders = {}
        self.dashboards = {}
        self.annotations = []
        self.datasources = {"Prometheus": {"id": 1, "uid": "prom-1", "name": "Prometheus", "type": "prometheus"}}
        self.writes = 0
        self.requests = []
        self.bodies = []
        """``(path below /api, body)`` of every write."""
        self.fault = None
        """``(status, content type, body)`` given to every request."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing."""

    def do_GET(self):
        self._answer("GET")

    def do_POST(self):
        self._answer("POST")

    def _answer(self, method):
        state = self.server.state
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        parts = urlsplit(self.path)
        state.requests.append((method, parts.path))
        if state.fault:
            return self._send(*state.fault)
        if not parts.path.startswith(state.prefix + "/api/"):
            return self._send(200, "text/html", "<html>Grafana</html>")
        path = [unquote(piece) for piece in parts.path.removeprefix(state.prefix + "/api/").split("/")]
        if path == ["health"]:
            return self._json(200, {"database": "ok", "version": "13.0.0", "commit": "0"})
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (EDITOR, VIEWER):
            return self._json(401, {"message": "Invalid API key", "messageId": "api-key.invalid", "statusCode": 401})
        if method == "POST" and token == VIEWER:
            return self._json(403, {"message": "You'll need additional permissions to perform this action."})
        body = json.loads(raw) if raw and raw != b"null" else None
        if method == "POST":
            state.bodies.append(("/".join(path), body))
        route = ROUTES.get((method, tuple(path[: 2 if path[0] in ("dashboards", "datasources") else 1])))
        if route is None:
            return self._json(404, {"message": "Not found"})
        status, answer = route(state, path, parse_qs(parts.query), body)
        return self._json(status, answer)

    def _json(self, status, answer):
        self._send(status, "application/json", json.dumps(answer))

    def _send(self, status, kind, body):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status in (301, 302):
            self.send_header("Location", "/login")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def get_folder(state, path, _query, _body):
    folder = state.folders.get(path[1]) if len(path) > 1 else None
    if len(path) == 1:
        return 200, list(state.folders.values())
    return (200, folder) if folder else (404, {"message": "folder not found", "status": "not-found"})


def post_folder(state, _path, _query, body):
    if not body.get("title"):
        return 400, {"message": "folder title cannot be empty"}
    if body["uid"] in state.folders:
        return 409, {"message": "a folder with the same uid already exists"}
    state.writes += 1
    folder = {"id": len(state.folders) + 1, "uid": body["uid"], "title": body["title"], "version": 1}
    state.folders[body["uid"]] = folder
    return 200, folder


def get_datasource(state, path, _query, _body):
    if path[1] != "name":
        # Since version 13 the look-up by number is switched off.
        return 404, {"message": "Not found"}
    found = state.datasources.get(path[2])
    return (200, found) if found else (404, {"message": "Data source not found"})


def get_dashboard(state, path, _query, _body):
    found = state.dashboards.get(path[2])
    return (200, found) if found else (404, {"message": "Dashboard not found"})


def post_dashboard(state, path, _query, body):
    if path[1] != "db":
        return 404, {"message": "Not found"}
    content, folder = dict(body["dashboard"]), body.get("folderUid", "")
    if not content.get("title"):
        return 400, {"message": "Dashboard title cannot be empty", "status": "empty-name"}
    if len(content.get("uid") or "") > 40:
        return 400, {"message": "uid too long, max 40 characters"}
    if folder and folder not in state.folders:
        return 400, {"message": "folder not found", "status": "not-found"}
    before = state.dashboards.get(content["uid"])
    if before and not body.get("overwrite") and content.get("version") != before["meta"]["version"]:
        message = "The dashboard has been changed by someone else"
        return 412, {"message": message, "status": "version-mismatch"}
    state.writes += 1
    version = before["meta"]["version"] + 1 if before else 1
    number = before["dashboard"]["id"] if before else len(state.dashboards) + 1
    content.update(id=number, version=version)
    meta = {"folderUid": folder, "version": version, "provisioned": False}
    state.dashboards[content["uid"]] = {"dashboard": content, "meta": meta}
    answer = {"id": number, "uid": content["uid"], "status": "success", "version": version, "folderUid": folder}
    return 200, answer | {"title": content["title"], "url": f"/d/{content['uid']}/board"}


def get_annotations(state, _path, query, _body):
    wanted = set(query.get("tags", []))
    begin, end = int(query.get("from", ["0"])[0]), int(query.get("to", [str(2**62)])[0])
    limit = int(query.get("limit", [str(DEFAULT_ANNOTATION_LIMIT)])[0])
    found = [
        item
        for item in state.annotations
        if wanted <= set(item["tags"]) and item["time"] <= end and item["timeEnd"] >= begin
    ]
    return 200, sorted(found, key=lambda item: -item["time"])[:limit]


def post_annotation(state, _path, _query, body):
    if not body.get("text"):
        return 400, {"message": "Failed to save annotation"}
    state.writes += 1
    number = len(state.annotations) + 1
    item = {"id": number, "time": body["time"], "timeEnd": body.get("timeEnd") or body["time"]}
    state.annotations.append({**item, "text": body["text"], "tags": list(body["tags"] or [])})
    return 200, {"message": "Annotation added", "id": number}


ROUTES = {
    ("GET", ("folders",)): get_folder,
    ("POST", ("folders",)): post_folder,
    ("GET", ("datasources", "name")): get_datasource,
    ("GET", ("dashboards", "uid")): get_dashboard,
    ("POST", ("dashboards", "db")): post_dashboard,
    ("GET", ("annotations",)): get_annotations,
    ("POST", ("annotations",)): post_annotation,
}


@contextmanager
def running(prefix=""):
    """Serve a fresh Grafana below the path prefix; yield its state and address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.state = State(prefix)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.state, f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
