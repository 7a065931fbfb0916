"""Spans reach a collector over HTTP, name their parent, and a silent collector harms nobody."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fastapi.testclient import TestClient

from cluster.api.app import create
from cluster.clock import SystemClock
from cluster.tracing import QUEUE_MAX, Span, Tracer, new_trace, parent_of
from cluster.turn_spans import spans
from tests.cluster.api.platform import OPERATOR, running
from tests.cluster.test_moves import turn

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector():
    """A collector that keeps what it is sent."""
    kept = []

    class Door(BaseHTTPRequestHandler):
        def do_POST(self):
            kept.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", kept
    server.shutdown()


def spans_in(kept):
    return [span for _, body in kept for span in body["resourceSpans"][0]["scopeSpans"][0]["spans"]]


def test_a_request_is_a_child_of_its_caller_and_carries_route_and_status(collector, tmp_path):
    url, kept = collector
    tracer = Tracer(url)
    parts = replace(running(tmp_path).parts, tracer=tracer)
    client = TestClient(create(parts), headers={"Authorization": f"Bearer {OPERATOR}"})
    traced = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    assert client.get("/v1/claims/civil/justice:assistant", headers=traced).status_code == 200
    client.get("/livez")
    tracer.close()
    (span,) = spans_in(kept)
    assert kept[0][0] == "/v1/traces"
    assert (span["traceId"], span["parentSpanId"], span["kind"]) == (TRACE, PARENT, 2)
    found = {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}
    assert found["http.route"] == "/v1/claims/{claim_id}"
    assert found["http.response.status_code"] == "200"
    assert found["partage.request_id"] == TRACE


@pytest.mark.parametrize(
    "header",
    ["", "00-1-2-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{PARENT}-00", "x" * 5000],
)
def test_a_caller_that_names_no_valid_parent_begins_a_trace_of_our_own(header):
    assert parent_of(header) is None
    assert parent_of(f"00-{TRACE}-{PARENT}-01") == (TRACE, PARENT)


def test_a_silent_collector_costs_spans_and_nothing_else():
    tracer = Tracer("http://127.0.0.1:9")
    span = Span(name="work", trace=new_trace(), begin_ms=1, end_ms=2)
    began = SystemClock().monotonic_ms()
    tracer.record(*[span] * (3 * QUEUE_MAX))
    assert SystemClock().monotonic_ms() - began < 5_000
    tracer.close()
    assert tracer.dropped >= QUEUE_MAX


def test_a_turn_that_plans_nothing_leaves_no_span():
    assert spans(turn(observed_at_ms=1, decided_at_ms=2, domain=None), 10) == ()
