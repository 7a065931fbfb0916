"""Every page has its four parts, every link leads somewhere, and every command block runs on a platform."""

import contextlib
import io
import re
import shlex
from pathlib import Path
from string import Template

import pytest

from cluster.cli.main import COMMANDS, outcome
from cluster.dashboards.alerts.rules import every_alert
from policies.model.decision import PendingReason
from policies.model.routing import KEY_PREFIX_CHARACTERS
from tests import simulated_platform

BOOKS = Path(__file__).parents[2] / "runbooks"
ALERTS = sorted({alert.name for alert in every_alert()})
BACKGROUND = {"packing", "faults", "kubernetes-scale", "deciding"}
"""Pages to read at leisure: figures and tables, not for an incident."""
PAGES = sorted(path for path in BOOKS.rglob("*.md") if "decisions" not in path.parts and path.stem not in BACKGROUND)
HEADINGS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]
BLOCK = re.compile(r"^(?P<indent> *)(?:\d+\. )?```(?P<kind>\w*)\n(?P<body>.*?)^ *```", re.MULTILINE | re.DOTALL)
KINDS = {"sh", "console", "yaml"}
EXPLAINED_WHERE_USED = {"KEY_PREFIX", "ANA", "LUC", "DECLARATION", "CONNINFO"}
STATUS = re.compile(r"#\s*status (?P<allowed>\d(?: or \d)*)")


def blocks(page, kind):
    return [found["body"] for found in BLOCK.finditer(page.read_text()) if found["kind"] == kind]


def commands(page):
    """Return each command line of the page that a test can run, with the statuses that the page allows."""
    for body in blocks(page, "sh"):
        for line in filter(None, (each.strip() for each in body.splitlines())):
            allowed = STATUS.search(line)
            statuses = [int(each) for each in allowed["allowed"].split(" or ")] if allowed else [0]
            yield line.partition(" #")[0], statuses


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_page_with_its_four_parts_in_order(alert):
    text = (BOOKS / f"{alert}.md").read_text()
    assert text.startswith(f"# {alert}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == HEADINGS
    parts = re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]
    assert all(len(part.split()) >= 4 for part in parts)


def test_no_page_is_left_of_an_alert_that_is_gone():
    assert {page.stem for page in BOOKS.glob("*.md")} - {"README", *BACKGROUND} == set(ALERTS)


def test_the_first_page_leads_to_every_other():
    text = (BOOKS / "README.md").read_text()
    assert [page.name for page in PAGES if page.name != "README.md" and f"{page.relative_to(BOOKS)})" not in text] == []


def test_the_first_page_leads_to_the_pages_for_leisure_last():
    text = (BOOKS / "README.md").read_text().partition("## To read at leisure")[2]
    assert all(f"({name}.md)" in text for name in BACKGROUND)


def test_the_decision_tree_names_only_reasons_that_exist():
    tree = (BOOKS / "README.md").read_text().partition("## Alerts")[0]
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", tree))
    assert named
    assert named <= {reason.value for reason in PendingReason}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_of_a_kind_that_somebody_checks(page):
    assert {found["kind"] for found in BLOCK.finditer(page.read_text())} <= KINDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_for_hosts_are_whole_lines_of_known_programs(page):
    known = {
        "systemctl",
        "nvidia-smi",
        "dmesg",
        "ping",
        "kubectl",
        "curl",
        "ps",
        "df",
        "iostat",
        "sqlite3",
        "pg_dump",
        "psql",
        "sha256sum",
        "helm",
        "make",
        "python3",
    }
    for body in blocks(page, "console"):
        for line in filter(None, (each.strip() for each in body.splitlines())):
            assert shlex.split(line)[0] in known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_ours_exists(page):
    for line, _ in commands(page):
        words = shlex.split(line)
        assert words[0] == "partage"
        assert words[1] in COMMANDS


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with simulated_platform.running(tmp_path_factory.mktemp("home")) as found:
        yield found


@pytest.fixture
def desk(platform, tmp_path, monkeypatch):
    """Sit down at a desk: the documents lie there, the policy is in force, the claims are served."""
    monkeypatch.chdir(tmp_path)
    for name, value in platform.variables.items():
        monkeypatch.setenv(name, value)
    simulated_platform.documents(tmp_path)
    assert run("partage apply -f policy.yaml")[0] == 0
    assert run("partage apply -f claims.yaml --wait --timeout 60")[0] == 0
    key = run("partage key create civil/justice")[1]
    return {
        "CLAIM": "civil/justice:assistant",
        "TENANT": "civil/justice",
        "NODE": "simulated",
        "DEVICE": "GPU-simulated-3",
        "ANA": str(platform.home / "secrets/operators/ana.token"),
        "LUC": str(platform.home / "secrets/operators/luc.token"),
        "DECLARATION": "",
        "KEY_PREFIX": re.search(r"pk-\S+", key).group()[:KEY_PREFIX_CHARACTERS],
    }


def run(line, names=None):
    said, wrong = io.StringIO(), io.StringIO()
    arguments = shlex.split(Template(line).substitute(names or {}))[1:]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        status = outcome(arguments)
    return int(status), said.getvalue() + wrong.getvalue()


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))], ids=lambda page: page.stem)
def test_every_block_runs_on_a_platform_from_top_to_bottom(page, desk, platform):
    for line, allowed in commands(page):
        status, said = run(line, desk)
        desk["DECLARATION"] = (said.split() or [""])[0] if "mode declare" in line else desk["DECLARATION"]
        assert status in allowed, f"{line}\nended with {status}, not {allowed}:\n{said}"
    for cordon in platform.client().get("/v1/cordons"):
        platform.client().call("DELETE", f"/v1/cordons/{cordon['subject']}")


def test_nothing_of_the_environment_is_needed_beyond_what_the_first_page_names():
    text = (BOOKS / "README.md").read_text()
    used = {name for page in PAGES for name in re.findall(r"\$([A-Z_]+)", page.read_text())} - EXPLAINED_WHERE_USED
    assert all(f"{name}=" in text for name in used)
