"""Every alert rings when it must, is quiet at a near miss, and names its page."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from cluster.dashboards.alerts.devices import CRITICAL_XIDS
from cluster.dashboards.alerts.rules import every_alert, rule_file, write
from policies.evidence.xid import XidAction, classify
from tests.cluster.dashboards.alert_cases import CASES
from tests.cluster.dashboards.programs import require

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "helm/partage/files/rules.yaml"


def promtool_test(name, case, series, firing):
    return {
        "interval": case.step,
        "name": f"{name} {'rings' if firing else 'is quiet'}",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) > bool 0',
                "eval_time": case.at,
                "exp_samples": [{"labels": "{}", "value": 1}] if firing else [],
            }
        ],
    }


def alone(name):
    """Return the shipped rules of this alert by themselves; they rest on none of the others."""
    groups = yaml.safe_load(SHIPPED.read_text())["groups"]
    assert not any("record" in rule or "ALERTS" in rule["expr"] for group in groups for rule in group["rules"])
    return {
        "groups": [{**group, "rules": [rule for rule in group["rules"] if rule["alert"] == name]} for group in groups]
    }


def promtool(*arguments, cwd=None):
    return subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_every_alert_has_a_case_and_no_case_is_left_over():
    assert {alert.name for alert in every_alert()} == set(CASES)


def test_the_shipped_rules_are_the_ones_in_the_code(tmp_path):
    write(tmp_path / "rules.yaml")
    assert (tmp_path / "rules.yaml").read_text() == SHIPPED.read_text()


def test_every_alert_names_its_page_and_its_severity():
    for group in rule_file("https://books")["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["runbook_url"] == f"https://books/{rule['alert']}.md"
            assert rule["labels"]["severity"] in ("critical", "warning", "info")


@pytest.mark.system
def test_prometheus_accepts_the_rules():
    require("promtool")
    checked = promtool("check", "rules", str(SHIPPED))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.system
@pytest.mark.parametrize("name", CASES)
def test_it_rings_when_it_must_and_is_quiet_at_a_near_miss(name, tmp_path):
    require("promtool")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(alone(name)))
    case = CASES[name]
    tests = [promtool_test(name, case, case.rings, True), promtool_test(name, case, case.quiet, False)]
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(document))
    result = promtool("test", "rules", "case.yaml", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_page_of_the_xid_alert_says_what_each_number_asks_for_and_the_rules_agree():
    page = (ROOT / "runbooks/GpuXidCritical.md").read_text()
    listed = {int(number) for row in re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE) for number in row.split(",")}
    assert listed == set(CRITICAL_XIDS)
    assert all(classify(xid).action not in {XidAction.INFORM, XidAction.WATCH} for xid in CRITICAL_XIDS)
