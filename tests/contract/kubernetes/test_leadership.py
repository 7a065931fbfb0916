"""F24, F25: one leader at a time; one that slept, or cannot reach its lease, stops before another may begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.clock import SystemClock
from cluster.kubernetes.api import Patience
from cluster.kubernetes.election import Election, LeaseTerms
from cluster.kubernetes.kinds import LEASES
from cluster.sim.clock import VirtualClock

from .conftest import Served

TERMS = LeaseTerms(duration_ms=15_000, renew_ms=3_000, margin_ms=5_000)


def election(served: Served, namespace: str, name: str, clock: VirtualClock | None = None) -> Election:
    return Election(served.api(Patience(attempts=1)), clock or VirtualClock(), namespace, "control-plane", name, TERMS)


def test_the_first_to_ask_leads_and_the_second_waits(served: Served, namespace: str) -> None:
    clock = VirtualClock()
    first, second = (election(served, namespace, name, clock) for name in ("a", "b"))
    assert (first.attempt(), second.attempt()) == (True, False)
    assert (first.may_act(), second.may_act()) == (True, False)


def test_the_lease_remembers_the_newest_fencing_generation_whoever_leads(served: Served, namespace: str) -> None:
    clock = VirtualClock()
    first, second = (election(served, namespace, name, clock) for name in ("a", "b"))
    assert first.attempt()
    assert first.newest == 0
    first.led(9)
    first.resign()
    assert second.attempt()
    assert second.newest == 9
    second.led(3)
    assert second.newest == 9


def test_a_lease_that_is_renewed_is_never_taken(served: Served, namespace: str) -> None:
    clock = VirtualClock()
    first, second = (election(served, namespace, name, clock) for name in ("a", "b"))
    for _ in range(10):
        assert (first.attempt(), second.attempt()) == (True, False)
        clock.sleep_ms(3_000)


def test_f24_a_leader_that_slept_finds_that_it_no_longer_leads(served: Served, namespace: str) -> None:
    clock = VirtualClock()
    first, second = (election(served, namespace, name, clock) for name in ("a", "b"))
    assert first.attempt()
    assert not second.attempt()
    clock.sleep_ms(60_000)
    assert not first.may_act(), "it knows by its own clock, before it asks anyone"
    assert second.attempt()
    assert not first.attempt()
    assert first.lost
    assert served.api().get(LEASES, namespace, "control-plane")["spec"]["leaseTransitions"] == 2


def test_f25_deciding_stops_before_another_may_begin(fake: Served) -> None:
    clock = VirtualClock()
    first, second = (election(fake, "default", name, clock) for name in ("a", "b"))
    assert first.attempt()
    assert not second.attempt()
    fake.fake.fail("GET", "/leases/", status=503, times=10_000)
    fake.fake.fail("PUT", "/leases/", status=503, times=10_000)
    stopped_at = taken_at = None
    started = clock.monotonic_ms()
    for _ in range(40):
        clock.sleep_ms(500)
        if stopped_at is None:
            first.attempt()
        if stopped_at is None and not first.may_act():
            stopped_at = clock.monotonic_ms() - started
            fake.fake.faults.clear()
        if stopped_at is not None and second.attempt():
            taken_at = clock.monotonic_ms() - started
            break
    assert stopped_at is not None
    assert taken_at is not None
    assert taken_at - stopped_at >= TERMS.margin_ms - 500


def test_a_lease_is_judged_by_our_own_clock_not_by_what_is_written_in_it(served: Served, namespace: str) -> None:
    fast, slow = VirtualClock(), VirtualClock(start_ms=0)
    first, second = election(served, namespace, "a", fast), election(served, namespace, "b", slow)
    assert first.attempt()
    slow.sleep_ms(3_600_000)
    assert not second.attempt(), "an hour between two clocks is no reason to take over"


def test_handing_over_lets_the_next_begin_at_once(served: Served, namespace: str) -> None:
    clock = VirtualClock()
    first, second = (election(served, namespace, name, clock) for name in ("a", "b"))
    assert first.attempt()
    assert not second.attempt()
    first.resign()
    assert not first.may_act()
    assert second.attempt()


def test_two_that_ask_at_once_do_not_both_win(served: Served, namespace: str) -> None:
    import threading

    names = [f"p{number}" for number in range(6)]
    contenders = [election(served, namespace, name, VirtualClock()) for name in names]
    barrier = threading.Barrier(len(contenders))

    def ask(each: Election) -> None:
        barrier.wait()
        each.attempt()

    threads = [threading.Thread(target=ask, args=(each,)) for each in contenders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.may_act() for each in contenders) == 1


PROCESS = """
import sys
from random import Random
from cluster.clock import SystemClock
from cluster.kubernetes.api import Api, Connection
from cluster.kubernetes.api import Patience
from cluster.kubernetes.election import Election, LeaseTerms
url, name = sys.argv[1:]
clock = SystemClock()
api = Api(Connection.to(url, "t0ken"), clock, Random(1))
terms = LeaseTerms(duration_ms=3000, renew_ms=200, margin_ms=1000)
mine = Election(api, clock, "default", "control-plane", name, terms)
mine.campaign()
mine.keep()
print("leads", flush=True)
while not mine.lost:
    clock.sleep_ms(50)
print("lost", flush=True)
"""


@pytest.mark.timeout(120)
def test_f24_a_process_stopped_with_sigstop_and_continued_gives_way(fake: Served, tmp_path: Path) -> None:
    program = tmp_path / "leader.py"
    program.write_text(PROCESS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}  # noqa: TID251 - a child needs it
    first, second = (
        subprocess.Popen(
            [sys.executable, str(program), fake.url, name], stdout=subprocess.PIPE, text=True, env=environment
        )
        if name == "a" or _leads(fake, "a")
        else None
        for name in ("a", "b")
    )
    assert first is not None
    assert second is not None
    try:
        assert first.stdout.readline() == "leads\n"
        first.send_signal(signal.SIGSTOP)
        assert second.stdout.readline() == "leads\n"
        first.send_signal(signal.SIGCONT)
        assert first.stdout.readline() == "lost\n"
        assert fake.api().get(LEASES, "default", "control-plane")["spec"]["holderIdentity"] == "b"
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def _leads(fake: Served, name: str) -> bool:
    from cluster.kubernetes.refusals import Absent

    for _ in range(600):
        try:
            if fake.api().get(LEASES, "default", "control-plane")["spec"]["holderIdentity"] == name:
                return True
        except Absent:
            pass
        SystemClock().sleep_ms(50)
    return False
