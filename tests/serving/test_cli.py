"""``partage model`` and ``partage usage`` as an operator meets them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import yaml
from typer.testing import CliRunner

from serving.cli import app
from serving.ledger import Ledger, UsageRecord
from serving.report import as_csv, as_html, summarise


def partage(*arguments: str, home: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments, "--home", str(home)])
    return done.exit_code, done.output


def record(**changes: object) -> UsageRecord:
    plain = {
        "at_ms": 1_795_400_000_000,
        "request_id": "r",
        "tenant": "civil/tax",
        "key_prefix": "p",
        "operation": "chat",
        "model": "small",
        "variant": "v",
        "status": 200,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "gpu_ms": 600,
    }
    return UsageRecord(**(plain | changes))


def test_the_list_fits_a_terminal_and_the_wide_one_says_whether_figures_are_measured(tmp_path: Path) -> None:
    status, said = partage("model", "list", home=tmp_path)
    assert status == 0
    assert "smollm2-135m-q4-0" in said
    assert max(len(line.rstrip()) for line in said.splitlines()) <= 80
    assert "measured" in partage("model", "list", "-o", "wide", home=tmp_path)[1]
    status, said = partage("model", "list", "-o", "json", home=tmp_path)
    assert {model["id"] for model in json.loads(said)} >= {"smollm2-135m-instruct"}


def test_an_unknown_model_is_status_3_and_named(tmp_path: Path) -> None:
    status, said = partage("model", "show", "gpt-9", home=tmp_path)
    assert status == 3
    assert "gpt-9" in said


def test_a_model_of_the_site_needs_the_sha256_of_its_weights(tmp_path: Path) -> None:
    variant = {"id": "own-v", "engine": "llama_cpp", "precision": "q8_0", "weights": "own/w.gguf", "weights_mib": 1}
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump([{"id": "own", "context_tokens": 1, "variants": [variant]}]))
    status, said = partage("model", "add", str(file), home=tmp_path / "home")
    assert (status, "sha256" in said) == (1, True)
    variant["sha256"] = "a" * 64
    file.write_text(yaml.safe_dump([{"id": "own", "context_tokens": 1, "variants": [variant]}]))
    assert partage("model", "add", str(file), home=tmp_path / "home")[0] == 0
    assert "own-v" in partage("model", "list", home=tmp_path / "home")[1]
    assert partage("model", "add", str(file), home=tmp_path / "home")[0] == 5


def test_usage_adds_up_by_tenant_model_and_variant(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger" / "civil")
    for each in (
        record(),
        record(),
        record(status=503, prompt_tokens=0, completion_tokens=0),
        record(tenant="civil/x"),
    ):
        ledger.append(each)
    ledger.flush()
    status, said = partage("usage", "show", "--month", "2026-11", "-o", "json", home=tmp_path)
    assert status == 0
    first, second = json.loads(said)
    assert (first["tenant"], first["requests"], first["failed"], first["prompt_tokens"]) == ("civil/tax", 3, 1, 20)
    assert first["gpu_seconds"] == 1
    assert second["tenant"] == "civil/x"
    assert json.loads(partage("usage", "show", "--month", "2026-10", "-o", "json", home=tmp_path)[1]) == []
    assert partage("usage", "verify", home=tmp_path)[0] == 0


def test_a_report_runs_nothing_in_a_spreadsheet_or_a_browser() -> None:
    rows = summarise([record(tenant="=cmd()", model="<script>alert(1)</script>")])
    cells = list(csv.reader(io.StringIO(as_csv(rows))))[1]
    assert cells[0] == "'=cmd()"
    assert "<script" not in as_html(rows, "Usage <b>")


def test_a_ledger_that_was_changed_is_status_1_and_says_where(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger" / "civil")
    ledger.append(record())
    ledger.append(record())
    ledger.flush()
    (file,) = (tmp_path / "ledger" / "civil").iterdir()
    file.write_text(file.read_text().replace('"prompt_tokens":10', '"prompt_tokens":1', 1))
    status, said = partage("usage", "verify", home=tmp_path)
    assert status == 1
    assert ":2:" in said
