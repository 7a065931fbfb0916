"""The devices of this node in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policies.evidence.health import signs
from policies.evidence.xid import classify
from policies.model.telemetry import (
    DeviceFacts,
    DeviceSample,
    HealthEvent,
    Missing,
    MissingCause,
    NodeReport,
    ProcessUse,
    Reading,
)
from policies.model.units import DeviceId

LIGHT, MODERATE = 10, 75
"""Bounds of nvitop's bands in percent of utilisation: light below the first, heavy from the second."""
MEMORY_LIGHT, MEMORY_MODERATE = 10, 80
BLIND = "-"
EVENTS_SHOWN = 4
WHAT_TO_DO = {
    MissingCause.LIBRARY_NOT_FOUND: "no NVIDIA driver is installed here, or its library is not in this container",
    MissingCause.DRIVER_NOT_LOADED: "the driver is installed and not loaded: load it, or restart the node",
    MissingCause.LIBRARY_MISMATCH: "library and loaded driver are of two releases: restart the node",
    MissingCause.RESTART_NEEDED: "this process lost its access to the devices: start it, or its container, again",
    MissingCause.NO_PERMISSION: "this user may not ask the driver",
    MissingCause.HUNG: "the driver does not come back: look at the kernel's log",
}
"""By why there is no telemetry of the node at all."""


def band(percent: int, light: int = LIGHT, moderate: int = MODERATE) -> str:
    """Return the colour of a share: green while light, yellow while moderate, red when heavy."""
    if percent < light:
        return "green"
    return "yellow" if percent < moderate else "red"


def screen(report: NodeReport) -> RenderableType:
    """Return one frame: a line about the node, a line per device, a line per process. 80 columns are enough."""
    parts: list[RenderableType] = [_header(report)]
    if report.samples:
        parts.append(_devices(report))
        parts += _events(report)
        parts.append(_processes(report))
    return Group(*parts)


def _header(report: NodeReport) -> Text:
    if report.missing is not None:
        detail = f" ({report.missing.detail})" if report.missing.detail else ""
        advice = WHAT_TO_DO.get(report.missing.cause, "")
        said = f"{report.node}: no telemetry: {report.missing.cause}{detail}"
        return Text(f"{said}\n{advice}" if advice else said, style="red")
    return Text(f"{report.node}  driver {report.driver}  CUDA {report.cuda}  round {report.sequence}")


def _devices(report: NodeReport) -> Table:
    facts = {fact.device: fact for fact in report.facts}
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold", width=80)
    table.add_column("GPU", width=5, no_wrap=True)
    table.add_column("device", width=20, no_wrap=True, overflow="ellipsis")
    for name, width in (("SM%", 4), ("mem GiB", 11), ("W", 7), ("C", 3), ("health", 20)):
        table.add_column(name, width=width, justify="left" if name == "health" else "right", no_wrap=True)
    for sample in sorted(report.samples, key=lambda one: _place(facts, one)):
        fact = facts.get(sample.device)
        if fact is not None:
            table.add_row(*_row(fact, sample, [one for one in report.events if one.device == sample.device]))
    return table


def _events(report: NodeReport) -> list[RenderableType]:
    """Return a line for each of the last few things that the driver reported, the newest last."""
    places = {fact.device: _index(fact) for fact in report.facts}
    return [_event(event, places.get(event.device, BLIND)) for event in report.events[-EVENTS_SHOWN:]]


def _event(event: HealthEvent, place: str) -> Text:
    at = datetime.fromtimestamp(event.at_ms // 1000, UTC).strftime("%H:%M:%S")
    found = classify(event.code)
    said = f"XID {event.code}: {found.meaning}; {found.action}" if event.kind == "xid" else event.kind
    return Text(f"{at}Z GPU {place} {said}", style="red", no_wrap=True, overflow="ellipsis")


def _place(facts: dict[DeviceId, DeviceFacts], sample: DeviceSample) -> tuple[int, int, str]:
    fact = facts.get(sample.device)
    if fact is None:
        return (0, 0, sample.device)
    return (fact.index, -1 if fact.gpu_instance is None else fact.gpu_instance, sample.device)


def _row(fact: DeviceFacts, sample: DeviceSample, events: Iterable[HealthEvent]) -> tuple[Text, ...]:
    name = f"  MIG {fact.mig_profile}" if fact.mig_profile else fact.name.removeprefix("NVIDIA ")
    index = _index(fact)
    if sample.missing is not None:
        blank = (Text(BLIND),) * 4
        return (Text(index), Text(name), *blank, Text(sample.missing.cause, style="red"))
    load = sample.load
    return (
        Text(index),
        Text(name),
        _share(load.activity_permille()),
        _memory(load.memory_used_mib, fact.memory_total_mib),
        _number(load.power_mw, 1000),
        _number(load.temperature_c, 1),
        _condition(sample, events),
    )


def _index(fact: DeviceFacts) -> str:
    return str(fact.index) if fact.gpu_instance is None else f"{fact.index}:{fact.gpu_instance}"


def _share(reading: Reading) -> Text:
    if isinstance(reading, Missing):
        return Text(BLIND)
    percent = reading // 10
    return Text(str(percent), style=band(percent))


def _memory(used: Reading, total_mib: int) -> Text:
    if isinstance(used, Missing):
        return Text(BLIND)
    percent = used * 100 // max(1, total_mib)
    return Text(f"{used / 1024:.1f}/{total_mib / 1024:.0f}", style=band(percent, MEMORY_LIGHT, MEMORY_MODERATE))


def _number(reading: Reading, per: int) -> Text:
    return Text(BLIND if isinstance(reading, Missing) else str(reading // per))


def _condition(sample: DeviceSample, events: Iterable[HealthEvent]) -> Text:
    found = signs(sample, events)
    return Text(", ".join(sign.reason for sign in found), style="red") if found else Text("ok", style="green")


def _processes(report: NodeReport) -> RenderableType:
    places = {fact.device: _index(fact) for fact in report.facts}
    samples = report.samples
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold", width=80)
    for name, width in (("pid", 8), ("GPU", 5), ("user", 12), ("mem MiB", 8), ("SM%", 4), ("command", 37)):
        right = name in ("pid", "mem MiB", "SM%")
        table.add_column(name, width=width, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    rows = [process for sample in samples if not isinstance(sample.processes, Missing) for process in sample.processes]
    for process in sorted(rows, key=_largest_first):
        table.add_row(
            str(process.pid),
            places.get(process.device, BLIND),
            process.user or BLIND,
            _number(process.memory_mib, 1),
            _share(process.sm_percent * 10 if isinstance(process.sm_percent, int) else process.sm_percent),
            process.application or process.command or BLIND,
        )
    return table if rows else Text("no processes", style="dim")


def _largest_first(process: ProcessUse) -> tuple[int, int]:
    return (-process.memory_mib if isinstance(process.memory_mib, int) else 0, process.pid)
