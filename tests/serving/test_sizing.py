"""`partage size`: what a purchase is planned with says what it rests on, and its rehearsal keeps the promise."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer import Typer
from typer.testing import CliRunner

from policies.capacity import Load, Promise, Sizing, Speed, Tokens, measure
from policies.model.catalogue import Model, Variant
from policies.model.workload import Shape
from serving.cli_size import size
from serving.sizing import UnknownWorkload, accelerators, busiest, needs, rehearse, workload, workloads

SPEED = Speed(slots=4, answer_tokens_per_s=50, prompt_tokens_per_s=10_000)
LENGTHS = Tokens(p50=100, p90=300)
app = Typer()
app.command()(size)


def load(per_hour: int, variation: int = 1000) -> Load:
    return Load(requests_per_hour=per_hour, variation_permille=variation, prompt=LENGTHS, answer=LENGTHS)


def model(**changes: object) -> Model:
    shape = Shape(flavors=("H100-80GB",), gpu_millis=500, memory_mib=20_000, quality=1000, concurrency=16)
    variant = Variant(
        id="small-fp8", engine="vllm", precision="fp8", weights="w", weights_mib=8_000, shapes=(shape,),
        tokens_per_s=80, provenance="published: somebody",
    )  # fmt: skip
    return Model(id="small", variants=(replace(variant, **changes),), context_tokens=8192)


@pytest.mark.parametrize("per_hour", [3_000, 9_000, 20_000])
def test_the_formula_is_close_to_a_queue_that_is_lived_through_when_arrivals_are_random(per_hour: int) -> None:
    replicas = next(n for n in range(1, 99) if (m := measure(load(per_hour), SPEED, n)) and m.busy_permille < 800)
    by_formula = measure(load(per_hour), SPEED, replicas)
    assert isinstance(by_formula, Sizing)
    lived = rehearse(load(per_hour), SPEED, replicas, seed=1)
    assert by_formula.first_token_p95_ms == pytest.approx(lived, rel=0.5, abs=150)


def test_bursts_that_the_formula_underrates_get_more_replicas_from_the_rehearsal() -> None:
    asked = load(60_000, 8_000)
    need = needs(model(), asked, Promise(first_token_ms=1_000, token_ms=40))[0]
    assert need.replicas >= need.formula_replicas
    assert need.first_token_p95_ms <= 1_000
    assert not need.refusal


def test_the_same_seed_rehearses_the_same_day() -> None:
    assert rehearse(load(9_000), SPEED, 3, seed=4) == rehearse(load(9_000), SPEED, 3, seed=4)
    assert rehearse(load(9_000), SPEED, 3, seed=4) != rehearse(load(9_000), SPEED, 3, seed=5)


def test_a_variant_whose_speed_nobody_measured_is_refused_and_not_guessed() -> None:
    need = needs(model(tokens_per_s=0), load(10), Promise(first_token_ms=1_000, token_ms=40))[0]
    assert "its speed is not known" in need.refusal
    assert need.replicas == 0


def test_every_shipped_workload_says_where_its_figures_come_from() -> None:
    for one in workloads().values():
        assert one.provenance
        assert one.per_user_per_year or one.requests_per_hour
    assert all(one.provenance for one in accelerators().values())


def test_the_busiest_hour_of_the_published_ministry_is_the_one_derived_from_its_year() -> None:
    busy = busiest(workload("admin-assistant"), 100_000, None)
    assert busy.requests_per_hour == 9_500 * 4, (
        "19 million requests a year over 2000 hours, four times that at the peak"
    )


def test_an_unknown_workload_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownWorkload, match="admin-assistant"):
        workload("chat")


def test_the_command_prints_devices_and_what_they_rest_on() -> None:
    asked = ["--model", "ministral-3-8b", "--profile", "admin-assistant", "--users", "100000"]
    said = CliRunner().invoke(app, asked)
    assert said.exit_code == 0, said.output
    assert "38000 requests in the busiest hour" in said.output
    assert "GenIAl" in said.output
    plain = json.loads(CliRunner().invoke(app, [*asked, "-o", "json"]).output)
    assert max(variant["replicas"] for variant in plain["variants"]) >= 1, "of those whose speed is known"
    assert CliRunner().invoke(app, ["--model", "none", "--profile", "doc-watch"]).exit_code == 3
