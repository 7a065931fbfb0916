"""A Ray dashboard of the test's own: Serve applications and nodes, and the ways in which they go wrong."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeRay:
    """Holds the configuration that was put; every replica of it runs."""

    def __init__(self) -> None:
        self.puts: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.nodes: list[dict[str, Any]] = []
        self.refuse: int = 0
        """Status to answer everything with; 0 for none."""
        self.apply_half = False
        """Whether the controller dies after the first half of the applications."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, answer = owner.handle(self.command, self.path, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = answer  # noqa: N815 - the base class names them so

            def log_message(self, *args: Any) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def handle(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.refuse:
            return self.refuse, {"error": "the global control store is recovering"}
        if method == "PUT":
            self.puts.append(body)
            listed = body["applications"]
            kept = listed[: len(listed) // 2] if self.apply_half else listed
            self.config = {**body, "applications": kept}
            return 200, {}
        if path.startswith("/api/v0/nodes"):
            return 200, {"data": {"result": {"result": self.nodes}}}
        return 200, {"applications": {app["name"]: _shown(app) for app in self.config.get("applications", ())}}

    def die(self) -> None:
        """Lose everything, as a head without a fault-tolerant store does."""
        self.config = {}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _shown(app: dict[str, Any]) -> dict[str, Any]:
    deployments = {
        each["name"]: {
            "target_num_replicas": each["num_replicas"],
            "replicas": [{"state": "RUNNING"}] * each["num_replicas"],
        }
        for each in app["deployments"]
    }
    return {"status": "RUNNING", "message": "", "deployments": deployments, "deployed_app_config": app}
