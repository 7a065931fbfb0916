"""The door to a drill's platform: passes every request on, and notes who asked for what and when."""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cluster.ports import Clock

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
BODY_BYTES = 4_194_304
"""Largest request that is passed on."""
TIMEOUT_S = 60.0
RESTART_PATH = "/-/drill/restart"
DIRECTOR = "X-Drill-Director"
"""Requests with this header are the drill's own and are not noted."""


@dataclass(frozen=True, slots=True)
class Noted:
    """One request of the trainee."""

    at_ms: int
    method: str
    path: str
    status: int


class Recorder:
    """A reverse proxy on a free port of this machine."""

    def __init__(self, port: int, clock: Clock) -> None:
        self.notes: list[Noted] = []
        self.is_down = False
        """While true, nothing answers, as if the process behind were gone."""
        self._clock, self._port = clock, port
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.address = ("127.0.0.1", self._server.server_port)

    def start(self) -> None:
        """Begin to answer."""
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def note(self, method: str, path: str, status: int) -> None:
        """Remember a request."""
        self.notes.append(Noted(self._clock.now_ms(), method, path, status))

    def restart(self) -> None:
        """Answer again: the trainee started the control plane."""
        self.is_down = False
        self.note("POST", RESTART_PATH, http.client.NO_CONTENT)

    def upstream(self) -> http.client.HTTPConnection:
        """Return a connection to the control plane behind."""
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)


def passed_on(answer: http.client.HTTPResponse) -> list[tuple[str, str]]:
    """Return the headers of an answer that belong to its content, not to the connection."""
    return [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]


def _handler(recorder: Recorder) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library names it so
            """Say nothing."""

        def _pass(self) -> None:
            if self.path == RESTART_PATH:
                recorder.restart()
                self.send_response(204)
                self.end_headers()
                return
            if recorder.is_down and DIRECTOR not in self.headers:
                recorder.note(self.command, self.path, 0)
                self.close_connection = True
                return
            self._forward()

        def _forward(self) -> None:
            length = min(int(self.headers.get("Content-Length") or 0), BODY_BYTES)
            upstream = recorder.upstream()
            try:
                upstream.request(self.command, self.path, self.rfile.read(length), dict(self.headers))
                answer = upstream.getresponse()
                if DIRECTOR not in self.headers:
                    recorder.note(self.command, self.path, answer.status)
                self.send_response(answer.status)
                for name, value in passed_on(answer):
                    self.send_header(name, value)
                self.end_headers()
                while piece := answer.read1(65_536):
                    self.wfile.write(piece)
            except OSError:
                self.close_connection = True
            finally:
                upstream.close()

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass  # noqa: N815  # the library names them so

    return Handler
