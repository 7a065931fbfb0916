"""Bringing up and taking down, as far as it goes without Ray."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.clock import SystemClock
from cluster.embedded.clusters import SECRETS, ensure_secrets, start_head
from cluster.embedded.errors import AnotherIsRunning, NotOurs, OlderWorkersRun, PortTaken
from cluster.embedded.files import ensure_token, write_whole
from cluster.embedded.network import PortsExhausted, free_ports, is_free
from cluster.embedded.nodes import Machine, head, machine, worker
from cluster.embedded.platform import bring_up, take_down
from cluster.embedded.processes import ProcessSpec, is_alive, records, start
from cluster.embedded.progress import Lines, Stopwatch
from cluster.settings import from_environment
from policies.model.units import DeviceId, SecurityDomain

CLOCK = SystemClock()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    made = machine(from_environment({"PARTAGE_HOME": str(tmp_path / "home"), "PARTAGE_CACHE": str(tmp_path / "cache")}))
    yield made
    take_down(made.settings, lambda _: None)


def quiet(here: Machine, name: str = "quiet") -> None:
    start(here.processes, ProcessSpec(name=name, module="tests.pretended_node"), {}, CLOCK)


def test_a_port_that_another_program_uses_is_named_with_the_setting_that_changes_it(here: Machine) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = from_environment({"PARTAGE_HOME": str(here.settings.home), "PARTAGE_API_PORT": str(port)})
        with pytest.raises(PortTaken, match="PARTAGE_API_PORT") as refusal:
            bring_up(settings, lambda _: None)
    assert str(port) in str(refusal.value)
    assert records(here.processes) == ()


def test_workers_that_another_release_named_are_not_started_beside_but_said_with_what_to_do(here: Machine) -> None:
    spec, _ = worker(here, SecurityDomain.CIVIL, (DeviceId("GPU-0"),))
    start(here.processes, replace(spec, name="civil-a1d0cb6e", module="tests.pretended_node"), {}, CLOCK)
    with pytest.raises(OlderWorkersRun, match=r"civil-a1d0cb6e.*`partage down`"):
        bring_up(here.settings, lambda _: None)
    take_down(here.settings, lambda _: None)
    assert records(here.processes) == ()


def test_down_with_nothing_running_says_so_and_is_no_error(here: Machine) -> None:
    said: list[str] = []
    take_down(here.settings, said.append)
    assert said == ["nothing of ours runs"]


def test_down_stops_what_is_ours_and_nothing_else(here: Machine) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        quiet(here)
        ours = records(here.processes)[0]
        take_down(here.settings, lambda _: None)
        assert not is_alive(ours)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_down_ends_processes_that_lost_their_record_by_the_folder_that_they_work_in(here: Machine) -> None:
    quiet(here)
    stray = records(here.processes)[0]
    here.processes.record_file("quiet").unlink()
    deadline_ms = CLOCK.monotonic_ms() + 20_000
    while Path(f"/proc/{stray.pid}/cwd").readlink() != here.processes.records:
        assert CLOCK.monotonic_ms() < deadline_ms
        CLOCK.sleep_ms(20)
    take_down(here.settings, lambda _: None)
    assert not is_alive(stray)


def test_two_starts_at_once_are_refused(here: Machine) -> None:
    nested: list[type[Exception]] = []

    def meanwhile(_line: str) -> None:
        try:
            take_down(here.settings, lambda _: None)
        except AnotherIsRunning as refusal:
            nested.append(type(refusal))

    quiet(here)
    take_down(here.settings, meanwhile)
    assert set(nested) == {AnotherIsRunning}


def test_secrets_are_made_once_for_each_domain_and_are_the_owners_alone(here: Machine) -> None:
    ensure_secrets(here)
    files = [here.settings.secret(domain, purpose) for domain in SecurityDomain for purpose in SECRETS]
    first = [file.read_text() for file in files]
    ensure_secrets(here)
    assert [file.read_text() for file in files] == first
    assert len(set(first)) == len(files)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    write_whole(tmp_path / "state", "old")
    write_whole(tmp_path / "state", "new")
    assert (tmp_path / "state").read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    assert ensure_token(tmp_path / "state") == "new"


def test_a_folder_for_ray_that_others_can_enter_is_refused(here: Machine) -> None:
    ensure_secrets(here)
    parent = here.temp(SecurityDomain.CIVIL).parent
    parent.mkdir()
    parent.chmod(0o755)
    with pytest.raises(NotOurs, match=str(parent)):
        start_head(here, SecurityDomain.CIVIL, CLOCK)
    parent.rmdir()


def test_ports_are_free_and_not_given_twice() -> None:
    first = free_ports(6, set(), "a")
    second = free_ports(6, set(first), "a")
    assert set(first).isdisjoint(second)
    assert all(is_free(port) for port in (*first, *second))
    with pytest.raises(PortsExhausted):
        free_ports(20_000, set(), "a")


def test_a_worker_sees_its_own_devices_and_a_head_sees_none(here: Machine) -> None:
    _, of_head = head(here, SecurityDomain.CIVIL)
    _, of_worker = worker(here, SecurityDomain.CIVIL, (DeviceId("GPU-b"), DeviceId("GPU-a")))
    assert of_head["CUDA_VISIBLE_DEVICES"] == ""
    assert of_worker["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert of_worker["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_TOKEN" not in of_worker


def test_two_launches_of_a_worker_are_told_apart_by_their_label(here: Machine) -> None:
    first, _ = worker(here, SecurityDomain.CIVIL, (DeviceId("GPU-a"),))
    second, _ = worker(here, SecurityDomain.CIVIL, (DeviceId("GPU-a"),))
    assert first.name == second.name
    assert first.launch != second.launch


def test_each_step_is_told_with_its_time_and_memory_and_a_failed_one_with_its_reason() -> None:
    said: list[str] = []
    watch = Stopwatch(Lines(said.append), CLOCK, lambda: 42)
    with watch.step("first") as notes:
        notes.append("made")
    with pytest.raises(OSError, match="broken"), watch.step("second"):
        raise OSError("broken")
    assert "42 MiB" in said[0]
    assert said[0].endswith("made")
    assert said[1].split() == ["second", "failed:", "broken"]


def test_the_environment_of_our_processes_holds_no_setting_of_another_ray(here: Machine) -> None:
    assert not any(name.startswith("RAY_") for name in here.processes.environment)
    assert str(os.sep) in here.processes.environment["PYTHONPATH"]
