"""`partage bench`: measure the placement scores on a published trace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.reading import OutputKind
from cluster.cli.screen import Column, Output, show

if TYPE_CHECKING:
    from cluster.packing.bench import Result

app = typer.Typer(help="Measurements that anybody can repeat.", no_args_is_help=True)

BOUND = Column(title="BOUND%@100", cell=lambda row: row.get("bound_pct_at_100"), right=True, spare=1)
COLUMNS = (
    Column(title="TRACE", cell=lambda row: row["trace"]),
    Column(title="POLICY", cell=lambda row: row["policy"]),
    Column(title="SEED", cell=lambda row: row["seed"], right=True),
    Column(title="ALLOC%@90", cell=lambda row: row["alloc_pct_at"]["90"], right=True),
    Column(title="ALLOC%@100", cell=lambda row: row["alloc_pct_at"]["100"], right=True),
    BOUND,
    Column(title="FRAG%@100", cell=lambda row: row["frag_pct_of_total_at"]["100"], right=True),
    Column(title="FAILED", cell=lambda row: row["failed_tasks"], right=True),
    Column(title="DECISIONS/S", cell=lambda row: round(row["decisions_per_s"]), right=True),
    Column(title="ALLOC%@80", cell=lambda row: row["alloc_pct_at"]["80"], right=True, wide=True),
    Column(title="ALLOC%@130", cell=lambda row: row["alloc_pct_at"]["130"], right=True, wide=True),
    Column(title="SECONDS", cell=lambda row: row["seconds"], right=True, wide=True),
)


@app.callback()
def bench() -> None:
    """Measure, with the conditions said beside the figures."""


@app.command()
def packing(
    *,
    nodes: Annotated[Path, typer.Option("--nodes", help="CSV: sn, cpu_milli, memory_mib, gpu, model.")],
    tasks: Annotated[Path, typer.Option("--tasks", help="CSV: cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec.")],
    inputs: Annotated[Path, typer.Option("--inputs", help="JSONL: trace, seed, arrival_rows, node_rank.")],
    policy: Annotated[str, typer.Option("--policy", help="Name of a placement score, or all.")] = "partage",
    seed: Annotated[int | None, typer.Option("--seed", help="Only this seed of the inputs.")] = None,
    trace: Annotated[str | None, typer.Option("--trace", help="Trace in the inputs, if not said by the file.")] = None,
    moves: Annotated[
        float | None, typer.Option("--moves", metavar="PERCENT", help="Also with at most so many tasks moved.")
    ] = None,
    plots: Annotated[Path | None, typer.Option("--plots", metavar="DIR", help="Draw the curves as PNG there.")] = None,
    bound: Annotated[bool, typer.Option("--bound", help="Also what no rule can exceed (HiGHS, from highspy).")] = False,
    output: OutputKind = Output.TABLE,
) -> None:
    """Replay a GPU trace task by task and say how much of the fleet each placement score fills.

    Files may be .gz or .xz. Example: partage bench packing --nodes openb_node_list_gpu_node.csv
    --tasks openb_pod_list_default.csv.gz --inputs exact_inputs.jsonl.xz --policy partage --seed 42 -o json
    """
    from cluster.packing.bench import TIE_RULE
    from cluster.packing.runs import Files, ceilings, run

    files = Files(nodes=nodes, tasks=tasks, inputs=inputs, trace=trace)
    results = run(files, policy, seed, moves)
    drawn = _draw(results, plots) if plots else []
    most = ceilings(files, seed) if bound else {}
    rows: list[dict[str, Any]] = [
        one.as_json() | ({"bound_pct_at_100": most[one.seed]} if bound else {}) for one in results
    ]
    if output.is_data:
        show({"tie_rule": TIE_RULE, "runs": rows, "plots": drawn}, COLUMNS, output)
    else:
        show(rows, [column for column in COLUMNS if bound or column is not BOUND], output)


def _draw(results: list[Result], folder: Path) -> list[str]:
    from cluster.packing.plot import draw

    return [str(path) for path in draw(results, folder)]
