"""A group is idle when evidence over time says so: never on one sample, never on what was not seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.evidence.usage_state import UsageBounds, UsageEvidence, UsageMemory, forget_if_stale, weigh
from policies.model.inventory import UsageState
from policies.model.telemetry import Missing, MissingCause, Reading
from policies.model.units import GroupId

GROUP = GroupId("chat-r0-1")
BOUNDS = UsageBounds()
BUSY, POLLING, HELD = 600, 5, 70_000


class Watch:
    """One group, looked at once a second unless told otherwise."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.memory = UsageMemory(group=GROUP)

    def look(
        self, activity: Reading, *, memory_mib: Reading = HELD, waiting: int | None = 0, step_ms: int = 1_000
    ) -> UsageState:
        self.now_ms += step_ms
        seen = UsageEvidence(
            group=GROUP, at_ms=self.now_ms, activity_permille=activity, memory_mib=memory_mib, waiting=waiting
        )
        self.memory = weigh(self.memory, seen, BOUNDS)
        return self.memory.state

    def looks(self, count: int, activity: Reading, **more: int) -> UsageState:
        for _ in range(count):
            self.look(activity, **more)
        return self.memory.state


def test_nothing_is_known_at_first() -> None:
    assert Watch().look(0) is UsageState.UNKNOWN


def test_work_is_recognised_within_three_samples() -> None:
    assert Watch().looks(4, BUSY) is UsageState.ACTIVE


def test_a_server_that_holds_memory_and_only_polls_is_idle_held_after_a_minute_or_so() -> None:
    watch = Watch()
    watch.looks(5, BUSY)
    assert watch.looks(60, POLLING) is UsageState.ACTIVE
    assert watch.looks(60, POLLING) is UsageState.IDLE_HELD


def test_a_group_that_holds_nothing_either_is_truly_idle() -> None:
    assert Watch().looks(120, 0, memory_mib=0) is UsageState.TRULY_IDLE


def test_one_idle_sample_does_not_make_a_busy_group_idle_however_long_it_is_held_to_last() -> None:
    watch = Watch()
    watch.looks(5, BUSY)
    assert watch.look(0, step_ms=600_000) is UsageState.ACTIVE


def test_one_busy_sample_does_not_make_an_idle_group_active() -> None:
    watch = Watch()
    watch.looks(120, 0)
    assert watch.look(1000) is UsageState.IDLE_HELD
    assert watch.looks(10, 0) is UsageState.IDLE_HELD


def test_a_request_makes_it_active_at_once() -> None:
    watch = Watch()
    watch.looks(120, 0)
    assert watch.look(0, waiting=1) is UsageState.ACTIVE


def test_requests_that_wait_while_nothing_computes_keep_it_active() -> None:
    watch = Watch()
    assert watch.looks(600, 0, waiting=3) is UsageState.ACTIVE


def test_a_group_that_works_a_second_in_ten_is_not_idle() -> None:
    watch = Watch()
    watch.looks(5, BUSY)
    for number in range(600):
        state = watch.look(BUSY if number % 10 == 0 else 0)
        assert state is UsageState.ACTIVE


@given(st.lists(st.integers(0, 1000), max_size=59))
def test_nothing_that_happens_within_a_minute_makes_a_busy_group_idle(activities: list[int]) -> None:
    watch = Watch()
    watch.looks(5, BUSY)
    for activity in activities:
        assert watch.look(activity) is UsageState.ACTIVE


@given(st.lists(st.integers(0, 12), min_size=200, max_size=200))
def test_polling_of_any_rhythm_is_idleness_in_the_end(activities: list[int]) -> None:
    watch = Watch()
    for activity in activities:
        watch.look(activity)
    assert watch.memory.state is UsageState.IDLE_HELD


@pytest.mark.parametrize("cause", [MissingCause.TIMEOUT, MissingCause.GPU_IS_LOST, MissingCause.FROZEN])
def test_what_is_not_seen_is_unknown_and_never_idle(cause: MissingCause) -> None:
    watch = Watch()
    watch.looks(5, BUSY)
    assert watch.looks(10, Missing(cause)) is UsageState.ACTIVE
    assert watch.looks(600, Missing(cause)) is UsageState.UNKNOWN


def test_without_the_gateways_count_nothing_is_known() -> None:
    watch = Watch()
    for _ in range(300):
        assert watch.look(0, waiting=None) is UsageState.UNKNOWN


def test_a_gap_in_the_middle_adds_no_evidence() -> None:
    watch = Watch()
    watch.looks(5, BUSY)
    watch.looks(55, 0)
    watch.looks(10, Missing(MissingCause.TIMEOUT))
    before = watch.memory.idle_sum
    watch.look(0)
    assert watch.memory.idle_sum - before <= BOUNDS.idle_below_permille * BOUNDS.longest_step_ms


def test_the_same_evidence_twice_counts_once() -> None:
    watch = Watch()
    watch.looks(3, 0)
    seen = UsageEvidence(group=GROUP, at_ms=watch.now_ms, activity_permille=0, memory_mib=0, waiting=0)
    assert weigh(watch.memory, seen, BOUNDS) == watch.memory


def test_old_evidence_is_forgotten() -> None:
    watch = Watch()
    watch.looks(10, BUSY)
    assert forget_if_stale(watch.memory, watch.now_ms + 10_000, BOUNDS).state is UsageState.ACTIVE
    assert forget_if_stale(watch.memory, watch.now_ms + 60_000, BOUNDS).state is UsageState.UNKNOWN


def test_since_when_nothing_is_known_is_counted_from_the_first_time() -> None:
    watch = Watch()
    watch.looks(4, BUSY)
    first = forget_if_stale(watch.memory, watch.now_ms + 10**6, BOUNDS)
    again = forget_if_stale(first, watch.now_ms + 2 * 10**6, BOUNDS)
    assert (again.state, again.since_ms) == (UsageState.UNKNOWN, watch.now_ms + 10**6)


def test_at_rest_a_group_is_idle_after_exactly_a_minute_and_at_work_active_after_exactly_three_samples() -> None:
    watch = Watch()
    states = [watch.look(0) for _ in range(61)]
    assert states == [UsageState.UNKNOWN] * 60 + [UsageState.IDLE_HELD], "the first look spans no time"
    assert watch.memory.since_ms == watch.now_ms
    assert watch.memory.idle_sum == BOUNDS.idle_below_permille * BOUNDS.idle_evidence_ms
    assert [watch.look(1000) for _ in range(3)] == [UsageState.IDLE_HELD] * 2 + [UsageState.ACTIVE]
    began_ms = watch.now_ms
    watch.look(1000)
    assert (watch.memory.since_ms, watch.memory.idle_sum, watch.memory.idle_samples) == (began_ms, 0, 0)


def test_three_long_samples_are_evidence_enough_and_two_are_not() -> None:
    bounds = UsageBounds(idle_evidence_ms=10_000)
    for activity, state in ((0, UsageState.IDLE_HELD), (1000, UsageState.ACTIVE)):
        memory = UsageMemory(group=GROUP)
        found = []
        for second in range(0, 20, 5):
            seen = UsageEvidence(
                group=GROUP, at_ms=second * 1000, activity_permille=activity, memory_mib=HELD, waiting=0
            )
            memory = weigh(memory, seen, bounds)
            found.append(memory.state)
        assert found == [UsageState.UNKNOWN] * 3 + [state]


def test_a_little_work_takes_longer_to_be_believed_than_much() -> None:
    watch = Watch()
    assert watch.looks(40, BOUNDS.idle_below_permille + 1) is UsageState.UNKNOWN
    assert watch.look(BOUNDS.idle_below_permille + 1) is UsageState.ACTIVE


def test_activity_at_the_threshold_speaks_for_nothing() -> None:
    watch = Watch()
    watch.looks(3, 100)
    sums = (watch.memory.idle_sum, watch.memory.busy_sum)
    watch.looks(50, BOUNDS.idle_below_permille)
    assert (watch.memory.idle_sum, watch.memory.busy_sum) == sums


def test_what_holds_exactly_the_bound_of_memory_holds_memory() -> None:
    assert Watch().looks(61, 0, memory_mib=BOUNDS.held_mib) is UsageState.IDLE_HELD
    assert Watch().looks(61, 0, memory_mib=BOUNDS.held_mib - 1) is UsageState.TRULY_IDLE


def test_evidence_is_forgotten_after_its_time_to_the_millisecond() -> None:
    watch = Watch()
    watch.looks(5, BUSY)
    assert forget_if_stale(watch.memory, watch.now_ms + BOUNDS.stale_ms, BOUNDS) == watch.memory
    gone = forget_if_stale(watch.memory, watch.now_ms + BOUNDS.stale_ms + 1, BOUNDS)
    assert gone == UsageMemory(group=GROUP, since_ms=watch.now_ms + BOUNDS.stale_ms + 1)


def test_a_request_ends_all_evidence_of_idleness() -> None:
    watch = Watch()
    watch.looks(50, 0)
    watch.look(0, waiting=1)
    assert (watch.memory.idle_sum, watch.memory.idle_samples, watch.memory.evidence_at_ms) == (0, 0, watch.now_ms)
    assert watch.looks(59, 0) is UsageState.ACTIVE
    assert watch.look(0) is UsageState.IDLE_HELD
