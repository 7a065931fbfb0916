"""The benchmark reads what is published, says what it measured, and refuses what it cannot read."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from cluster.cli.main import outcome
from cluster.packing.bench import curves_of, measure
from cluster.packing.exact import bound, small_settings
from cluster.packing.isolated import in_two_domains
from cluster.packing.runs import Files, run
from cluster.packing.trace import Arrivals, Host, Setting, Size, read_hosts, read_tasks, setting
from policies.packing.engine import POLICIES, place_all

NODES = "sn,cpu_milli,memory_mib,gpu,model\nn0,16000,65536,2,A\nn1,8000,32768,1,B\n"
TASKS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
    "t0,1000,1024,1,600,\nt1,1000,1024,1,400,\nt2,1000,1024,1,1000,B\nt3,1000,1024,2,1000,\nt4,4000,1024,0,0,\n"
)
LINE = {"trace": "tiny", "seed": 7, "arrival_rows": [0, 4, 2, 1, 3, 0], "node_rank": [1, 0]}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    nodes, tasks, inputs = tmp_path / "nodes.csv", tmp_path / "pod_list_tiny.csv.gz", tmp_path / "inputs.jsonl.xz"
    nodes.write_text(NODES)
    with gzip.open(tasks, "wt") as packed:
        packed.write(TASKS)
    with lzma.open(inputs, "wt") as packed:
        packed.write(json.dumps(LINE) + "\n")
    return Files(nodes=nodes, tasks=tasks, inputs=inputs)


def arguments(files: Files, *more: str) -> list[str]:
    return ["bench", "packing", "--nodes", str(files.nodes), "--tasks", str(files.tasks),
            "--inputs", str(files.inputs), *more]  # fmt: skip


def test_the_command_prints_what_it_measured_as_json(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(arguments(files, "--policy", "all", "--moves", "1", "-o", "json")) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["policy"] for one in said["runs"]] == [*POLICIES, "partage, 1 % moved"]
    for one in said["runs"]:
        assert set(one["alloc_pct_at"]) == set(one["frag_pct_of_total_at"]) == {"80", "90", "100", "130"}
        assert one["trace"] == "tiny"
        assert one["seed"] == 7
        assert one["failed_tasks"] >= 1, "more is asked for than there is"
        assert one["decisions_per_s"] > 0
    assert "smallest rank" in said["tie_rule"]


def test_ties_go_to_the_smallest_rank(files: Files) -> None:
    one = setting(read_hosts(files.nodes), read_tasks(files.tasks), Arrivals("tiny", 7, (4,), (1, 0)))
    game = place_all(one.fleet, one.kinds, one.typical, one.arrivals, "gpu_packing")
    assert [one.hosts[node] for node in game.nodes] == [1], "the second node of the file ranks first"


@pytest.mark.parametrize(
    ("more", "words"),
    [(("--policy", "tetris"), "tetris"), (("--seed", "8"), "seed 8"), (("--trace", "other"), "other")],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(
    files: Files, more: tuple[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(arguments(files, *more)) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("nodes", "sn,cpu_milli\nn0,1\n"),
        ("nodes", NODES.replace("16000", "many")),
        ("nodes", NODES.replace("16000", "-1")),
    ],
)
def test_a_file_that_is_not_a_trace_is_refused(
    files: Files, name: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    getattr(files, name).write_text(content)
    assert outcome(arguments(files)) == 1
    assert "bad_trace" in capsys.readouterr().err


def test_the_curves_are_means_of_rounded_events_by_percent_asked_for() -> None:
    curves = curves_of(np.array([500, 1000, 1004]), np.array([500, 1000, 1000]), np.array([250.0, 0.0, 0.0]), 1000)
    assert curves.alloc_pct[50] == 50.0
    assert curves.alloc_pct[100] == 100.0
    assert curves.frag_pct_of_total[50] == 25.0
    assert curves.frag_pct_of_idle[50] == 50.0
    assert np.isnan(curves.alloc_pct[20])
    assert curves.alloc_pct[51] == 50.0, "an empty bucket takes its neighbours' events"


def tiny(arrivals: tuple[int, ...], hosts: int = 2) -> Setting:
    sizes = [Size(1_000, 1_024, 1, 600, ""), Size(1_000, 1_024, 1, 400, ""), Size(1_000, 1_024, 1, 1000, "")]
    return setting(
        [Host(f"n{i}", 8_000, 32_768, 2, "A") for i in range(hosts)],
        sizes,
        Arrivals("t", 1, arrivals, tuple(range(hosts))),
    )


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_no_rule_allocates_more_than_the_exact_bound(policy: str) -> None:
    one = tiny((0, 1, 2, 0, 1, 0, 0, 2))
    best = bound(one)
    game = place_all(one.fleet, one.kinds, one.typical, one.arrivals, policy)
    held = int((one.kinds.devices * one.kinds.millis)[one.arrivals][game.nodes >= 0].sum())
    assert best.is_exact
    assert held <= best.at_most_millis == best.found_millis == 4_000


def test_small_fleets_are_cut_from_a_large_one() -> None:
    cut = small_settings(tiny((0, 1, 2) * 20, hosts=6), nodes=2, percent=100, number=2)
    assert [len(one.fleet.cpu) for one in cut] == [2, 2]
    assert all(len(one.arrivals) > 0 for one in cut)


def test_two_domains_never_share_a_device_and_pay_for_it() -> None:
    one = tiny((0, 1) * 6)
    apart = in_two_domains(one, 50)
    game = place_all(apart.fleet, apart.kinds, apart.typical, apart.arrivals, "partage")
    owners: dict[tuple[int, int], set[int]] = {}
    for kind, node, device in zip(apart.arrivals, game.nodes, game.devices, strict=True):
        if node >= 0:
            owners.setdefault((int(node), int(device)), set()).add(int(apart.kinds.domain[kind]))
    assert owners
    assert all(len(domains) == 1 for domains in owners.values())
    together = measure(in_two_domains(one, 0), "t", "partage", 1)
    assert together.alloc_pct_at == measure(one, "t", "partage", 1).alloc_pct_at


def test_results_are_the_same_every_time(files: Files) -> None:
    first, second = (run(files, "all") for _ in range(2))
    assert [one.alloc_pct_at for one in first] == [one.alloc_pct_at for one in second]
