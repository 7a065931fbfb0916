"""A turn costs more on a larger cluster, in proportion to it; what a move writes does not grow at all."""

from __future__ import annotations

from tests.benchmarks.bench_kubernetes import act, observe
from tests.benchmarks.kubernetes_site import Site

NOW_MS = 1_800_000_000_000
SMALL, LARGE = Site(nodes=40, clusters=8), Site(nodes=160, clusters=8)


def test_the_picture_of_a_site_four_times_as_large_has_four_times_the_bytes() -> None:
    small, large = observe(SMALL, NOW_MS), observe(LARGE, NOW_MS)
    assert len(large["snapshot"].workers) == 4 * len(small["snapshot"].workers) == LARGE.gpus
    assert large["first_list_mib"] <= 4.2 * small["first_list_mib"]
    assert large["copies_mib"] <= 4.5 * small["copies_mib"]
    assert large["snapshot"].gaps == ()


def test_a_copy_keeps_less_than_what_was_listed_of_pods_and_nodes() -> None:
    seen = observe(LARGE, NOW_MS)
    assert seen["bytes_per_event"]["nodes"] > 5_000
    assert seen["copies_mib"] < 2 * seen["first_list_mib"]


def test_moves_of_a_plan_cost_one_write_each_and_one_per_cluster_whatever_the_size_of_the_site() -> None:
    few, many = act(SMALL, 4), act(LARGE, 4)
    assert few["writes"] == many["writes"] == 4 + 2
    assert many["requests"] - few["requests"] <= 4
