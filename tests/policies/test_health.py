"""A device is trusted until something speaks against it, and again only after quiet, a reset or a person's word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.health import HealthBounds, HealthMemory, first_verdict, judge, release, signs
from policies.model.codec import from_json, to_json
from policies.model.inventory import DeviceHealth
from policies.model.telemetry import DeviceSample, HealthEvent, Load, Missing, MissingCause, Wear
from policies.model.units import DeviceId
from policies.xid import XIDS, XidAction, classify

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
