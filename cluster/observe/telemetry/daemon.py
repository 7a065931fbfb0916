"""The agent at work: a round a second, into the store of this process and, on other nodes, to the control plane."""

from __future__ import annotations

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from cluster.observe.telemetry.agent import Agent
from cluster.observe.telemetry.export import Names, answer
from cluster.observe.telemetry.sender import Sender
from cluster.observe.telemetry.store import TelemetryStore
from cluster.ports import Clock
from policies.model.inventory import DeviceHealth
from policies.model.telemetry import HealthVerdict

ROUND_MS = 1_000


class Daemon:
    """Looks once a second until stopped. ``start`` runs it in a thread; ``run`` in the caller's."""

    def __init__(self, agent: Agent, store: TelemetryStore, clock: Clock, sender: Sender | None = None) -> None:
        self._agent = agent
        self._store = store
        self._clock = clock
        self._sender = sender
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def healthy(self) -> bool:
        """Whether this process can still reach the driver; if not, only a restart of it helps."""
        return not self._agent.restart_needed

    def round(self) -> None:
        """Look once and pass on what was seen. Events repeat until the last one down the line has them."""
        report = self._agent.look()
        acknowledged = self._store.accept(report).event_sequence
        if self._sender is not None:
            self._sender.offer(replace(report, verdicts=_unhealthy(self._store)))
            answer = self._sender.flush()
            if answer is None:
                return
            acknowledged = answer
            for gpu in self._sender.released:
                self._store.release(gpu)
        self._agent.acknowledged(acknowledged)

    def run(self) -> None:
        """Take rounds until stopped, one a second by the monotonic clock; a late round is not made up for."""
        while not self._stopping.is_set():
            began_ms = self._clock.monotonic_ms()
            self.round()
            rest_ms = ROUND_MS - (self._clock.monotonic_ms() - began_ms)
            self._stopping.wait(max(rest_ms, 0) / 1000)
        self._agent.close()

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="telemetry", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the round under way, and wait for it."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10)


def _unhealthy(store: TelemetryStore) -> tuple[HealthVerdict, ...]:
    return tuple(verdict for verdict in store.verdicts() if verdict.health is not DeviceHealth.HEALTHY)


def serve(daemon: Daemon, store: TelemetryStore, clock: Clock, address: tuple[str, int]) -> ThreadingHTTPServer:
    """Return a server, already serving in a thread, of ``/healthz`` and ``/metrics`` of this node."""

    class Handler(BaseHTTPRequestHandler):
        timeout: ClassVar[int] = 10

        def do_GET(self) -> None:
            if self.path == "/metrics":
                body, kind = answer(store, clock, Names.OWN_AND_DCGM, self.headers.get("accept", ""))
                self._answer(200, kind, body)
            elif self.path == "/healthz":
                body = b"ok\n" if daemon.healthy else b"the driver answers only to a new process\n"
                self._answer(200 if daemon.healthy else 503, "text/plain; charset=utf-8", body)
            else:
                self._answer(404, "text/plain; charset=utf-8", b"try /metrics or /healthz\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Keep quiet: probes come every few seconds."""

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(address, Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="telemetry-http", daemon=True).start()
    return server
