"""Every panel asks for metrics that we export, and shows something on a platform that works."""

import contextlib
import json
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from functools import partial

import pytest
import yaml

from cluster.dashboards.alerts.rules import every_alert
from cluster.dashboards.catalogue import BOARDS
from tests import simulated_platform
from tests.cluster.dashboards import sources
from tests.cluster.dashboards.programs import require

SETTLED_S = 60
"""Longest wait for moves and scrapes."""
NAME = re.compile(r"\b(partage_[a-z0-9_]+|DCGM_[A-Z0-9_]+)\b")
SUBSTITUTES = {"$__rate_interval": "2m", "$__range": "5m"}
VARIABLE = re.compile(r"\$(domain|tenant|flavor|node|model)\b")
MEANT_TO_BE_EMPTY = {"Actions that did not succeed", "Not fully served, by reason"}
"""Lists of troubles: nothing to show is the good answer, and Grafana says "No data"."""


def concrete(expr):
    for name, value in SUBSTITUTES.items():
        expr = expr.replace(name, value)
    return VARIABLE.sub(".*", expr)


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A platform on which devices change domain while Prometheus looks on."""
    with contextlib.ExitStack() as stack:
        platform = stack.enter_context(simulated_platform.running(tmp_path_factory.mktemp("home")))
        exports = {"telemetry": stack.enter_context(sources.telemetry()), "gateway": sources.gateway()}
        yield platform, stack.enter_context(sources.served(exports))


@pytest.fixture(scope="module")
def prometheus(busy, tmp_path_factory):
    program = require("prometheus")
    platform, address = busy
    folder = tmp_path_factory.mktemp("prometheus")
    jobs = [
        {"job_name": "control", "static_configs": [{"targets": [f"127.0.0.1:{platform.port}"]}]},
        {"job_name": "gateway", "metrics_path": "/gateway", "static_configs": [{"targets": [address]}]},
        {"job_name": "telemetry", "metrics_path": "/telemetry", "static_configs": [{"targets": [address]}]},
    ]
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        program,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with subprocess.Popen(arguments) as process:
        try:
            _drive(platform, f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def _drive(platform, url):
    """Let civil borrow and Defence take back, twice: counters move under the eyes of Prometheus."""
    client = platform.client()
    documents = simulated_platform.PROFILES
    policy = yaml.safe_load((documents / "default.yaml").read_text())["spec"]
    client.call("PUT", "/v1/policy", body=policy, headers={"If-None-Match": "*"})
    claims = [each["spec"] for each in yaml.safe_load_all((documents / "claims.yaml").read_text())]
    for claim in claims:
        client.call("PUT", f"/v1/claims/{claim['id']}", body=claim, headers={"If-None-Match": "*"})
    _until(url, "count(up == 1) == 3")
    for civil, defence in ((3, 0), (1, 2), (3, 0), (1, 2)):
        wanted = {"defence/cyber:triage": defence, "civil/justice:assistant": civil}
        for claim in claims:
            if claim["id"] in wanted:
                body = {**claim, "min_replicas": 0, "desired_replicas": wanted[claim["id"]], "max_replicas": 3}
                client.call("PUT", f"/v1/claims/{claim['id']}", body=body, headers={"If-Match": "*"})
        platform.until(partial(_settled, client, wanted))
    _until(url, "sum(partage_reclaims_total) > 1")


def _settled(client, wanted):
    reasons = {reason["claim"]: reason for reason in client.items("/v1/reasons")}
    return all(
        (reason := reasons[claim])["granted_replicas"] == reason["wanted_replicas"] == count and reason["code"] is None
        for claim, count in wanted.items()
    )


def _until(url, expr):
    deadline = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if asked(url, expr):
                return
        time.sleep(0.3)  # noqa: TID251  # Prometheus scrapes in real time
    msg = f"Prometheus never saw {expr}"
    raise AssertionError(msg)


def asked(url, expr):
    """Return the values that are numbers."""
    query = urllib.parse.urlencode({"query": expr})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    return [each["value"][1] for each in found if each["value"][1] != "NaN"]


@pytest.mark.system
@pytest.mark.parametrize(
    ("board", "panel"),
    [(board, panel) for board in BOARDS.values() for panel in board.panels()],
    ids=lambda each: getattr(each, "uid", None) or each.title.replace(" ", "_"),
)
def test_no_panel_is_empty_on_a_platform_that_works(board, panel, prometheus):
    if panel.title in MEANT_TO_BE_EMPTY:
        names = {name for query in panel.queries for name in NAME.findall(query.expr)}
        assert all(asked(prometheus, name) for name in names)
        return
    empty = [query.expr for query in panel.queries if not asked(prometheus, concrete(query.expr))]
    assert empty == [], board.uid


@pytest.mark.system
def test_no_alert_rings_on_a_platform_that_works(prometheus):
    quiet = {"QuotaAlmostFull", "IdleHeldGpu"}
    ringing = {
        alert.name
        for alert in every_alert()
        if alert.held in ("0m", "1m", "2m") and alert.name not in quiet and asked(prometheus, alert.expr)
    }
    assert ringing == set()


@pytest.mark.system
def test_every_metric_that_is_asked_for_is_exported(prometheus):
    with urllib.request.urlopen(f"{prometheus}/api/v1/label/__name__/values", timeout=10) as answer:
        exported = set(json.load(answer)["data"])
    asked_for = {name for board in BOARDS.values() for expr in board.expressions() for name in NAME.findall(expr)}
    asked_for |= {name for alert in every_alert() for name in NAME.findall(alert.expr)}
    assert asked_for - exported <= EXPORTED_ONCE_IT_HAPPENED


EXPORTED_ONCE_IT_HAPPENED = {"partage_plan_violations_total"}
"""Counters by a label that only a fault brings about; their code is tried in the tests of the metrics."""
