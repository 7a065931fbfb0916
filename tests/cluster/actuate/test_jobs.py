"""Jobs of this machine: real processes that begin once, end once, leave when asked, and say how it went."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cluster.actuate.jobs import FAILED, GAVE_UP, SUCCEEDED, JobBook, LocalJobs
from cluster.actuate.refusals import GroupStopping, NoJobEngine, WorkerNotBound
from cluster.clock import SystemClock
from cluster.embedded.jobs import counted, keep_tries, runs
from cluster.embedded.nodes import Machine, machine
from cluster.embedded.processes import is_alive, records, stop
from cluster.observe.jobs import job_groups
from cluster.settings import from_environment
from cluster.sim.journal import MemoryLedger, MemoryRegistry, Shared
from policies.model.codec import to_json
from policies.model.inventory import Group, GroupState
from policies.model.naming import group_id, job_name, worker_id
from policies.model.plan import (
    Action,
    Plan,
    StartGroup,
    StartRouting,
    StartWorker,
    StopGroup,
    StopRouting,
    StopWorker,
)
from policies.model.units import ClaimId, DeviceId, SecurityDomain, TenantId, WorkerId
from policies.model.workload import Claim, ClaimKind, Job, Shape
from tests.local_platform import local_platform

CLOCK = SystemClock()
GPU, NEXT = DeviceId("GPU-0"), DeviceId("GPU-1")
CIVIL = SecurityDomain.CIVIL
NAME = ClaimId("civil/justice:train")
PATIENT = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["PARTAGE_CHECKPOINT"])
folder.mkdir(exist_ok=True)
saved = folder / "step"
step = int(saved.read_text()) if saved.exists() else 0
def leave(number, frame):
    saved.write_text(str(step))
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("from step", step, flush=True)
while True:
    step += 1
    time.sleep(0.01)
"""
"""Works until it is asked to leave, saves how far it came, and goes on from there when it is begun again."""
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
away = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("away", away.pid, flush=True)
time.sleep(600)
"""
"""Takes no notice of being asked, and has started something in a session of its own."""


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


def a_job(*command: str, **terms: object) -> Claim:
    return Claim(
        id=NAME, tenant=TenantId("civil/justice"), kind=ClaimKind.JOB, ladder=(Shape(flavors=()),),
        job=Job(command=command, **terms),  # type: ignore[arg-type]  # the caller names fields
    )  # fmt: skip


@dataclass
class Site:
    """The engine over real processes, with a worker of the domain bound to the first device."""

    here: Machine
    ledger: MemoryLedger
    shared: Shared
    jobs: LocalJobs
    worker: WorkerId

    @property
    def start(self) -> StartGroup:
        return begin_on(self.worker)

    def ask_for(self, claim: Claim) -> None:
        self.shared.claims[claim.id] = claim

    def do(self, *actions: Action) -> None:
        """Take a turn of the actuator, as far as jobs are concerned."""
        for action in actions:
            assert self.jobs.is_a_jobs(action)
            self.jobs.take(action)
        self.jobs.tend()

    def group(self) -> Group | None:
        return next(iter(job_groups(self.here)), None)

    def until(self, holds: Callable[[Group | None], bool]) -> Group | None:
        give_up_ms = CLOCK.monotonic_ms() + 30_000
        while not holds(group := self.group()):
            assert CLOCK.monotonic_ms() < give_up_ms, group
            self.do()
            CLOCK.sleep_ms(20)
        return group

    def until_it_failed(self) -> Group:
        group = self.until(lambda seen: seen is not None and seen.state is GroupState.FAILED)
        assert group is not None
        self.do()
        return group

    def begun(self, claim: Claim) -> Group:
        self.ask_for(claim)
        self.do(self.start)
        group = self.group()
        assert group is not None
        return group

    def log(self) -> str:
        (file,) = self.here.settings.logs.glob("job-*.log")
        return file.read_text()

    def until_it_wrote(self, text: str) -> None:
        give_up_ms = CLOCK.monotonic_ms() + 30_000
        while text not in self.log():
            assert CLOCK.monotonic_ms() < give_up_ms, self.log()
            CLOCK.sleep_ms(20)

    def notes(self) -> list[str]:
        return [kind for kind, _, _ in self.shared.notes]


def begin_on(worker: WorkerId, device: DeviceId = GPU) -> StartGroup:
    return StartGroup(
        domain=CIVIL, group=group_id(NAME, worker, 0), claim=NAME, worker=worker, model=None, variant=None,
        devices=(device,), gpu_millis=1000, memory_mib=0, replicas=1, concurrency=1, reason="wanted",
    )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    home = tmp_path / "home"
    here = machine(from_environment({"PARTAGE_HOME": str(home), "PARTAGE_CACHE": str(home)}))
    shared = Shared()
    ledger, worker = MemoryLedger(shared, CLOCK), worker_id(CIVIL, (GPU,))
    ledger.bind(worker, CIVIL, (GPU,), 0)
    jobs = LocalJobs(
        here=here, ledger=ledger, claims=lambda: tuple(shared.claims.values()), book=JobBook(MemoryRegistry(shared)),
        clock=CLOCK, simulated=True, kill_after_ms=200,
    )  # fmt: skip
    yield Site(here, ledger, shared, jobs, worker)
    jobs.wait()
    for record in records(here.processes):
        stop(here.processes, record, 500, CLOCK)


def test_a_job_that_succeeds_ends_its_claim_and_its_end_is_on_record(site: Site) -> None:
    group = site.begun(a_job(*python("print('done', flush=True)")))
    assert (group.variant, group.devices, group.replicas) == (None, (GPU,), 1)
    site.until(lambda _: NAME not in site.shared.claims)
    ((kind, subject, body),) = site.shared.notes
    assert (kind, subject, body["tenant"], body["exit_code"]) == (SUCCEEDED, NAME, "civil/justice", 0)
    assert body["began_ms"] <= body["ended_ms"]  # type: ignore[operator]  # numbers
    assert "done" in site.log()
    # Nobody asks for it any more: it goes the way of every group.
    site.do(StopRouting(domain=CIVIL, group=group.id, reason="RELEASED"))
    site.until(lambda seen: seen is None)


def test_until_its_claim_has_ended_a_job_that_succeeded_is_not_begun_again(site: Site) -> None:
    site.begun(a_job(*python("")))
    give_up_ms = CLOCK.monotonic_ms() + 30_000
    while is_alive(runs(site.here)[0][0]):
        assert CLOCK.monotonic_ms() < give_up_ms
        CLOCK.sleep_ms(20)
    seen = site.group()
    assert seen is not None
    assert (seen.state, seen.running, seen.routed) == (GroupState.RUNNING, 1, True)


def test_a_job_finds_what_it_was_given_and_none_of_the_platforms_secrets(site: Site, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    program = f"import json, os; json.dump([dict(os.environ), os.getcwd()], open({str(kept)!r}, 'w'))"
    known = {**site.here.processes.environment, "AWS_SECRET_ACCESS_KEY": "s3cret", "PARTAGE_TOKEN": "t0ken"}
    here = replace(site.here, processes=replace(site.here.processes, environment=known))
    site.ask_for(a_job(*python(program), folder=str(tmp_path), environment=(("EPOCHS", "3 of them"),)))
    replace(site.jobs, here=here).take(site.start)
    ((record, _),) = runs(site.here)
    assert "s3cret" not in to_json(record)
    site.until(lambda _: SUCCEEDED in site.notes())
    environment, folder = json.loads(kept.read_text())
    assert folder == str(tmp_path)
    assert environment["EPOCHS"] == "3 of them"
    assert environment["PARTAGE_DEVICES"] == GPU
    assert environment["CUDA_VISIBLE_DEVICES"] == "", "simulated devices are the CPU"
    assert not {"AWS_SECRET_ACCESS_KEY", "PARTAGE_TOKEN", "PYTHONPATH", "PARTAGE_HOME"} & environment.keys()


def test_on_real_devices_it_sees_its_own_by_uuid_and_no_others(site: Site, tmp_path: Path) -> None:
    kept = tmp_path / "seen"
    claim = a_job(*python(f"import os; open({str(kept)!r}, 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"))
    site.ask_for(claim)
    replace(site.jobs, simulated=False).take(site.start)
    site.until(lambda _: SUCCEEDED in site.notes())
    assert kept.read_text() == GPU


def test_no_shell_reads_the_command(site: Site, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    site.begun(a_job("/bin/echo", "$HOME", f"; touch {trap}", "`id`"))
    site.until(lambda _: SUCCEEDED in site.notes())
    assert f"$HOME ; touch {trap} `id`" in site.log()
    assert not trap.exists()


def test_a_job_that_fails_says_how_and_is_given_up_after_as_many_attempts_as_it_has(site: Site) -> None:
    site.ask_for(a_job(*python("print('no data', flush=True); raise SystemExit(3)"), attempts=2))
    for attempt in (1, 2):
        site.do(site.start)
        group = site.until_it_failed()
        assert group.message.startswith("the job ended with exit code 3 after ")
        site.do()
        site.do()
        assert site.notes().count(FAILED) == attempt, "each run counts once, however often it is looked at"
        site.do(StopGroup(domain=CIVIL, group=group.id, reason="DRAIN"))
        assert site.group() is None
    assert site.notes() == [FAILED, FAILED, GAVE_UP]
    assert site.shared.claims[NAME].suspended
    assert site.log().count("no data") == 2


def test_each_run_counts_once_and_a_claim_that_its_owner_changed_is_counted_anew(site: Site) -> None:
    def count(generation: int, launch: str) -> int | None:
        tries = counted(site.here, NAME, generation, launch)
        if tries is not None:
            keep_tries(site.here, NAME, tries)
        return None if tries is None else tries.failures

    assert [count(1, "a"), count(1, "a"), count(1, "b")] == [1, None, 2]
    assert count(2, "b") is None, "a run from before the change is not counted under it"
    assert count(2, "c") == 1


def test_a_log_that_has_grown_long_is_begun_anew_and_the_one_before_is_kept(site: Site) -> None:
    logs = site.here.settings.logs
    logs.mkdir(parents=True)
    log = logs / f"{job_name(NAME)}.log"
    log.write_text("earlier words\n" * 10)
    site.ask_for(a_job("/bin/echo", "later words"))
    replace(site.jobs, log_bytes=100).take(site.start)
    site.until(lambda _: SUCCEEDED in site.notes())
    assert "later words" in log.read_text()
    assert "earlier" not in log.read_text()
    assert "earlier words" in log.with_suffix(".log.1").read_text()


@pytest.mark.parametrize(
    ("command", "code"), [(("/nowhere/train",), 127), (("/etc/hostname",), 126)], ids=["not there", "no program"]
)
def test_a_command_that_cannot_be_begun_is_a_failure_with_a_word_in_the_log(
    site: Site, command: tuple[str, ...], code: int
) -> None:
    site.begun(a_job(*command))
    group = site.until_it_failed()
    assert f"exit code {code} " in group.message
    assert "cannot be begun: " in site.log()


def test_a_job_that_has_to_give_way_saves_its_work_and_goes_on_from_there(site: Site, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    group = site.begun(a_job(*python(PATIENT), checkpoint=str(checkpoint)))
    site.until_it_wrote("from step 0")
    assert (group.routed, group.in_flight) == (True, None)
    site.do(StopRouting(domain=CIVIL, group=group.id, reason="RECLAIM"))
    site.until(lambda seen: seen is None)
    step = int((checkpoint / "step").read_text())
    assert step > 0
    assert site.notes() == [], "it left because it was asked to: neither a success nor a failure"
    assert NAME in site.shared.claims
    site.do(site.start)
    site.until_it_wrote(f"from step {step}")
    again = site.group()
    assert again is not None
    assert again.checkpoint_ms is not None


def test_while_it_leaves_it_counts_as_a_request_inside_and_is_not_begun_elsewhere(site: Site) -> None:
    group = site.begun(a_job(*python(STUBBORN)))
    site.until_it_wrote("away ")
    site.do(StopRouting(domain=CIVIL, group=group.id, reason="RECLAIM"))
    seen = site.group()
    assert seen is not None
    assert (seen.state, seen.routed, seen.in_flight, seen.running) == (GroupState.RUNNING, False, 1, 1)
    assert site.jobs.on(site.worker) == (group.id,), "its worker cannot be stopped yet"
    other = worker_id(CIVIL, (NEXT,))
    site.ledger.bind(other, CIVIL, (NEXT,), 0)
    with pytest.raises(GroupStopping):
        site.do(begin_on(other, NEXT))


def test_a_job_that_does_not_leave_is_ended_with_everything_that_it_started(site: Site) -> None:
    group = site.begun(a_job(*python(STUBBORN)))
    site.until_it_wrote("away ")
    away = int(site.log().partition("away ")[2].split()[0])
    assert Path(f"/proc/{away}").exists()
    site.do(StopRouting(domain=CIVIL, group=group.id, reason="RECLAIM"))
    site.do(StopGroup(domain=CIVIL, group=group.id, reason="RECLAIM", in_flight_lost=1))
    site.until(lambda seen: seen is None)
    assert site.notes() == []


def test_what_a_job_left_behind_in_another_session_ends_with_it(site: Site) -> None:
    program = f"{STUBBORN.rpartition('time.sleep')[0]}"
    site.begun(a_job(*python(program)))
    site.until(lambda _: SUCCEEDED in site.notes())
    away = int(site.log().partition("away ")[2].split()[0])
    assert not Path(f"/proc/{away}").exists() or "Z" in Path(f"/proc/{away}/stat").read_text().rpartition(")")[2]


def test_a_job_whose_end_nobody_saw_is_begun_again_and_not_counted_against_it(site: Site) -> None:
    group = site.begun(a_job("/bin/sleep", "600"))
    site.until_it_wrote("begins: ")
    ((record, _),) = runs(site.here)
    os.killpg(record.pid, 9)
    seen = site.until(lambda found: found is not None and found.state is GroupState.FAILED)
    assert seen is not None
    assert "before it could say how it ended" in seen.message
    site.do(StopGroup(domain=CIVIL, group=group.id, reason="DRAIN"))
    site.do(site.start)
    assert site.notes() == []
    assert site.group() is not None


def test_another_control_plane_takes_over_a_job_that_runs(site: Site) -> None:
    group = site.begun(a_job("/bin/sleep", "600"))
    fresh = replace(site.jobs, stops={})
    assert fresh.on(site.worker) == (group.id,)
    fresh.take(site.start)
    assert len(runs(site.here)) == 1, "it is the same run"
    fresh.take(StopRouting(domain=CIVIL, group=group.id, reason="RECLAIM"))
    site.until(lambda seen: seen is None)


def test_nothing_is_routed_to_a_job_and_a_job_without_a_command_is_refused_by_name(site: Site) -> None:
    group = site.begun(a_job("/bin/sleep", "600"))
    site.do(StartRouting(domain=CIVIL, group=group.id, reason="a replica runs"))
    assert site.group() == group
    silent = replace(a_job("x"), id=ClaimId("civil/justice:silent"), job=None)
    site.ask_for(silent)
    with pytest.raises(NoJobEngine):
        site.do(replace(site.start, claim=silent.id, group="other"))


def test_a_job_begins_only_on_devices_that_its_worker_holds(site: Site) -> None:
    site.ask_for(a_job("/bin/true"))
    with pytest.raises(WorkerNotBound):
        site.do(replace(site.start, devices=(NEXT,)))


def test_a_worker_that_carries_a_job_is_not_stopped_and_its_group_is_seen_beside_the_others(tmp_path: Path) -> None:
    with local_platform(tmp_path / "home") as platform:
        one = platform.observer.observe().devices[0]
        worker = StartWorker(
            domain=CIVIL, worker=worker_id(CIVIL, (one.id,)), node=one.node, devices=(one.id,), reason=""
        )
        platform.shared.claims[NAME] = a_job("/bin/sleep", "600")

        def do(*actions: Action) -> list[str]:
            platform.settle()
            plan = Plan(id="p", snapshot_generation=1, fencing_generation=1, decided_at_ms=0, actions=actions)
            return [result.detail for result in platform.actuator.execute(plan).results]

        do(worker)
        begin = begin_on(worker.worker, one.id)
        assert do(begin) == [""]
        (group,) = platform.observer.observe().groups
        assert (group.id, group.claim, group.running) == (begin.group, NAME, 1)
        stopping = StopWorker(domain=CIVIL, worker=worker.worker, devices=worker.devices, reason="")
        (refused,) = do(stopping)
        assert refused.startswith("worker_carries_groups")
        do(StopRouting(domain=CIVIL, group=group.id, reason="RECLAIM"))
        give_up_ms = CLOCK.monotonic_ms() + 30_000
        while platform.observer.observe().groups:
            assert CLOCK.monotonic_ms() < give_up_ms
            do()
        assert do(stopping) == [""]
