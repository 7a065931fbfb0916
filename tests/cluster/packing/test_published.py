"""The published rules are reproduced to the last digit; partage is measured against them, on the same seeds."""

from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest

from cluster.packing.bench import measure
from cluster.packing.runs import Files, chosen, run
from cluster.packing.trace import read_hosts, read_tasks, setting
from policies.packing.engine import fragments, place_all
from tests.cluster.packing.published import FGD, INPUTS, NAMES, NODES, needs_published, tasks_of

EXACT = sorted(set(NAMES.values()) - {"random"})


def files(trace: str) -> Files:
    return Files(nodes=NODES, tasks=tasks_of(trace), inputs=INPUTS, trace=trace)


def published(trace: str, policy: str, seed: int) -> dict[str, float]:
    with (FGD / "published_per_seed.csv").open() as stream:
        for row in csv.DictReader(stream):
            if (row["trace"], NAMES[row["policy"]], row["seed"]) == (trace, policy, str(seed)):
                return {percent: float(row[f"alloc_pct_at_{percent}"]) for percent in ("80", "90", "100", "130")}
    raise AssertionError((trace, policy, seed))


@pytest.mark.elsewhere
@needs_published
@pytest.mark.parametrize("trace", ["default", "gpuspec20", "multigpu30"])
@pytest.mark.parametrize("policy", EXACT)
def test_a_published_rule_allocates_what_was_published(trace: str, policy: str) -> None:
    (result,) = run(files(trace), policy, seed=42)
    assert result.alloc_pct_at == pytest.approx(published(trace, policy, 42), abs=0.02)


@pytest.mark.elsewhere
@needs_published
@pytest.mark.parametrize("policy", EXACT)
def test_a_published_rule_places_every_task_where_the_exact_rerun_placed_it(policy: str) -> None:
    hosts, tasks = read_hosts(NODES), read_tasks(tasks_of("default"))
    (order,) = chosen(files("default"), 42)
    one = setting(hosts, tasks, order)
    game = place_all(one.fleet, one.kinds, one.typical, one.arrivals, policy)
    fragment = fragments(one.fleet, game)
    with gzip.open(FGD / "golden_placements_default_seed42.csv.gz", "rt") as stream:
        golden = [row for row in csv.DictReader(stream) if NAMES[row["policy"]] == policy]
    names = [hosts[row].name for row in one.hosts]
    assert [names[node] if node >= 0 else "" for node in game.nodes] == [row["node"] for row in golden]
    assert [str(device) if device >= 0 else "" for device in game.devices] == [row["gpu_index"] for row in golden]
    assert fragment == pytest.approx(np.array([float(row["frag_gpu_milli"]) for row in golden]), abs=0.02)


@pytest.mark.elsewhere
@needs_published
def test_an_empty_fleet_has_the_published_fragment() -> None:
    hosts, tasks = read_hosts(NODES), read_tasks(tasks_of("default"))
    (order,) = chosen(files("default"), 42)
    one = setting(hosts, tasks, order)
    game = place_all(one.fleet, one.kinds, one.typical, one.arrivals[:1], "fgd")
    assert one.kinds.devices[one.arrivals[0]] == 0, "the first arrival takes CPUs alone"
    before = fragments(one.fleet, game._replace(nodes=np.array([-1])))[0]
    assert before == pytest.approx(866_232.55, abs=0.01)


@pytest.mark.elsewhere
@needs_published
@pytest.mark.parametrize(
    ("trace", "points"),
    [("default", 0.8), ("cpu100", 0.5), ("gpushare40", 0.4), ("gpushare60", 0.7), ("gpuspec20", 1.0),
     ("multigpu20", 0.5), ("multigpu30", 0.3)],
)  # fmt: skip
def test_partage_fills_more_of_the_fleet_than_the_best_published_rule(trace: str, points: float) -> None:
    hosts, tasks = read_hosts(NODES), read_tasks(tasks_of(trace))
    for order in chosen(files(trace), None)[:2]:
        result = measure(setting(hosts, tasks, order), trace, "partage", order.seed)
        best = published(trace, "fgd", order.seed)
        assert (result.alloc_pct_at["100"] or 0) - best["100"] >= points
        assert (result.alloc_pct_at["90"] or 0) - best["90"] >= -1.0


@pytest.mark.elsewhere
@needs_published
def test_placement_at_random_is_as_bad_as_published() -> None:
    (result,) = run(files("default"), "random", seed=42)
    assert result.alloc_pct_at["100"] == pytest.approx(published("default", "random", 42)["100"], abs=1.0)
