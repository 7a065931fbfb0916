"""`partage mig`: how idle GPUs should be divided, in the words of mig-parted."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.documents import policy_in, snapshot_in
from cluster.cli.pure import PolicyFile, SnapshotFile
from cluster.cli.reading import OutputKind
from cluster.cli.screen import Column, Output, say, show, warn_if_simulated

if TYPE_CHECKING:
    from policies.fleet.layouts import Proposal

app = typer.Typer(
    help="Layouts of GPUs that MIG divides: proposed by demand, never changed here.", no_args_is_help=True
)

COLUMNS = [
    Column(title="NODE", cell=lambda row: row["node"]),
    Column(title="GPU", cell=lambda row: row["gpu"]),
    Column(title="DOMAIN", cell=lambda row: row["domain"]),
    Column(title="LAYOUT", cell=lambda row: ", ".join(f"{one['profile']} at {one['start']}" for one in row["layout"])),
]


@app.callback()
def mig() -> None:
    """Divide GPUs as demand asks for it."""


@app.command()
def propose(
    snapshot: SnapshotFile,
    policy: PolicyFile,
    indexes: Annotated[
        Path | None,
        typer.Option(
            "--indexes", help="Of one host: nvidia-smi --query-gpu=index,uuid --format=csv,noheader. Prints its config."
        ),
    ] = None,
    output: OutputKind = Output.TABLE,
) -> None:
    """Say how idle GPUs should be divided for the claims that wait for MIG instances. Changes nothing.

    A GPU on which a worker stands is left as it is. With --indexes the answer is the configuration of mig-parted for
    that host, to be applied with: nvidia-mig-parted apply -f FILE -c partage.
    """
    from policies.decide import decide
    from policies.fleet.layouts import proposals
    from policies.model.codec import to_plain
    from policies.model.memory import Memory

    seen, rules = snapshot_in(snapshot), policy_in(policy)
    found = proposals(seen, decide(seen, rules, Memory(), seen.observed_at_ms), rules)
    warn_if_simulated(simulated=any(device.simulated for device in seen.devices))
    if indexes is not None:
        chosen = Output.YAML if output in {Output.TABLE, Output.WIDE, Output.NAME} else output
        show(_configuration(found, indexes), [], chosen)
        return
    show([to_plain(one) for one in found], COLUMNS, output)
    if not found:
        say("no claim waits for MIG instances that an idle GPU could give")


def _configuration(found: tuple[Proposal, ...], indexes: Path) -> dict[str, Any]:
    """Return the configuration of mig-parted for the host whose GPUs the file numbers."""
    from policies.fleet.mig import mig_parted

    with indexes.open(encoding="utf-8", newline="") as lines:
        number = {row[1].strip(): int(row[0]) for row in csv.reader(lines) if len(row) > 1}
    return mig_parted({number[one.gpu]: one.layout for one in found if one.gpu in number})
