"""A device is trusted until something speaks against it, and again only after quiet, a reset or a person's word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.evidence.health import HealthBounds, HealthMemory, adopted, first_verdict, judge, release, signs
from policies.evidence.xid import XIDS, XidAction, classify
from policies.model.codec import from_json, to_json
from policies.model.inventory import DeviceHealth
from policies.model.telemetry import DeviceSample, HealthEvent, HealthVerdict, Load, Missing, MissingCause, Wear
from policies.model.units import DeviceId

GPU = DeviceId("GPU-0")
BOUNDS = HealthBounds()
HEALTHY_WEAR = Wear(
    recovery_action=0,
    throttle_bits=0,
    ecc_corrected=0,
    ecc_uncorrected=0,
    rows_pending=0,
    rows_failed=0,
    rows_uncorrected=0,
    nvlink_errors=0,
)


class Life:
    """One device, judged once a second."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.energy = 5_000_000
        self.memory: HealthMemory = first_verdict(GPU, self.now_ms)

    def second(
        self,
        *events: HealthEvent,
        foreign: int = 0,
        missing: Missing | None = None,
        **wear: int | Missing,
    ) -> DeviceHealth:
        self.now_ms += 1_000
        self.energy += 70_000
        sample = DeviceSample(
            device=GPU,
            gpu=GPU,
            at_ms=self.now_ms,
            load=Load() if missing else Load(energy_mj=self.energy),
            wear=Wear() if missing else replace(HEALTHY_WEAR, **wear),
            missing=missing,
        )
        self.memory = judge(self.memory, sample, events, foreign=foreign, bounds=BOUNDS)
        return self.memory.verdict.health

    def seconds(self, count: int, **wear: int | Missing) -> DeviceHealth:
        for _ in range(count):
            self.second(**wear)
        return self.memory.verdict.health

    def restarted(self) -> None:
        """Reset the device: its energy counter begins anew."""
        self.energy = 0

    @property
    def reason(self) -> str:
        return self.memory.verdict.reason


def xid(code: int) -> HealthEvent:
    return HealthEvent(device=GPU, kind="xid", code=code, at_ms=0, sequence=1)


def test_a_device_with_nothing_against_it_is_healthy() -> None:
    life = Life()
    assert life.seconds(100) is DeviceHealth.HEALTHY
    assert life.reason == ""


@pytest.mark.parametrize("code", [13, 31, 43, 45])
def test_a_programs_own_mistake_says_nothing_about_the_device(code: int) -> None:
    assert Life().second(xid(code)) is DeviceHealth.HEALTHY


@pytest.mark.parametrize(
    ("code", "remedy"), [(48, "reset"), (64, "reset"), (74, "reset"), (79, "reboot"), (95, "reset"), (119, "reset")]
)
def test_a_grave_xid_quarantines_at_once_and_names_the_remedy(code: int, remedy: str) -> None:
    life = Life()
    assert life.second(xid(code)) is DeviceHealth.QUARANTINED
    assert life.reason == f"xid_{code}"
    assert life.memory.verdict.remedy == remedy


@pytest.mark.parametrize("code", [63, 94, 92, 987])
def test_a_contained_or_unknown_xid_stops_new_work_until_it_has_been_quiet(code: int) -> None:
    life = Life()
    assert life.second(xid(code)) is DeviceHealth.SUSPECT
    assert life.seconds(59) is DeviceHealth.SUSPECT
    assert life.seconds(2) is DeviceHealth.HEALTHY


def test_time_alone_does_not_heal_a_quarantined_device() -> None:
    life = Life()
    life.second(xid(48))
    assert life.seconds(7_200) is DeviceHealth.QUARANTINED


def test_a_reset_makes_it_suspect_and_quiet_makes_it_healthy() -> None:
    life = Life()
    life.second(xid(95))
    life.restarted()
    assert life.second() is DeviceHealth.SUSPECT
    assert life.seconds(65) is DeviceHealth.HEALTHY


def test_a_reset_does_not_bring_back_memory_rows() -> None:
    life = Life()
    assert life.second(rows_failed=1) is DeviceHealth.RETIRED
    life.restarted()
    assert life.seconds(600) is DeviceHealth.RETIRED
    assert life.memory.verdict.remedy == "replace"


def test_a_person_can_release_a_device_and_is_overruled_by_the_next_sign() -> None:
    life = Life()
    life.second(xid(48))
    life.memory = release(life.memory, life.now_ms)
    assert life.memory.verdict.health is DeviceHealth.SUSPECT
    assert life.seconds(65) is DeviceHealth.HEALTHY
    life.second(rows_failed=1)
    life.memory = release(life.memory, life.now_ms)
    assert life.second(rows_failed=1) is DeviceHealth.RETIRED


@pytest.mark.parametrize(("action", "remedy"), [(1, "reset"), (2, "reboot"), (3, "drain"), (4, "reset"), (7, "reboot")])
def test_the_drivers_own_advice_quarantines_while_it_lasts(action: int, remedy: str) -> None:
    life = Life()
    assert life.second(recovery_action=action) is DeviceHealth.QUARANTINED
    assert life.memory.verdict.remedy == remedy
    assert life.second() is DeviceHealth.SUSPECT
    assert life.seconds(65) is DeviceHealth.HEALTHY


def test_a_lost_gpu_is_quarantined_until_it_was_restarted() -> None:
    life = Life()
    lost = Missing(MissingCause.GPU_IS_LOST)
    assert life.second(missing=lost) is DeviceHealth.QUARANTINED
    assert life.seconds(30) is DeviceHealth.QUARANTINED, "it answers again, but nobody reset it"
    life.restarted()
    assert life.second() is DeviceHealth.SUSPECT


@pytest.mark.parametrize(
    "cause", [MissingCause.HUNG, MissingCause.TIMEOUT, MissingCause.FROZEN, MissingCause.LAYOUT_CHANGED]
)
def test_not_seeing_a_device_changes_no_verdict(cause: MissingCause) -> None:
    life = Life()
    for _ in range(600):
        assert life.second(missing=Missing(cause)) is DeviceHealth.HEALTHY


def test_quiet_does_not_count_while_nobody_looks() -> None:
    life = Life()
    life.second(xid(94))
    for _ in range(300):
        assert life.second(missing=Missing(MissingCause.TIMEOUT)) is DeviceHealth.SUSPECT
    assert life.seconds(59) is DeviceHealth.SUSPECT
    assert life.seconds(3) is DeviceHealth.HEALTHY


def test_old_errors_are_no_news_and_new_ones_are() -> None:
    life = Life()
    assert life.seconds(5, ecc_uncorrected=7, nvlink_errors=3) is DeviceHealth.HEALTHY
    assert life.second(ecc_uncorrected=7, nvlink_errors=4) is DeviceHealth.SUSPECT
    assert life.second(ecc_uncorrected=8, nvlink_errors=4) is DeviceHealth.QUARANTINED


def test_a_short_brake_is_normal_and_a_long_one_is_not() -> None:
    life = Life()
    assert life.seconds(20, throttle_bits=0x8) is DeviceHealth.HEALTHY
    assert life.seconds(20, throttle_bits=0x8) is DeviceHealth.SUSPECT
    assert life.seconds(65, throttle_bits=0x4) is DeviceHealth.HEALTHY, "a software power cap is ordinary"


def foreign_for(life: Life, seconds: int) -> DeviceHealth:
    for _ in range(seconds):
        life.second(foreign=1)
    return life.memory.verdict.health


def test_a_foreign_process_stops_new_work_and_never_evicts_anybody() -> None:
    life = Life()
    for _ in range(20):
        assert foreign_for(life, 7) is DeviceHealth.SUSPECT
        assert life.reason == "foreign_process"
        assert life.seconds(62) is DeviceHealth.HEALTHY


def test_a_process_seen_before_its_worker_is_known_is_not_held_against_the_device() -> None:
    life = Life()
    assert foreign_for(life, 4) is DeviceHealth.HEALTHY
    assert life.seconds(10) is DeviceHealth.HEALTHY


def test_a_device_that_keeps_coming_back_is_quarantined_as_flapping() -> None:
    life = Life()
    for _ in range(4):
        assert life.second(xid(94)) is DeviceHealth.SUSPECT
        assert life.seconds(65) is DeviceHealth.HEALTHY
    assert life.second(xid(94)) is DeviceHealth.QUARANTINED
    assert life.reason == "flapping_xid_94"
    assert life.seconds(3_000) is DeviceHealth.QUARANTINED


def test_the_graver_of_two_signs_wins_and_since_keeps_the_first_time() -> None:
    life = Life()
    life.second(xid(48), xid(94))
    since_ms = life.memory.verdict.since_ms
    assert life.reason == "xid_48"
    life.second(xid(79))
    assert life.memory.verdict.since_ms == since_ms


def test_a_burst_of_the_same_xid_is_one_verdict() -> None:
    life = Life()
    life.second(*[xid(74)] * 50)
    assert life.memory.verdict.health is DeviceHealth.QUARANTINED
    assert len(life.memory.relapses_ms) == 1


def test_memory_of_health_survives_being_saved() -> None:
    life = Life()
    life.second(xid(48), throttle_bits=0x40)
    assert from_json(HealthMemory, to_json(life.memory)) == life.memory


def test_one_sample_shows_its_signs_without_a_verdict() -> None:
    sample = DeviceSample(device=GPU, gpu=GPU, at_ms=0, wear=replace(HEALTHY_WEAR, rows_failed=1, rows_pending=1))
    assert [sign.reason for sign in signs(sample)] == ["row_remap_failed", "remap_pending"]


def test_every_xid_in_the_table_has_a_meaning_and_unknown_ones_are_watched() -> None:
    assert all(one.meaning for one in XIDS.values())
    assert classify(31).action is XidAction.INFORM
    assert classify(4711).action is XidAction.WATCH


@pytest.mark.parametrize(
    ("health", "reset", "an_hour_later"),
    [
        (DeviceHealth.HEALTHY, DeviceHealth.HEALTHY, DeviceHealth.HEALTHY),
        (DeviceHealth.SUSPECT, DeviceHealth.SUSPECT, DeviceHealth.HEALTHY),
        (DeviceHealth.QUARANTINED, DeviceHealth.QUARANTINED, DeviceHealth.QUARANTINED),
        (DeviceHealth.RETIRED, DeviceHealth.RETIRED, DeviceHealth.RETIRED),
    ],
)
def test_the_verdict_of_somebody_else_is_kept_until_quiet_or_a_person_lifts_it(health, reset, an_hour_later) -> None:
    life = Life()
    verdict = HealthVerdict(device=GPU, health=health, reason="told", since_ms=life.now_ms, remedy="inform")
    life.memory = adopted(verdict)
    assert life.memory.verdict == verdict
    assert life.second() is reset
    life.restarted()
    assert life.second() is reset
    assert life.seconds(3_600) is an_hour_later


def test_a_quarantine_that_was_taken_over_ends_with_the_reset_that_it_asks_for() -> None:
    life = Life()
    life.memory = adopted(
        HealthVerdict(device=GPU, health=DeviceHealth.QUARANTINED, reason="xid_48", since_ms=1, remedy="reset")
    )
    life.second()
    life.restarted()
    assert life.second() is DeviceHealth.SUSPECT


WEAR = {
    "reset_required": (DeviceHealth.QUARANTINED, "reset", {"missing": Missing(MissingCause.RESET_REQUIRED)}),
    "gpu_is_lost": (DeviceHealth.QUARANTINED, "reboot", {"missing": Missing(MissingCause.GPU_IS_LOST)}),
    "recovery_action_3": (DeviceHealth.QUARANTINED, "drain", {"recovery_action": 3}),
    "recovery_action_99": (DeviceHealth.QUARANTINED, "inform", {"recovery_action": 99}),
    "row_remap_failed": (DeviceHealth.RETIRED, "replace", {"rows_failed": 1}),
    "row_remap_pending": (DeviceHealth.QUARANTINED, "reset", {"rows_pending": 1, "rows_uncorrected": 1}),
    "remap_pending": (DeviceHealth.SUSPECT, "reset", {"pages_pending": 1}),
    "remap_pending of a row": (DeviceHealth.SUSPECT, "reset", {"rows_pending": 1}),
    "nothing": (None, "", {"rows_uncorrected": 1}),
    "nothing read": (None, "", {"rows_failed": Missing(MissingCause.NO_DATA)}),
}


@pytest.mark.parametrize("reason", WEAR)
def test_what_one_sample_says_against_a_device_is_what_it_is_judged_for(reason: str) -> None:
    health, remedy, seen = WEAR[reason]
    missing = seen.get("missing")
    wear = Wear() if missing else replace(HEALTHY_WEAR, **seen)
    sample = DeviceSample(device=GPU, gpu=GPU, at_ms=5_000, wear=wear, missing=missing)
    told = [] if health is None else [(health, reason.partition(" ")[0], remedy)]
    assert [(one.health, one.reason, one.remedy) for one in signs(sample, [xid(31)])] == told
    verdict = judge(first_verdict(GPU, 0), sample, (), foreign=0, bounds=BOUNDS).verdict
    assert (verdict.health, verdict.reason, verdict.remedy) == (told or [(DeviceHealth.HEALTHY, "", "")])[0]


@pytest.mark.parametrize(
    ("kind", "health", "remedy"),
    [
        ("ecc_uncorrected", DeviceHealth.QUARANTINED, "reset"),
        ("ecc_storm", DeviceHealth.SUSPECT, "inform"),
        ("poison", DeviceHealth.QUARANTINED, "reset"),
        ("unavailable", DeviceHealth.QUARANTINED, "reboot"),
        ("retirement_failed", DeviceHealth.RETIRED, "replace"),
        ("of a driver to come", DeviceHealth.HEALTHY, ""),
    ],
)
def test_each_event_of_the_driver_has_its_verdict_and_remedy(kind: str, health: DeviceHealth, remedy: str) -> None:
    life = Life()
    assert life.second(HealthEvent(device=GPU, kind=kind, code=0, at_ms=0, sequence=1)) is health
    assert life.memory.verdict.remedy == remedy


def test_times_are_kept_to_the_millisecond() -> None:
    life = Life()
    life.second(xid(94))
    life.now_ms += BOUNDS.quiet_ms - 1_001
    assert life.second() is DeviceHealth.SUSPECT
    life.now_ms -= 999
    assert life.second() is DeviceHealth.HEALTHY, "a minute after the last sign"
    for wear, least_ms in (({"throttle_bits": 0x80}, BOUNDS.throttle_ms), ({"foreign": 1}, BOUNDS.foreign_ms)):
        other = Life()
        other.second(**wear)
        other.now_ms += least_ms - 1_001
        assert other.second(**wear) is DeviceHealth.HEALTHY
        other.now_ms -= 999
        assert other.second(**wear) is DeviceHealth.SUSPECT


def test_a_brake_that_is_not_seen_for_a_moment_goes_on_and_one_that_ended_begins_anew() -> None:
    for between, found in ((Missing(MissingCause.TIMEOUT), DeviceHealth.SUSPECT), (0, DeviceHealth.HEALTHY)):
        life = Life()
        life.seconds(20, throttle_bits=0x40)
        life.second(throttle_bits=between)
        assert life.seconds(12, throttle_bits=0x40) is found


def test_relapses_are_forgotten_after_exactly_an_hour() -> None:
    for late_ms, found in ((0, DeviceHealth.SUSPECT), (-1, DeviceHealth.QUARANTINED)):
        life = Life()
        life.second(xid(94))
        first_ms = life.now_ms
        for _ in range(3):
            life.seconds(65)
            life.second(xid(94))
        life.seconds(65)
        life.now_ms = first_ms + BOUNDS.relapse_window_ms + late_ms - 1_000
        assert life.second(xid(94)) is found


def test_a_device_that_flaps_and_must_be_replaced_is_to_be_replaced() -> None:
    life = Life()
    for _ in range(4):
        life.second(xid(94))
        life.seconds(65)
    assert life.second(rows_failed=1) is DeviceHealth.RETIRED
    assert (life.reason, life.memory.verdict.remedy) == ("row_remap_failed", "replace")
    life.restarted()
    assert life.seconds(100) is DeviceHealth.RETIRED


def test_another_reason_of_the_same_verdict_does_not_change_since_when_it_holds() -> None:
    life = Life()
    life.second(xid(94))
    since_ms = life.memory.verdict.since_ms
    assert since_ms == life.now_ms
    life.second(xid(63))
    assert (life.reason, life.memory.verdict.since_ms) == ("xid_63", since_ms)
    life.second(xid(48))
    assert life.memory.verdict.since_ms == life.now_ms
    life.restarted()
    life.second()
    assert (life.reason, life.memory.verdict.since_ms) == ("xid_48", life.now_ms), "suspect, and still why"


def test_a_grave_sign_that_is_not_repeated_is_the_reason_until_a_reset_whatever_is_said_besides() -> None:
    life = Life()
    life.second(xid(48))
    life.second(xid(94), nvlink_errors=5)
    assert life.reason == "xid_48"
    life.second(recovery_action=1)
    assert life.reason == "xid_48", "of two as grave, the one that stays"


def test_a_gpu_that_was_never_read_before_was_not_reset() -> None:
    life = Life()
    life.second(xid(48))
    memory = replace(life.memory, energy_mj=None)
    life.memory = memory
    life.restarted()
    assert life.second() is DeviceHealth.QUARANTINED
    life.energy -= 70_000
    assert life.second() is DeviceHealth.QUARANTINED, "the same figure twice is no reset"


@pytest.mark.parametrize(
    ("name", "found"), [("ecc_uncorrected", DeviceHealth.QUARANTINED), ("nvlink_errors", DeviceHealth.SUSPECT)]
)
def test_an_error_counter_that_is_unreadable_for_a_while_is_compared_with_its_last_value(name, found) -> None:
    for last, verdict in ((7, DeviceHealth.HEALTHY), (8, found)):
        life = Life()
        for count in (7, Missing(MissingCause.TIMEOUT), last):
            life.second(**({"ecc_uncorrected": 30, "nvlink_errors": 30} | {name: count}))
        assert life.memory.verdict.health is verdict


def test_a_person_who_releases_a_device_starts_its_time_of_quiet_and_clears_its_relapses() -> None:
    life = Life()
    for _ in range(4):
        life.second(xid(94))
        life.seconds(65)
    life.second(xid(94))
    life.memory = release(life.memory, life.now_ms)
    assert life.memory.verdict.since_ms == life.now_ms
    assert life.seconds(59) is DeviceHealth.SUSPECT
    assert life.second() is DeviceHealth.HEALTHY
    assert life.second(xid(94)) is DeviceHealth.SUSPECT
