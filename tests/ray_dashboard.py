"""A fake of Ray's dashboard as far as this project calls it: a real HTTP server over a small Serve controller.

It is held to ``tests/ray_contract.py``, as a real head is. Replicas start and stop when ``settle`` is called.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "a-token-of-the-fake"
SCALE = re.compile(r"/api/v1/applications/([^/]+)/deployments/([^/]+)/scale")


@dataclass
class FakeApp:
    """One application of the fake controller."""

    config: dict[str, Any]
    target: int
    replicas: dict[str, str] = field(default_factory=dict)
    """State by replica id."""
    status: str = "DEPLOYING"
    message: str = ""


@dataclass
class FakeRay:
    """The controller's state. Change it from tests; everything else comes over HTTP."""

    apps: dict[str, FakeApp] = field(default_factory=dict)
    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Labels by node id."""
    down: bool = False
    """Whether every request fails with 503."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    stuck: set[str] = field(default_factory=set)
    """Applications whose replicas never run."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Address by node id, where nodes have one of their own."""
    load: Callable[[], dict[str, Any]] | None = None
    """What the gateway behind the same address reports; None if there is none."""
    url: str = ""
    _count: int = 0

    def settle(self) -> None:
        """Let everything that was begun come to its end."""
        for name in [name for name, app in self.apps.items() if app.status == "DELETING"]:
            del self.apps[name]
        for name, app in self.apps.items():
            self._adjust(app)
            if name not in self.stuck:
                app.replicas = dict.fromkeys(app.replicas, "RUNNING")
                app.status = "RUNNING"

    def put(self, config: dict[str, Any]) -> None:
        """Replace the whole configuration, as the controller does: what is left out goes."""
        wanted = {app["name"]: app for app in config["applications"]}
        for name, app in self.apps.items():
            if name not in wanted:
                app.status = "DELETING"
        for name, app in wanted.items():
            target = app["deployments"][0].get("num_replicas", 1)
            known = self.apps.get(name)
            if known is None or known.status == "DELETING" or _code(known.config) != _code(app):
                self.apps[name] = known = FakeApp(config=app, target=target)
            known.config, known.target = app, target
            self._adjust(known)

    def scale(self, app: str, deployment: str, target: int) -> int:
        """Aim at another number of replicas and return the HTTP status."""
        known = self.apps.get(app)
        if known is None or known.config["deployments"][0]["name"] != deployment:
            return 404
        if not known.config.get("external_scaler_enabled"):
            return 412
        if target < 0:
            return 400
        known.target = target
        self._adjust(known)
        return 200

    def seen(self) -> dict[str, Any]:
        """Return what GET of the applications says."""
        return {"applications": {name: _seen(app) for name, app in self.apps.items()}}

    def _adjust(self, app: FakeApp) -> None:
        while len(app.replicas) < app.target:
            self._count += 1
            app.replicas[f"r{self._count}"] = "STARTING"
        while len(app.replicas) > app.target:
            app.replicas.popitem()


def _code(app: dict[str, Any]) -> tuple[Any, ...]:
    """Return what makes the controller start an application's replicas anew when it changes."""
    options = [deployment.get("ray_actor_options") for deployment in app["deployments"]]
    return app["import_path"], json.dumps(app.get("args"), sort_keys=True), json.dumps(options, sort_keys=True)


def _seen(app: FakeApp) -> dict[str, Any]:
    name = app.config["deployments"][0]["name"]
    return {
        "status": app.status,
        "message": app.message,
        "deployed_app_config": app.config,
        "deployments": {
            name: {
                "message": "",
                "target_num_replicas": app.target,
                "replicas": [{"replica_id": each, "state": state} for each, state in app.replicas.items()],
            }
        },
    }


@contextmanager
def running(ray: FakeRay) -> Iterator[FakeRay]:
    """Serve the fake on the loopback interface while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"ray": ray}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ray.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield ray
    finally:
        server.shutdown()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """The HTTP side of one fake."""

    ray: FakeRay
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self._admitted():
            if path == "/api/serve/applications/":
                self._answer(200, self.ray.seen())
            elif path == "/api/v0/nodes":
                listed = [
                    {"node_id": n, "state": "ALIVE", "labels": labels, "node_ip": self.ray.addresses.get(n, "")}
                    for n, labels in self.ray.nodes.items()
                ]
                self._answer(200, {"data": {"result": {"result": listed}}})
            elif path == "/-/partage/load" and self.ray.load is not None:
                self._answer(200, self.ray.load())
            else:
                self._answer(404, {})

    def do_PUT(self) -> None:
        if self._admitted():
            self.ray.put(self._body())
            self._answer(200, None)

    def do_POST(self) -> None:
        if self._admitted():
            found = SCALE.fullmatch(self.path)
            status = self.ray.scale(*found.groups(), self._body()["target_num_replicas"]) if found else 404
            self._answer(status, {"message": "" if status == 200 else "refused"})

    def _admitted(self) -> bool:
        self.ray.requests.append((self.command, self.path.partition("?")[0]))
        given = self.headers.get("Authorization")
        if self.ray.down:
            self._answer(503, {"message": "the controller is away"})
        elif given is None:
            self._answer(401, {"message": "no token"})
        elif given != f"Bearer {TOKEN}":
            self._answer(403, {"message": "wrong token"})
        else:
            return True
        return False

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status: int, body: Any) -> None:
        payload = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if payload else "text/plain")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""
