"""What telemetry thinks of a device is for operators, and their word on it is on record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from cluster.api.app import create
from cluster.observe.telemetry.receiver import ANY_NODE, Receiver, digest_of
from cluster.observe.telemetry.sender import PATH
from cluster.observe.telemetry.store import TelemetryStore
from policies.model.codec import to_json
from tests.cluster.api.platform import Platform
from tests.cluster.observe.telemetry.test_store import GPU, report, xid

AGENT = "agent-token"


@pytest.fixture
def watched(platform: Platform) -> Platform:
    """The platform with one real GPU, on which an XID was seen."""
    store = TelemetryStore(platform.clock)
    store.accept(report(1, xid(1)))
    receiver = Receiver(store=store, clock=platform.clock, tokens={digest_of(AGENT): ANY_NODE})
    parts = replace(platform.parts, readings=store, telemetry=receiver)
    return replace(platform, parts=parts, client=TestClient(create(parts), raise_server_exceptions=False))


def test_an_operator_reads_why_a_device_is_out_of_use(watched: Platform) -> None:
    (verdict,) = watched.call("GET", "/v1/verdicts").json()
    assert verdict["device"] == GPU
    assert (verdict["health"], verdict["reason"], verdict["remedy"]) == ("quarantined", "xid_48", "reset")


def test_an_operator_releases_a_device_and_the_reason_is_on_record(watched: Platform) -> None:
    answer = watched.call("POST", f"/v1/devices/{GPU}/release", json={"reason": "reset and tested"})
    assert answer.status_code == 200
    assert answer.json()["health"] == "suspect"
    events = watched.call("GET", "/v1/events").text
    assert "device.trusted" in events
    assert "xid_48" in events, "and what was said against it"
    assert "reset and tested" in events


def test_a_release_needs_a_reason_and_a_known_device(watched: Platform) -> None:
    assert watched.call("POST", f"/v1/devices/{GPU}/release", json={}).status_code == 422
    assert watched.call("POST", "/v1/devices/GPU-gone/release", json={"reason": "x"}).status_code == 404


def test_a_tenant_neither_reads_verdicts_nor_releases_devices(watched: Platform) -> None:
    key = watched.key("civil/justice")
    assert watched.call("GET", "/v1/verdicts", key).status_code == 403
    assert watched.call("POST", f"/v1/devices/{GPU}/release", key, json={"reason": "x"}).status_code == 403
    assert watched.call("POST", PATH, key, content=to_json(report(2))).status_code == 401


def test_where_devices_are_simulated_there_are_no_verdicts(platform: Platform) -> None:
    assert platform.call("GET", "/v1/verdicts").json() == []
    assert platform.call("POST", f"/v1/devices/{GPU}/release", json={"reason": "x"}).status_code == 404


def test_an_agent_reports_through_the_api(watched: Platform) -> None:
    watched.clock.sleep_ms(1_000)
    answer = watched.call("POST", PATH, AGENT, content=to_json(report(2)))
    assert answer.status_code == 200, answer.text
    assert answer.json()["sequence"] == 2
