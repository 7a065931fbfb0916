"""Reports reach the control plane once, by those who may report, and never hold up the agent."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cluster.observe.telemetry.agent import Agent
from cluster.observe.telemetry.daemon import Daemon, serve
from cluster.observe.telemetry.receiver import ANY_NODE, MAX_BODY, Receiver, routes
from cluster.observe.telemetry.sender import PATH, Sender
from cluster.observe.telemetry.store import TelemetryStore
from policies.model.codec import to_json
from policies.model.inventory import DeviceHealth
from policies.model.telemetry import NodeReport
from policies.model.units import NodeId
from tests.cluster.observe.telemetry.conftest import NODE, Rig, SteppedClock
from tests.cluster.observe.telemetry.fake_node import FakeNode, h100
from tests.cluster.observe.telemetry.test_store import report, xid

TOKEN, OTHER = "agent-secret", "other-secret"


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class ControlPlane:
    """A receiver behind HTTP, on a clock of its own."""

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.store = TelemetryStore(self.clock)
        tokens = {hashed(TOKEN): NODE, hashed(OTHER): ANY_NODE}
        app = FastAPI()
        app.include_router(routes(Receiver(store=self.store, clock=self.clock, tokens=tokens)))
        self.http = TestClient(app)

    def post(self, body: bytes | str, token: str = TOKEN) -> httpx.Response:
        self.clock.now += 1_000
        return self.http.post(PATH, content=body, headers={"authorization": f"Bearer {token}"})

    def sender(self, token: str = TOKEN) -> Sender:
        self.http.headers["authorization"] = f"Bearer {token}"
        return Sender(client=self.http, clock=self.clock)  # type: ignore[arg-type] # a client of the same interface


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane()


def test_a_report_is_taken_and_acknowledged(plane: ControlPlane) -> None:
    answer = plane.post(to_json(report(1, xid(3))))
    assert answer.status_code == 200
    assert answer.json() == {"sequence": 1, "event_sequence": 3, "duplicate": False, "released": []}
    assert plane.store.devices()[0].last_xid == 48


def test_nobody_reports_without_a_token(plane: ControlPlane) -> None:
    for token in ("", "wrong", TOKEN + "x"):
        answer = plane.post(to_json(report(1)), token)
        assert answer.status_code == 401
        assert answer.json()["code"] == "token_unknown"
    assert plane.store.devices() == ()


def test_a_node_cannot_speak_for_another(plane: ControlPlane) -> None:
    foreign = to_json(replace(report(1), node=NodeId("node-2")))
    assert plane.post(foreign).status_code == 403
    assert plane.post(foreign, OTHER).status_code == 200, "a secret for all nodes may"


@pytest.mark.parametrize("body", ["", "{", "[]", '{"node": 1}', '{"node":"node-1","boot":"a"}', b"\xff\xfe\x3d\xd8"])
def test_what_is_no_report_is_refused_and_changes_nothing(plane: ControlPlane, body: str | bytes) -> None:
    answer = plane.post(body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert plane.store.devices() == ()


def test_a_report_that_is_too_large_is_refused(plane: ControlPlane) -> None:
    assert plane.post(b" " * (MAX_BODY + 1)).status_code == 413


def test_a_node_that_reports_too_often_is_told_to_wait(plane: ControlPlane) -> None:
    plane.post(to_json(report(1)))
    plane.clock.now -= 1_000
    answer = plane.post(to_json(report(2)))
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"


def test_the_sender_waits_as_long_as_it_is_asked_to(plane: ControlPlane) -> None:
    sender = plane.sender()
    sender.offer(report(1))
    assert sender.flush() == 0
    sender.offer(report(2))
    assert sender.flush() is None
    assert sender.counts.refused == 1
    plane.clock.now += 500
    assert sender.flush() is None
    assert sender.counts.refused == 1, "it did not even ask"
    plane.clock.now += 600
    assert sender.flush() == 0
    assert plane.store.lost_reports() == {NODE: 0}


class Down:
    """A control plane that answers with the scripted results, one after another."""

    def __init__(self, *results: httpx.Response | Exception) -> None:
        self.results = list(results)
        self.bodies: list[bytes] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.read())
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


def sender_to(down: Down, clock: SteppedClock) -> Sender:
    client = httpx.Client(base_url="http://control-plane", transport=httpx.MockTransport(down))
    return Sender(client=client, clock=clock)


OK = {"sequence": 9, "event_sequence": 4}


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("reset"),
        httpx.Response(500, text="<html>"),
        httpx.Response(503, headers={"retry-after": "3"}),
        httpx.Response(200, text="<html>login</html>"),
        httpx.Response(200, json={"hello": 1}),
    ],
)
def test_a_control_plane_in_trouble_is_asked_again_later_with_the_newest_report(
    failure: httpx.Response | Exception,
) -> None:
    clock = SteppedClock()
    down = Down(failure, httpx.Response(200, json=OK))
    sender = sender_to(down, clock)
    sender.offer(report(1))
    assert sender.flush() is None
    assert sender.problem
    sender.offer(report(2))
    assert sender.flush() is None
    assert len(down.bodies) == 1, "it waits before it asks again"
    clock.now += 31_000
    assert sender.flush() == 4
    assert sender.problem == ""
    assert b'"sequence":2' in down.bodies[1]
    assert sender.counts.replaced == 1


def test_pauses_grow_to_a_bound() -> None:
    clock = SteppedClock()
    down = Down(*[httpx.Response(500)] * 200)
    sender = sender_to(down, clock)
    for number in range(600):
        sender.offer(report(number + 1))
        sender.flush()
        clock.now += 1_000
    assert 600 / 31 - 2 <= len(down.bodies) <= 600 / 30 + 6


def test_events_are_repeated_until_the_control_plane_has_them(rig: Rig) -> None:
    plane = ControlPlane()
    rig.show(FakeNode(gpus=[h100()]))
    agent = rig.agent()
    down = Down(httpx.ConnectError("refused"))
    store = TelemetryStore(rig.clock)
    daemon = Daemon(agent, store, rig.clock, sender_to(down, rig.clock))
    rig.node.events.append((0, 8, 79, 0xFFFF_FFFF))
    rig.changed()
    daemon.round()
    assert [event.code for event in agent.look().events] == [79]
    connected = Daemon(agent, TelemetryStore(rig.clock), rig.clock, plane.sender())
    connected.round()
    assert plane.store.devices()[0].last_xid == 79
    assert agent.look().events == ()


def test_a_release_reaches_the_agent_so_that_no_later_control_plane_takes_the_old_verdict_over(rig: Rig) -> None:
    plane = ControlPlane()
    rig.show(FakeNode(gpus=[h100()]))
    own = TelemetryStore(rig.clock)
    daemon = Daemon(rig.agent(), own, rig.clock, plane.sender())
    rig.node.events.append((0, 8, 79, 0xFFFF_FFFF))
    rig.changed()
    daemon.round()
    (gpu,) = [verdict.device for verdict in own.verdicts()]
    assert own.verdicts()[0].health is DeviceHealth.QUARANTINED
    rig.clock.sleep_ms(1_000)
    plane.store.release(gpu)
    plane.clock.now += 1_000
    rig.clock.sleep_ms(1_000)
    daemon.round()
    assert own.verdicts()[0].reason == "released"
    successor = ControlPlane()
    rig.clock.sleep_ms(1_000)
    Daemon(rig.agent(), own, rig.clock, successor.sender()).round()
    assert successor.store.verdict(gpu).health is not DeviceHealth.QUARANTINED


def test_the_node_serves_its_metrics_and_says_when_only_a_restart_helps(rig: Rig) -> None:
    rig.show(FakeNode(gpus=[h100()]))
    answers = _served(rig, rig.agent(), ("/metrics", "/healthz", "/else"))
    assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert "DCGM_FI_DEV_POWER_USAGE" in answers[0].text
    assert answers[0].headers["content-type"].startswith("text/plain"), "nobody asked for OpenMetrics"
    rig.show(FakeNode(gpus=[h100()], init_code=999))
    (broken,) = _served(rig, rig.agent(), ("/healthz",))
    assert broken.status_code == 503


def _served(rig: Rig, agent: Agent, paths: tuple[str, ...]) -> list[httpx.Response]:
    store = TelemetryStore(rig.clock)
    daemon = Daemon(agent, store, rig.clock)
    daemon.round()
    server = serve(daemon, store, rig.clock, ("127.0.0.1", 0))
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        return [httpx.get(base + path, timeout=10) for path in paths]
    finally:
        server.shutdown()
        server.server_close()


def test_a_daemon_in_a_thread_looks_until_it_is_stopped(rig: Rig) -> None:
    rig.show(FakeNode(gpus=[h100()]))
    store = TelemetryStore(rig.clock)
    daemon = Daemon(rig.agent(), store, rig.clock)
    daemon.start()
    daemon.stop()
    assert len(store.devices()) == 1


def test_a_report_survives_the_journey(rig: Rig) -> None:
    rig.show(FakeNode(gpus=[h100(0), h100(1)]))
    agent = rig.agent()
    agent.look()
    sent = rig.later(agent)
    plane = ControlPlane()
    assert plane.post(to_json(sent)).status_code == 200
    assert [seen.sample for seen in plane.store.devices()] == list(sent.samples)
    assert isinstance(sent, NodeReport)
