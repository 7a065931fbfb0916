"""Devices are known by UUID, with the memory that a claim can really have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.kubernetes.agent import described
from cluster.observe.nvml import Inventory, inventory
from cluster.observe.telemetry.topology import islands
from policies.model.inventory import SharingMode
from policies.model.snapshot import Gap, GapKind
from policies.model.telemetry import DeviceFacts
from policies.model.units import DeviceId
from tests.cluster.observe.telemetry.conftest import NODE, Rig
from tests.cluster.observe.telemetry.fake_node import PROFILES, FakeNode, b200, h100, h100_mig, l40s


def listed(rig: Rig, node: FakeNode) -> Inventory:
    rig.show(node)
    answer = inventory(NODE)
    assert isinstance(answer, Inventory)
    return answer


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_listed_with_flavors_and_usable_memory(rig: Rig, profile: str) -> None:
    seen = listed(rig, FakeNode(gpus=[PROFILES[profile](0), PROFILES[profile](1)]))
    flavors = {flavor.id: flavor for flavor in seen.flavors}
    for device in seen.devices:
        assert device.flavor in flavors
        assert 0 < device.memory_mib <= flavors[device.flavor].memory_mib
        assert device.node == NODE
    assert seen.driver == "590.48.01"
    assert seen.cuda == "13.1"


def test_the_reserve_of_the_driver_is_nobodys_to_claim(rig: Rig) -> None:
    seen = listed(rig, FakeNode(gpus=[h100()]))
    assert seen.devices[0].memory_mib == 81559 - 479


def test_mig_instances_stand_in_for_their_gpu_and_name_it(rig: Rig) -> None:
    gpu = h100_mig()
    seen = listed(rig, FakeNode(gpus=[gpu, h100(1)]))
    instances = [device for device in seen.devices if device.gpu == gpu.uuid]
    assert gpu.uuid not in {device.id for device in seen.devices}
    assert sorted(device.flavor for device in instances) == [
        "H100-80GB-MIG-1g.10gb",
        "H100-80GB-MIG-1g.10gb",
        "H100-80GB-MIG-2g.20gb",
        "H100-80GB-MIG-3g.40gb",
    ]
    sharing = {flavor.id: flavor.sharing for flavor in seen.flavors}
    assert sharing["H100-80GB-MIG-3g.40gb"] is SharingMode.MIG
    assert sharing["H100-80GB"] is SharingMode.EXCLUSIVE


def test_a_gpu_says_what_it_could_be_divided_into_whether_or_not_it_is(rig: Rig) -> None:
    whole, divided = h100(0), h100_mig(1)
    facts = {fact.device: fact for fact in listed(rig, FakeNode(gpus=[whole, divided])).facts}
    names = [offer.name for offer in facts[DeviceId(whole.uuid)].mig_offers]
    assert names == ["7g.80gb", "4g.40gb", "3g.40gb", "2g.20gb", "1g.20gb", "1g.10gb", "1g.10gb+me"]
    assert facts[DeviceId(divided.uuid)].mig_offers == facts[DeviceId(whole.uuid)].mig_offers
    assert divided.mig
    assert facts[DeviceId(divided.mig[0].uuid)].mig_offers == ()


def test_a_profile_without_a_name_is_named_by_its_slices_its_memory_and_its_media_engines(rig: Rig) -> None:
    gpu = h100(offers={0: ("", 1, 7, 9856, 16), 7: ("", 1, 1, 9856, 16), 15: ("", 1, 1, 9856, 16)})
    (fact,) = listed(rig, FakeNode(gpus=[gpu])).facts
    assert [offer.name for offer in fact.mig_offers] == ["1g.10gb", "1g.10gb+me", "1g.10gb+me.all"]
    assert fact.mig_offers[0].most == 7


def test_a_gpu_or_driver_without_mig_offers_nothing_and_that_is_no_gap(rig: Rig) -> None:
    seen = listed(rig, FakeNode(gpus=[l40s(), h100(1, offers={})]))
    assert [fact.mig_offers for fact in seen.facts] == [(), ()]
    assert seen.gaps == ()


def test_the_same_devices_in_another_order_are_the_same_inventory(rig: Rig) -> None:
    first = listed(rig, FakeNode(gpus=[h100(0), h100(1), b200(2)]))
    second = listed(rig, FakeNode(gpus=[b200(2), h100(1), h100(0)]))
    assert first.devices == second.devices


def test_gpus_joined_by_nvlink_know_one_another(rig: Rig) -> None:
    one, other = h100(0), h100(1)
    seen = listed(rig, FakeNode(gpus=[one, other]))
    assert seen.facts[0].peers == ((other.uuid, "nvlink"),)
    apart = listed(rig, FakeNode(gpus=[l40s(0), l40s(1)]))
    assert apart.facts[0].peers[0][1] == "host_bridge"


def test_gpus_that_nvlink_joins_are_one_island_and_others_are_on_none(rig: Rig) -> None:
    switched = listed(rig, FakeNode(gpus=[h100(index) for index in range(4)]))
    assert {device.island for device in switched.devices} == {switched.devices[0].id}
    bridged = [h100(index, bridge=index // 2) for index in range(4)]
    island = {device.id: device.island for device in listed(rig, FakeNode(gpus=bridged)).devices}
    one, other, third, last = (DeviceId(gpu.uuid) for gpu in bridged)
    assert island[one] == island[other] == min(one, other)
    assert island[third] == island[last] == min(third, last)
    assert {device.island for device in listed(rig, FakeNode(gpus=[l40s(0), l40s(1)])).devices} == {""}
    assert [device.island for device in listed(rig, FakeNode(gpus=[h100(0)])).devices] == [""]


def test_the_agent_reports_the_island_of_each_device_that_is_on_one(rig: Rig) -> None:
    seen = listed(rig, FakeNode(gpus=[h100(0), h100(1), h100_mig(2)]))
    reported = [fact["island"] for fact in described(seen) if "island" in fact]
    assert reported == [min(h100(0).uuid, h100(1).uuid)] * 2


def test_an_island_is_all_that_is_reached_from_one_gpu_to_the_next() -> None:
    def fact(name: str, *peers: str, **state: bool) -> DeviceFacts:
        linked = tuple((DeviceId(peer), "nvlink") for peer in peers)
        return DeviceFacts(
            device=DeviceId(name), gpu=DeviceId(name), node=NODE, index=0, name="V100", memory_total_mib=1,
            peers=linked, **state,
        )  # fmt: skip

    chain = [fact("a", "b"), fact("b", "a", "c"), fact("c", "b"), fact("d", "gone")]
    assert islands(chain) == {DeviceId("a"): "a", DeviceId("b"): "a", DeviceId("c"): "a"}
    assert islands([fact("a", "b"), fact("b", "a", mig_enabled=True)]) == {}


def test_a_gpu_divided_by_mig_is_on_no_island(rig: Rig) -> None:
    seen = listed(rig, FakeNode(gpus=[h100_mig(0), h100(1), h100(2)]))
    whole = [device for device in seen.devices if device.flavor == "H100-80GB"]
    assert len({device.island for device in whole}) == 1
    assert {device.island for device in seen.devices if device not in whole} == {""}


def test_a_lost_gpu_is_a_gap_and_the_others_are_listed(rig: Rig) -> None:
    lost, fine = h100(0, fails={"*": (15, 0)}), h100(1)
    seen = listed(rig, FakeNode(gpus=[lost, fine]))
    assert [device.id for device in seen.devices] == [fine.uuid]
    assert [(gap.kind, gap.subject, gap.cause) for gap in seen.gaps] == [
        (GapKind.DEVICE, f"{NODE}/gpu0", "gpu_is_lost")
    ]


@pytest.mark.parametrize(
    ("code", "cause"),
    [(9, "driver_not_loaded"), (18, "library_mismatch"), (4, "no_permission"), (999, "restart_needed")],
)
def test_a_driver_that_does_not_start_is_a_gap_with_its_cause(rig: Rig, code: int, cause: str) -> None:
    rig.show(FakeNode(gpus=[h100()], init_code=code))
    gap = inventory(NODE)
    assert isinstance(gap, Gap)
    assert (gap.kind, gap.subject, gap.cause) == (GapKind.NODE, NODE, cause)


def test_an_old_driver_without_the_newer_calls_still_lists_its_devices(object_rig: Rig) -> None:
    node = FakeNode(gpus=[h100()], absent={"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetArchitecture"})
    seen = listed(object_rig, node)
    assert seen.devices[0].memory_mib == 81559


LIST = "from cluster.observe.nvml import inventory; seen = inventory('node-1'); print(getattr(seen, 'cause', seen))"


def listed_by_a_new_process(environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", LIST]
    root = Path(__file__).parents[4]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(root), **environment}, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@pytest.mark.elsewhere
def test_a_machine_without_the_library_is_a_gap_not_a_machine_without_gpus() -> None:
    answer = listed_by_a_new_process({}).strip()
    if answer.startswith("Inventory("):
        pytest.skip("this machine has an NVIDIA driver")
    assert answer in {"library_not_found", "driver_not_loaded"}


@pytest.mark.system
def test_the_bindings_find_the_library_on_the_loaders_path_by_themselves(library: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text(FakeNode(gpus=[h100(), b200(1)]).to_text())
    answer = listed_by_a_new_process({"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML_STATE": str(state)})
    assert "H100-80GB" in answer
    assert "B200" in answer


@pytest.mark.system
def test_a_library_older_than_the_bindings_lists_its_devices(old_library: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text(FakeNode(gpus=[h100()]).to_text())
    answer = listed_by_a_new_process({"LD_LIBRARY_PATH": str(old_library.parent), "FAKE_NVML_STATE": str(state)})
    assert "memory_mib=81559" in answer, "the reserve is not told apart"
