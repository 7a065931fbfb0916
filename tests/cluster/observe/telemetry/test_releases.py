"""A person's word on a GPU reaches the node's agent, whoever leads and however often it restarts in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cluster.journal.registry import SqliteRegistry
from cluster.journal.store import Store
from cluster.journal.trust import TRUSTED, Trust
from cluster.observe.telemetry.daemon import Daemon
from cluster.observe.telemetry.observer import TelemetryObserver
from cluster.observe.telemetry.receiver import ANY_NODE, Receiver, digest_of, routes
from cluster.observe.telemetry.saved import load, save
from cluster.observe.telemetry.sender import Sender
from cluster.observe.telemetry.store import TelemetryStore
from policies.model.inventory import DeviceHealth
from policies.model.snapshot import Snapshot
from policies.model.units import DeviceId
from tests.cluster.observe.telemetry.conftest import Rig, SteppedClock
from tests.cluster.observe.telemetry.fake_node import FakeNode, h100

TOKEN = "agent-secret"
GPU = DeviceId(h100().uuid)
XID = 79
ALL = 0xFFFF_FFFF


class Nothing:
    """A platform on which nothing runs."""

    def __init__(self, clock: SteppedClock) -> None:
        self.clock = clock

    def observe(self) -> Snapshot:
        return Snapshot(generation=1, observed_at_ms=self.clock.now)


class Switch(httpx.BaseTransport):
    """The way from the agent to whichever control plane runs now."""

    def __init__(self) -> None:
        self.to: TestClient | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.to is None:
            raise httpx.ConnectError("nobody listens", request=request)
        answer = self.to.post(request.url.path, content=request.read(), headers=dict(request.headers))
        return httpx.Response(answer.status_code, content=answer.content, headers=dict(answer.headers))


class ControlPlane:
    """One life of a control plane: a fresh store, over a journal and a folder that outlive it."""

    def __init__(self, journal: Store, folder: Path, clock: SteppedClock) -> None:
        self.journal, self.clock = journal, clock
        self.registry = SqliteRegistry(journal, clock)
        self.store = TelemetryStore(clock)
        path = folder / "verdicts.jsonl"
        self.store.restore(load(path))
        self.observer = TelemetryObserver(Nothing(clock), self.store, dict, keep=lambda memories: save(path, memories))
        self.observer.follow(Trust(journal, self.registry))
        app = FastAPI()
        app.include_router(routes(Receiver(store=self.store, clock=clock, tokens={digest_of(TOKEN): ANY_NODE})))
        self.http = TestClient(app)

    def release(self) -> None:
        """Do what the API does."""
        before = self.store.verdict(GPU)
        assert before is not None
        self.store.release(GPU)
        self.registry.by("person").note(TRUSTED, GPU, reason="reseated", lifted=before.reason)

    def pending(self) -> dict[DeviceId, str]:
        return Trust(self.journal, self.registry).pending()


class Site:
    """A node with its agent, and the control planes that it reports to one after another."""

    def __init__(self, rig: Rig, folder: Path, journal: Store) -> None:
        self.rig, self.folder, self.journal, self.switch = rig, folder, journal, Switch()
        rig.show(FakeNode(gpus=[h100()]))
        self.own = TelemetryStore(rig.clock)
        client = httpx.Client(
            base_url="http://plane", transport=self.switch, headers={"authorization": f"Bearer {TOKEN}"}
        )
        self.daemon = Daemon(rig.agent(), self.own, rig.clock, Sender(client=client, clock=rig.clock))

    def started(self, folder: str = "home") -> ControlPlane:
        (self.folder / folder).mkdir(exist_ok=True)
        made = ControlPlane(self.journal, self.folder / folder, self.rig.clock)
        self.switch.to = made.http
        return made

    def round(self, plane: ControlPlane | None = None) -> None:
        # Longer than the sender's longest pause after a control plane that was away.
        self.rig.clock.sleep_ms(31_000)
        self.rig.changed()
        self.daemon.round()
        if plane is not None:
            plane.observer.observe()

    def breaks(self, xid: int = XID) -> None:
        self.rig.node.events.append((0, 8, xid, ALL))

    def health(self) -> DeviceHealth:
        (verdict,) = self.own.verdicts()
        return verdict.health


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    store = Store(path, busy_timeout_ms=1_000)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def site(object_rig: Rig, tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path / "journal.db") as journal:
        yield Site(object_rig, tmp_path, journal)


def released_and_gone(site: Site) -> ControlPlane:
    """A control plane that takes a release and ends before the agent reports again."""
    first = site.started()
    site.breaks()
    site.round(first)
    assert site.health() is DeviceHealth.QUARANTINED
    site.switch.to = None
    first.release()
    return first


@pytest.mark.parametrize("folder", ["home", "elsewhere"], ids=["restarted", "another one takes over"])
def test_a_release_reaches_the_agent_although_the_control_plane_ended_before_it_could_say_so(
    site: Site, folder: str
) -> None:
    released_and_gone(site)
    second = site.started(folder)
    site.round(second)
    assert site.health() is DeviceHealth.SUSPECT, "the agent follows"
    verdict = second.store.verdict(GPU)
    assert verdict is not None
    assert verdict.health is not DeviceHealth.QUARANTINED
    site.round(second)
    site.round(second)
    assert second.pending() == {}, "and it is over, on record"
    assert site.started(folder).store.released() == frozenset()


def test_a_release_that_ended_is_not_told_again_after_a_restart(site: Site) -> None:
    first = released_and_gone(site)
    site.switch.to = first.http
    site.round(first)
    site.round(first)
    assert first.pending() == {}
    site.breaks()
    site.round(first)
    assert site.health() is DeviceHealth.QUARANTINED
    second = site.started()
    site.round(second)
    site.round(second)
    assert site.health() is DeviceHealth.QUARANTINED, "the new sign stands"


def test_another_fault_that_came_while_nobody_led_is_not_lifted_by_the_old_release(site: Site) -> None:
    released_and_gone(site)
    # What the agent holds against the device by then is worse, and is not what the person looked at.
    site.breaks(64)
    site.round()
    second = site.started("elsewhere")
    site.round(second)
    assert site.health() is not DeviceHealth.SUSPECT
    verdict = second.store.verdict(GPU)
    assert verdict is not None
    assert verdict.reason == "xid_64"
    assert second.pending() == {}
