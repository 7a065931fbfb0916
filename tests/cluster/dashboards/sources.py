"""What Prometheus scrapes in the test of the panels: the real metrics code of all three places, kept busy."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import pynvml

from cluster.observe.telemetry.export import exposition
from cluster.observe.telemetry.store import TelemetryStore
from policies.model.telemetry import GroupShare, WorkerHolding
from policies.model.units import ClaimId, DeviceId, GroupId, SecurityDomain, TenantId, WorkerId
from serving.gateway.metrics import Metrics
from serving.ledger import UsageRecord
from tests.cluster.observe.telemetry.conftest import Rig, load
from tests.cluster.observe.telemetry.fake_library import FakeLibrary
from tests.cluster.observe.telemetry.fake_node import FakeNode, h100


@contextmanager
def telemetry():
    """Yield what the telemetry of a node with two GPUs exports, one second later at each call."""
    try:
        rig = Rig("object", _install)
        gpus = [h100(number, power_mw=400_000, used_mib=40_000) for number in range(2)]
        rig.show(FakeNode(gpus=gpus))
        store, agent = TelemetryStore(rig.clock), rig.agent()
        devices = tuple(DeviceId(gpu.uuid) for gpu in gpus)
        share = GroupShare(
            group=GroupId("g"),
            claim=ClaimId("civil/justice:assistant"),
            tenant=TenantId("civil/justice"),
            gpu_millis=1000,
            devices=devices,
        )
        holding = WorkerHolding(
            worker=WorkerId("w"), domain=SecurityDomain.CIVIL, devices=devices, root_pid=4_900_000, groups=(share,)
        )
        store.hold((holding,))
        store.accept(agent.look())

        def export():
            store.accept(rig.later(agent))
            return exposition(store, rig.clock), "application/openmetrics-text; version=1.0.0; charset=utf-8"

        yield export
    finally:
        load(None)


def _install(node):
    if not isinstance(pynvml.nvmlLib, FakeLibrary) or pynvml.nvmlLib.node is not node:
        load(FakeLibrary(node))


def gateway():
    """Return what the gateway of the civil domain exports after a few more requests at each call."""
    metrics, number = Metrics("civil"), count()

    def export():
        for error, status in (("", 200), ("", 200), ("rate_limit_exceeded", 429)):
            record = UsageRecord(
                at_ms=next(number),
                request_id="r",
                tenant="civil/justice",
                key_prefix="pk",
                operation="chat",
                model="smollm2-135m-instruct",
                variant="q8",
                status=status,
                error=error,
                prompt_tokens=0 if error else 100,
                completion_tokens=0 if error else 20,
                first_ms=0 if error else 180,
                total_ms=900,
                gpu_ms=500,
            )
            metrics.observe(record, is_stream=True, class_name="standard")
        text = metrics.exposition([("standard", 2)], [("civil/justice:assistant", 3)])
        return text, "text/plain; version=0.0.4; charset=utf-8"

    return export


@contextmanager
def served(exports):
    """Serve each export below its name; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body, kind = exports[self.path.strip("/")]()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
