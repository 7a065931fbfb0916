"""A node as a fake NVML shows it: state that tests change while the code under test runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

MIB = 1 << 20
FIELD_TYPES = {"energy": (83, 3), "memory_temperature": (82, 1), "recovery": (230, 1)}


@dataclass
class FakeProcess:
    pid: int
    memory_mib: int | None
    sm: int = 0


@dataclass
class FakeInstance:
    """A MIG instance."""

    uuid: str
    gpu_instance: int
    slices: int
    memory_mib: int
    sm_count: int
    used_mib: int = 0
    sm_util: float = 0.0
    processes: list[FakeProcess] = field(default_factory=list)


@dataclass
class FakeGpu:
    """A GPU. Amounts are raw NVML numbers unless a unit is in the name."""

    uuid: str
    name: str
    total_mib: int
    reserved_mib: int = 479
    used_mib: int = 0
    util: int = 0
    memory_util: int = 0
    power_mw: int = 69_850
    power_limit_mw: int = 700_000
    temperature: int = 41
    memory_temperature: int = 48
    energy_mj: int = 1_000_000
    sm_clock: int = 1980
    memory_clock: int = 2619
    architecture: int = 9
    throttle: int = 1
    gpm: bool = True
    sm_util: float = 0.0
    tensor_util: float = 0.0
    dram_util: float = 0.0
    nvlinks: int = 18
    bridge: int = 0
    """GPUs with the same number reach each other over NVLink, if they have links at all."""
    mig: list[FakeInstance] | None = None
    offers: dict[int, tuple[str, int, int, int, int]] = field(default_factory=dict)
    """MIG profile number to name, slices, most instances, MiB and SMs."""
    processes: list[FakeProcess] = field(default_factory=list)
    fields: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Field number to return code, value type and value; over those made from the rest."""
    fails: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Function (``*`` for all, look-up included) to return code and the calls that still work before it, for ever."""
    hangs: set[str] = field(default_factory=set)
    """Functions that do not come back before ``FakeNode.released`` is set."""

    def field_values(self) -> dict[int, tuple[int, int, int]]:
        """Return field number -> (return code, value type, value)."""
        made = {
            83: (0, 3, self.energy_mj),
            82: (0, 1, self.memory_temperature),
            230: (0, 1, 0),
            3: (0, 3, 0),
            4: (0, 3, 0),
            142: (0, 1, 0),
            143: (0, 1, 0),
            144: (0, 1, 0),
            145: (0, 1, 0),
            94: (0, 1, 0),
        }
        if self.nvlinks:
            made |= {38: (0, 3, 0), 45: (0, 3, 0), 52: (0, 3, 0), 59: (0, 3, 0), 138: (0, 3, 4096), 139: (0, 3, 8192)}
        return made | self.fields


@dataclass
class FakeNode:
    """Everything that the fake libraries answer from."""

    gpus: list[FakeGpu]
    driver: str = "590.48.01"
    cuda: int = 13010
    init_code: int = 0
    absent: set[str] = field(default_factory=set)
    """Functions that this driver does not have. The C library is built without them."""
    events: list[tuple[int, int, int, int]] = field(default_factory=list)
    """GPU index, event type, data, GPU instance; each is delivered once."""
    released: threading.Event = field(default_factory=threading.Event)

    def to_text(self) -> str:
        """Return the state as the C library reads it."""
        lines = [f"driver {self.driver}", f"cuda {self.cuda}", f"init {self.init_code}"]
        lines += [f"event {gpu} {kind} {data} {instance}" for gpu, kind, data, instance in self.events]
        for gpu in self.gpus:
            lines += _gpu_lines(gpu)
        return "\n".join(lines) + "\n"


def _gpu_lines(gpu: FakeGpu) -> list[str]:
    numbers = {
        "total": gpu.total_mib * MIB,
        "reserved": gpu.reserved_mib * MIB,
        "used": gpu.used_mib * MIB,
        "util": gpu.util,
        "memutil": gpu.memory_util,
        "power": gpu.power_mw,
        "limit": gpu.power_limit_mw,
        "temp": gpu.temperature,
        "smclock": gpu.sm_clock,
        "memclock": gpu.memory_clock,
        "arch": gpu.architecture,
        "throttle": gpu.throttle,
        "gpm": int(gpu.gpm),
        "sm": round(gpu.sm_util * 1000),
        "tensor": round(gpu.tensor_util * 1000),
        "dram": round(gpu.dram_util * 1000),
        "nvlinks": gpu.nvlinks,
        "bridge": gpu.bridge,
        "mig": int(gpu.mig is not None),
    }
    lines = [f"gpu {gpu.uuid} {gpu.name.replace(' ', '_')}"]
    lines += [f"set {key} {value}" for key, value in numbers.items()]
    lines += [f"field {number} {code} {kind} {value}" for number, (code, kind, value) in gpu.field_values().items()]
    lines += [f"fail {function} {code} {after}" for function, (code, after) in gpu.fails.items()]
    lines += [f"hang {function}" for function in gpu.hangs]
    lines += [
        f"offer {number} {slices} {most} {size} {sms} {name}"
        for number, (name, slices, most, size, sms) in gpu.offers.items()
    ]
    lines += _process_lines(gpu.processes)
    for instance in gpu.mig or []:
        lines += [
            f"mig {instance.uuid}",
            f"set total {instance.memory_mib * MIB}",
            f"set used {instance.used_mib * MIB}",
            "set reserved 0",
            f"set gi {instance.gpu_instance}",
            f"set slices {instance.slices}",
            f"set sms {instance.sm_count}",
            f"set sm {round(instance.sm_util * 1000)}",
        ]
        lines += _process_lines(instance.processes)
    return lines


def _process_lines(processes: list[FakeProcess]) -> list[str]:
    return [f"proc {one.pid} {-1 if one.memory_mib is None else one.memory_mib * MIB} {one.sm}" for one in processes]


H100_OFFERS = {
    0: ("1g.10gb", 1, 7, 9856, 16),
    1: ("2g.20gb", 2, 3, 20096, 32),
    2: ("3g.40gb", 3, 2, 40448, 60),
    3: ("4g.40gb", 4, 1, 40448, 64),
    4: ("7g.80gb", 7, 1, 81152, 132),
    7: ("1g.10gb+me", 1, 1, 9856, 16),
    9: ("1g.20gb", 1, 4, 20096, 26),
}
"""What `nvidia-smi mig -lgip` shows on an H100 80GB."""


def h100(number: int = 0, **changes: object) -> FakeGpu:
    """Return an idle H100 as the real capture of driver 590.48.01 shows it."""
    known: dict[str, object] = {"offers": H100_OFFERS, **changes}
    return FakeGpu(
        uuid=f"GPU-{number:08x}-aaaa-bbbb-cccc-000000000000", name="NVIDIA H100 80GB HBM3", total_mib=81559, **known
    )  # type: ignore[arg-type] # the caller names fields


def h100_mig(number: int = 0) -> FakeGpu:
    """Return an H100 divided as in the real capture: 3g.40gb, 2g.20gb, two 1g.10gb."""
    layout = [(1, 3, 40448, 60), (5, 2, 19968, 32), (9, 1, 9856, 16), (10, 1, 9856, 16)]
    instances = [
        FakeInstance(
            uuid=f"MIG-{number:04x}{gi:04x}-1111-2222-3333-444444444444",
            gpu_instance=gi,
            slices=slices,
            memory_mib=size,
            sm_count=sms,
        )
        for gi, slices, size, sms in layout
    ]
    return h100(number, mig=instances)


def h200(number: int = 0) -> FakeGpu:
    return FakeGpu(uuid=f"GPU-{number:08x}-2000-bbbb-cccc-000000000000", name="NVIDIA H200", total_mib=143771)


def b200(number: int = 0) -> FakeGpu:
    return FakeGpu(
        uuid=f"GPU-{number:08x}-b200-bbbb-cccc-000000000000",
        name="NVIDIA B200",
        total_mib=183359,
        architecture=10,
        power_limit_mw=1_000_000,
    )


def a100(number: int = 0) -> FakeGpu:
    """Before Hopper: no GPM."""
    return FakeGpu(
        uuid=f"GPU-{number:08x}-a100-bbbb-cccc-000000000000",
        name="NVIDIA A100-SXM4-40GB",
        total_mib=40960,
        architecture=7,
        gpm=False,
        nvlinks=12,
        power_limit_mw=400_000,
    )


def l40s(number: int = 0) -> FakeGpu:
    """No NVLink, no MIG, no GPM, no row remapping counters of HBM."""
    return FakeGpu(
        uuid=f"GPU-{number:08x}-1405-bbbb-cccc-000000000000",
        name="NVIDIA L40S",
        total_mib=46068,
        architecture=8,
        gpm=False,
        nvlinks=0,
        power_limit_mw=350_000,
        fields={82: (3, 0, 0)},
    )


PROFILES = {"A100": a100, "H100": h100, "H100 with MIG": h100_mig, "H200": h200, "B200": b200, "L40S": l40s}
