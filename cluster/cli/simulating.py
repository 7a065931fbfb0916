"""`partage simulate`: what a trace would come to under one policy, or under several side by side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.documents import policy_in, snapshot_in, text_in
from cluster.cli.reading import OutputKind
from cluster.cli.screen import Column, Output, Row, say, show, span

if TYPE_CHECKING:
    from cluster.sim.course import Report
    from cluster.sim.world import World

MOST_DEVICES = 10_000


def _share(row: Row, part: float) -> str:
    """Return the wait that this part of those who were served did not exceed."""
    waited = row["waited_s"]
    return span(waited[max(0, math.ceil(part * len(waited)) - 1)]) if waited else "-"


COLUMNS = [
    Column(title="POLICY", cell=lambda row: row["policy"]),
    Column(title="TENANT", cell=lambda row: row["tenant"]),
    Column(title="CLAIMS", cell=lambda row: row["claims"], right=True),
    Column(title="NEVER IN FULL", cell=lambda row: row["never_served"], right=True),
    Column(title="WAIT P50", cell=lambda row: _share(row, 0.5), right=True),
    Column(title="P95", cell=lambda row: _share(row, 0.95), right=True),
    Column(title="GPU HOURS", cell=lambda row: f"{row['gpu_s'] / 3600:.1f}", right=True),
    Column(title="EVICTIONS", cell=lambda row: row["evictions"], right=True),
    Column(title="BELOW FLOOR", cell=lambda row: span(row["below_floor_s"]), right=True),
]


def simulate(
    *,
    trace: Annotated[Path, typer.Option("--trace", help="CSV, one claim a line.")],
    policy: Annotated[
        list[Path],
        typer.Option("--policy", help="Policy document. Several are set side by side: --policy A --policy B."),
    ],
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Hosts of the simulated fleet.")] = 1,
    devices: Annotated[int, typer.Option("--devices", min=1, help="H100 devices on each host.")] = 4,
    snapshot: Annotated[
        Path | None, typer.Option("--snapshot", help="Take nodes and devices from a saved snapshot instead.")
    ] = None,
    output: OutputKind = Output.TABLE,
) -> None:
    """Live through a trace of claims in virtual time, with the real decision, and say who waited, held and lost what.

    Columns of the trace: at_s, claim (tenant:name), kind (serving or job), priority_class, replicas, devices,
    gpu_millis, memory_mib, duration_s. Nothing real is touched. Example: partage simulate --trace week.csv
    --policy now.yaml --policy proposed.yaml --nodes 3 --devices 8
    """
    from cluster.sim.trace import parse
    from policies.model.codec import to_plain

    if nodes * devices > MOST_DEVICES:
        raise typer.BadParameter(f"{nodes} nodes of {devices} devices are more than {MOST_DEVICES} devices")
    arrivals = parse(text_in(trace), str(trace))
    reports: list[dict[str, Any]] = []
    for path in policy:
        report = _lived(policy_in(path), arrivals, _fleet(nodes, devices, snapshot))
        reports.append(to_plain(report))
    if output.is_data:
        show(reports, [], output)
        return
    show([row | {"policy": one["policy"]} for one in reports for row in one["tenants"]], COLUMNS, output)
    for one in reports:
        say(
            f"{one['policy']}: {span(one['virtual_s'])} on {one['devices']} devices, "
            f"{one['busy_permille'] / 10:.1f} % of their time held, "
            f"{one['domain_changes']} changes of domain, {one['turns']} decisions"
        )


def _fleet(nodes: int, devices: int, snapshot: Path | None) -> World:
    from cluster.sim.world import World

    world = World()
    if snapshot is None:
        for number in range(nodes):
            world.add_node(f"node-{number + 1}", devices)
        return world
    seen = snapshot_in(snapshot)
    world.flavors = seen.flavors
    world.nodes = {node.id: node for node in seen.nodes}
    world.devices = {device.id: device for device in seen.devices}
    return world


def _lived(policy: Any, arrivals: Any, world: World) -> Report:
    """Return the report; on a terminal with a bar, since a long trace takes minutes."""
    from rich.console import Console
    from rich.progress import Progress

    from cluster.sim.course import Course

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"policy {policy.revision}", total=len(arrivals))
        course = Course(policy, arrivals, world, progress=lambda done, _all: bar.update(task, completed=done))
        return course.run()
