"""Our processes: one per name, adopted by pid and start time, stopped with everything that they started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.clock import SystemClock
from cluster.embedded.processes import (
    ProcessFolder,
    ProcessSpec,
    end_remains,
    find,
    forget,
    is_alive,
    members,
    memory_mib,
    records,
    start,
    stop,
)

CLOCK = SystemClock()
ROOT = Path(__file__).resolve().parents[3]
QUIET = ProcessSpec(name="quiet", module="tests.pretended_node")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ProcessFolder]:
    made = ProcessFolder(records=tmp_path / "run", logs=tmp_path / "logs", environment={"PYTHONPATH": str(ROOT)})
    yield made
    for record in records(made):
        stop(made, record, 500, CLOCK)


def until(holds: Callable[[], bool]) -> None:
    give_up_ms = CLOCK.monotonic_ms() + 30_000
    while not holds():
        assert CLOCK.monotonic_ms() < give_up_ms
        CLOCK.sleep_ms(20)


def test_a_process_runs_in_a_session_of_its_own_and_is_found_again(folder: ProcessFolder) -> None:
    record = start(folder, QUIET, {}, CLOCK)
    assert is_alive(record)
    assert os.getsid(record.pid) == record.pid
    known = find(folder, "quiet")
    assert known is not None
    assert (known.pid, known.started_ticks) == (record.pid, record.started_ticks)


def test_starting_what_runs_returns_it(folder: ProcessFolder) -> None:
    assert start(folder, QUIET, {}, CLOCK).pid == start(folder, QUIET, {}, CLOCK).pid


def test_a_later_process_with_the_same_pid_is_not_taken_for_ours(folder: ProcessFolder) -> None:
    record = start(folder, QUIET, {}, CLOCK)
    assert not is_alive(replace(record, started_ticks=record.started_ticks - 1))


def test_a_lost_record_comes_back_when_the_name_is_started_again(folder: ProcessFolder) -> None:
    record = start(folder, QUIET, {}, CLOCK)
    until(lambda: folder.lock_file("quiet").exists() and folder.lock_file("quiet").stat().st_size > 0)
    folder.record_file("quiet").unlink()
    start(folder, QUIET, {}, CLOCK)
    until(lambda: (known := find(folder, "quiet")) is not None and known.pid == record.pid)
    assert is_alive(record)


def test_nothing_that_the_starting_command_had_open_stays_open(folder: ProcessFolder, tmp_path: Path) -> None:
    with (tmp_path / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        record = start(folder, QUIET, {}, CLOCK)
        until(lambda: folder.lock_file("quiet").exists() and folder.lock_file("quiet").stat().st_size > 0)
    opened = {str(Path(entry.path).readlink()) for entry in os.scandir(f"/proc/{record.pid}/fd")}
    assert str(tmp_path / "held") not in opened


def test_stop_ends_the_process_and_its_record(folder: ProcessFolder) -> None:
    record = start(folder, QUIET, {}, CLOCK)
    stop(folder, record, 5_000, CLOCK)
    assert not is_alive(record)
    assert find(folder, "quiet") is None


def test_children_that_outlive_their_parent_are_ended_too(folder: ProcessFolder, tmp_path: Path) -> None:
    child = tmp_path / "parent_of_one.py"
    child.write_text(
        "import subprocess, sys, time\n"
        "deaf = 'import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(600)'\n"
        "subprocess.Popen([sys.executable, '-c', deaf])\n"
        "time.sleep(600)\n"
    )
    spec = ProcessSpec(name="parent", module="parent_of_one")
    record = start(folder, spec, {"PYTHONPATH": f"{ROOT}:{tmp_path}"}, CLOCK)
    until(lambda: len(members(record)) == 2)
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not is_alive(record))
    assert len(members(record)) == 1
    stop(folder, record, 200, CLOCK)
    assert members(record) == ()


def test_the_record_of_a_successor_is_not_removed_with_its_predecessors(folder: ProcessFolder) -> None:
    old = start(folder, QUIET, {}, CLOCK)
    os.kill(old.pid, signal.SIGKILL)
    until(lambda: not is_alive(old))
    new = start(folder, QUIET, {}, CLOCK)
    forget(folder, old)
    known = find(folder, "quiet")
    assert known is not None
    assert known.pid == new.pid


def test_memory_is_counted_for_the_whole_session(folder: ProcessFolder) -> None:
    record = start(folder, QUIET, {}, CLOCK)
    until(lambda: memory_mib(record) > 0)
    end_remains(record, CLOCK)
    assert memory_mib(record) == 0


def test_a_record_that_cannot_be_read_is_no_record(folder: ProcessFolder) -> None:
    start(folder, QUIET, {}, CLOCK)
    folder.record_file("broken").write_text("{")
    assert [found.spec.name for found in records(folder)] == ["quiet"]
