"""What `-o` prints: the part of kubectl's JSONPath that people use, and tables that fit a narrow terminal."""

from __future__ import annotations

import pytest

from cluster.cli.columns import claim_columns, clock, reservation_columns
from cluster.cli.door import overview
from cluster.cli.jsonpath import PathInvalid, evaluate
from cluster.cli.main import outcome
from cluster.cli.screen import Column, Output, OutputUnknown, table

CLAIMS = [
    {"claim": {"id": "a:one", "max_replicas": 2}, "groups": [{"state": "running"}, {"state": "starting"}]},
    {"claim": {"id": "b:two", "max_replicas": 3}, "groups": []},
]


@pytest.mark.parametrize(
    ("expression", "printed"),
    [
        ("{[*].claim.id}", "a:one b:two"),
        ("[0].claim.id", "a:one"),
        ("{[-1].claim.max_replicas}", "3"),
        ("{[0].groups[*].state}", "running starting"),
        ("{[0].groups[?(@.state=='starting')].state}", "starting"),
        ("{[*]['claim']['id']}", "a:one b:two"),
        ("{..state}", "running starting"),
        ("{[0].claim.id} has {[0].claim.max_replicas}", "a:one has 2"),
        ('{[0].claim.id}{"\\n"}{[1].claim.id}', "a:one\nb:two"),
        ("{[5].claim.id}", ""),
        ("{[1].groups}", "[]"),
    ],
)
def test_a_path_finds_what_kubectl_would_find(expression: str, printed: str) -> None:
    assert evaluate(expression, CLAIMS) == printed


def test_a_path_that_cannot_be_read_is_refused_with_the_part_that_is_wrong() -> None:
    with pytest.raises(PathInvalid, match=r"cannot read '\[\?'"):
        evaluate("{.items[?}", {"items": []})


def test_a_narrow_terminal_loses_the_most_dispensable_columns_first_and_is_told_which() -> None:
    columns = [
        Column(title="NAME", cell=lambda row: row["name"]),
        Column(title="KIND", cell=lambda _: "serving", spare=1),
        Column(title="CLASS", cell=lambda _: "standard", spare=2),
    ]
    rows = [{"name": "n" * 20}]
    assert "CLASS" in table(rows, columns).splitlines()[0]
    narrow = table(rows, columns, 31)
    assert narrow.splitlines()[0].split() == ["NAME", "KIND"]
    assert narrow.splitlines()[-1] == "(too narrow for CLASS; -o wide shows all)"
    assert table(rows, columns, 10).splitlines()[0].split() == ["NAME"]


def test_a_column_that_left_for_nothing_comes_back() -> None:
    columns = [
        Column(title="A", cell=lambda _: "a"),
        Column(title="WIDE", cell=lambda _: "w" * 30, spare=1),
        Column(title="SLIM", cell=lambda _: "s", spare=2),
    ]
    assert table([{}], columns, 20).splitlines()[0].split() == ["A", "SLIM"]


def test_times_say_their_zone() -> None:
    kept = {
        "id": "civil/x:exams", "flavor": "H100-80GB", "gpu_millis": 1000, "starts_at_ms": 0, "ends_at_ms": 3_600_000,
    }  # fmt: skip
    title, row = table([kept], reservation_columns(0), 100).splitlines()
    assert "FROM, UTC" in title
    assert "TO, UTC" in title
    assert "1970-01-01 00:00" in row
    assert clock(45_296_789) == "12:34:56.789Z"


def test_claims_fit_in_80_columns() -> None:
    reason = {
        "wanted_replicas": 2,
        "granted_replicas": 1,
        "rung": 0,
        "state": "degraded",
        "code": "WAITING_FOR_QUOTA",
        "position": 1,
        "eta_ms": 900_000,
    }
    claim = {
        "id": "civil/justice:assistant",
        "kind": "serving",
        "model": "smollm2-135m-instruct",
        "priority_class": "standard",
        "submitted_at_ms": 1,
        "ladder": [1],
    }
    row = {"claim": claim, "reason": reason, "groups": []}
    shown = table([row], [column for column in claim_columns(10_000) if not column.wide], 80)
    assert max(map(len, shown.splitlines()[:-1])) <= 80
    assert all(word in shown for word in ("civil/justice:assistant", "degraded", "WAITING_FOR_QUOTA"))


def test_an_unknown_way_to_print_is_answered_with_the_nearest() -> None:
    with pytest.raises(OutputUnknown, match="did you mean 'json'"):
        Output.parse("jsn")
    assert Output.parse("jsonpath={.id}").path == "{.id}"


def test_the_first_screen_loads_nothing_and_is_the_same_by_every_door(capsys: pytest.CaptureFixture[str]) -> None:
    import subprocess
    import sys

    seen = "import sys, cluster.cli.door as door; print(door.overview(), sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True).stdout
    assert "'cluster.cli.door'" in loaded
    assert "  get           List claims" in loaded
    for heavy in (
        "typer",
        "pydantic",
        "rich",
        "yaml",
        "httpx",
        "fastapi",
        "ray",
        "policies.model.codec",
        "cluster.cli.reading",
    ):
        assert f"'{heavy}'" not in loaded, heavy
    assert outcome(["--help"]) == 0
    assert capsys.readouterr().out.startswith(overview().split("From other")[0].rstrip())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["completion", shell]) == 0
    assert "_PARTAGE_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [(["policy", "lnt"], "did you mean 'lint'?"), (["model", "canary", "xyz"], "there is no command 'xyz'")],
)
def test_an_unknown_command_of_a_group_is_answered_with_the_nearest(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(words) == 2
    assert told in capsys.readouterr().err
