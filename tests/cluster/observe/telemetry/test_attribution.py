"""Every process on a device has an owner that it could not choose itself, or is foreign."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.observe.telemetry.attribution import attribute, foreign, owner_of
from cluster.observe.telemetry.processes import MAX_COMMAND, READ_AGAIN, ProcessTable, uses
from policies.model.telemetry import DeviceSample, GroupShare, Missing, MissingCause, ProcessUse, WorkerHolding
from policies.model.units import ClaimId, DeviceId, GroupId, SecurityDomain, TenantId, WorkerId

GPU = DeviceId("GPU-0")
POD = "0f7a1b2c-1111-2222-3333-444455556666"
CONTAINER = "ab" * 32
CGROUPS = {
    "systemd driver": f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD.replace('-', '_')}"
    f".slice/cri-containerd-{CONTAINER}.scope",
    "cgroupfs driver": f"0::/kubepods/besteffort/pod{POD}/{CONTAINER}",
    "version 1": f"11:memory:/kubepods/pod{POD}/{CONTAINER}\n1:name=systemd:/kubepods/pod{POD}/{CONTAINER}",
}


def group(name: str, *devices: DeviceId) -> GroupShare:
    return GroupShare(
        group=GroupId(name),
        claim=ClaimId(f"civil/justice:{name}"),
        tenant=TenantId("civil/justice"),
        gpu_millis=500,
        devices=devices or (GPU,),
    )


def worker(name: str = "w", *, root_pid: int | None = None, pod: str = "", groups: tuple[GroupShare, ...] = ()):
    return WorkerHolding(
        worker=WorkerId(name),
        domain=SecurityDomain.CIVIL,
        devices=(GPU,),
        root_pid=root_pid,
        pod=pod,
        groups=groups,
    )


def process(**known: object) -> ProcessUse:
    return ProcessUse(pid=300, device=GPU, **known)  # type: ignore[arg-type] # the caller names fields


def test_a_process_in_the_workers_pod_is_the_workers() -> None:
    owner = owner_of(process(pod=POD), (worker(pod=POD, groups=(group("chat"),)),))
    assert owner is not None
    assert (owner.worker, owner.claim, owner.tenant) == ("w", "civil/justice:chat", "civil/justice")


def test_a_descendant_of_the_workers_root_is_the_workers() -> None:
    assert owner_of(process(ancestors=(200, 100, 1)), (worker(root_pid=100),)) is not None
    assert owner_of(process(ancestors=(200, 1)), (worker(root_pid=100),)) is None


def test_a_process_of_a_job_beside_the_workers_own_processes_is_the_workers() -> None:
    beside = replace(worker(root_pid=100), job_pids=(400,))
    owner = owner_of(process(ancestors=(400, 1)), (beside,))
    assert owner is not None
    assert owner.worker == beside.worker
    assert owner_of(process(ancestors=(500, 1)), (beside,)) is None


def test_a_process_of_another_pod_is_foreign_even_if_it_takes_a_replicas_title() -> None:
    holdings = (worker(pod=POD, groups=(group("chat"),)),)
    intruder = process(pod="ffffffff-1111-2222-3333-444455556666", application="chat")
    assert owner_of(intruder, holdings) is None


def test_a_process_without_a_pod_is_foreign_where_workers_are_pods() -> None:
    assert owner_of(process(ancestors=(100,)), (worker(pod=POD),)) is None


def test_a_worker_of_another_device_owns_nothing_here() -> None:
    elsewhere = WorkerHolding(
        worker=WorkerId("w"), domain=SecurityDomain.CIVIL, devices=(DeviceId("GPU-1"),), root_pid=100
    )
    assert owner_of(process(ancestors=(100,)), (elsewhere,)) is None


def test_the_title_chooses_among_the_groups_of_one_worker() -> None:
    holdings = (worker(root_pid=100, groups=(group("chat"), group("draft"))),)
    named = owner_of(process(ancestors=(100,), application="draft"), holdings)
    unnamed = owner_of(process(ancestors=(100,)), holdings)
    stranger = owner_of(process(ancestors=(100,), application="nobody"), holdings)
    assert named is not None
    assert named.group == "draft"
    for owner in (unnamed, stranger):
        assert owner is not None
        assert owner.group is None, "the worker is known, the group is not"


def test_a_sample_without_processes_has_no_owners_and_no_strangers() -> None:
    blind = DeviceSample(device=GPU, gpu=GPU, at_ms=0, processes=Missing(MissingCause.NO_PERMISSION))
    assert attribute(blind, ()) == ()
    seen = DeviceSample(device=GPU, gpu=GPU, at_ms=0, processes=(process(),))
    assert [one.pid for one in foreign(attribute(seen, ()))] == [300]


def proc(
    root: Path, pid: int, *, parent: int = 1, cgroup: str = "0::/", title: str = "python", started: int = 7
) -> None:
    folder = root / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    fields = ["S", str(parent), *["0"] * 17, str(started), "0"]
    (folder / "stat").write_text(f"{pid} (a (strange) name) {' '.join(fields)}")
    (folder / "cgroup").write_text(cgroup)
    (folder / "cmdline").write_text(title.replace(" ", "\0"))
    (folder / "comm").write_text("comm\n")
    (folder / "status").write_text("Name:\tx\nUid:\t0\t0\t0\t0\n")


@pytest.mark.parametrize("kind", CGROUPS)
def test_pod_and_container_are_read_from_the_control_group(tmp_path: Path, kind: str) -> None:
    proc(tmp_path, 300, cgroup=CGROUPS[kind])
    facts = ProcessTable(tmp_path).look_up(300)
    assert facts is not None
    assert (facts.pod, facts.container) == (POD, CONTAINER)


def test_a_child_of_a_replica_belongs_to_its_application(tmp_path: Path) -> None:
    proc(tmp_path, 100, title="raylet")
    proc(tmp_path, 200, parent=100, title="ray::ServeReplica:chat-r0-1a8d76b5:Engine")
    proc(tmp_path, 300, parent=200, title="VLLM::EngineCore")
    facts = ProcessTable(tmp_path).look_up(300)
    assert facts is not None
    assert facts.application == "chat-r0-1a8d76b5"
    assert facts.ancestors == (200, 100)
    assert facts.user == "root"


def test_a_process_that_is_gone_or_hidden_has_no_facts(tmp_path: Path) -> None:
    assert ProcessTable(tmp_path).look_up(4711) is None


def test_a_pid_used_again_is_another_process(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path)
    proc(tmp_path, 300, title="ray::ServeReplica:chat:Engine", started=7)
    assert table.look_up(300).application == "chat"  # type: ignore[union-attr] # it exists
    proc(tmp_path, 300, title="miner", started=8)
    facts = table.look_up(300)
    assert facts is not None
    assert (facts.application, facts.command) == ("", "miner")


def test_a_worker_that_becomes_a_replica_is_noticed(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path)
    proc(tmp_path, 300, title="ray::IDLE")
    table.look_up(300)
    proc(tmp_path, 300, title="ray::ServeReplica:chat:Engine")
    for _ in range(READ_AGAIN):
        table.look_up(300)
        table.forget_all_but([300])
    seen = table.look_up(300)
    assert seen is not None
    assert seen.application == "chat"


def test_a_process_on_many_devices_is_read_no_more_often_than_one_on_a_single_device(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path)
    proc(tmp_path, 300, title="python train.py")
    table.look_up(300)
    proc(tmp_path, 300, title="python other.py")
    seen = [table.look_up(300) for _ in range(8 * READ_AGAIN)]
    assert {one.command for one in seen if one is not None} == {"python train.py"}, "one round has not ended"


def test_a_control_group_longer_than_a_page_is_read_to_its_end(tmp_path: Path) -> None:
    lines = [f"{number}:controller{number}:/{'x' * 400}" for number in range(20)]
    proc(tmp_path, 300, cgroup="\n".join([*lines, f"0::/kubepods/pod{POD}/cri-containerd-{CONTAINER}.scope"]))
    facts = ProcessTable(tmp_path).look_up(300)
    assert facts is not None
    assert facts.pod == POD


def test_words_of_a_process_are_cut_and_cannot_forge_a_screen(tmp_path: Path) -> None:
    proc(tmp_path, 300, title="evil\x1b[2J\nroot 0 fine " + "x" * 500)
    facts = ProcessTable(tmp_path).look_up(300)
    assert facts is not None
    assert facts.command.isprintable()
    assert len(facts.command) <= MAX_COMMAND


def test_a_real_process_is_found_with_its_parent() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        facts = ProcessTable().look_up(child.pid)
    finally:
        child.communicate(b"\n")
    assert facts is not None
    assert os.getpid() in facts.ancestors


def test_processes_are_listed_by_pid_with_the_share_of_each(tmp_path: Path) -> None:
    class Running:
        def __init__(self, pid: int, memory: int | None) -> None:
            self.pid, self.usedGpuMemory = pid, memory

    proc(tmp_path, 7, title="one")
    found = uses(GPU, [Running(9, None), Running(7, 5 << 20)], {7: 60}, ProcessTable(tmp_path))
    assert [(one.pid, one.memory_mib, one.sm_percent, one.command) for one in found] == [
        (7, 5, 60, "one"),
        (9, Missing(MissingCause.NO_DATA, "usedGpuMemory"), 0, ""),
    ]
