"""The control plane as a process on a cluster: claims applied as resources are decided; what it cannot start with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cluster.clock import SystemClock
from cluster.kubernetes.api import Connection
from cluster.kubernetes.kinds import CLAIMS, PODS, RAY_SERVICES, TENANTS
from cluster.main import CANNOT_START
from tests.contract.apiserver.server import FakeApiServer
from tests.contract.conftest import database, postgres  # noqa: F401 - fixtures
from tests.kubernetes_tools import run, tool

from .conftest import Served, crds, install, make_namespace, start_real, until_described
from .real import free_port
from .stand_in import KubeRay, Machine, Machines, ray_service

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "c",
}
SECRETS = ("operator.token", *(f"{d}.{what}" for d in ("defence", "civil") for what in ("ray", "control", "pepper")))
POLICY = {
    "revision": "test",
    "tenants": [{"id": "defence", "domain": "defence"}, {"id": "civil", "domain": "civil"}],
    "priority_classes": [{"name": "standard", "value": 0}],
}

JOB = """
apiVersion: partage.lu/v1alpha1
kind: Claim
metadata: {name: train}
spec: {kind: job, ladder: [{devices: 1}]}
"""


def until(what: Callable[[], object], seconds: int = 60) -> object:
    for _ in range(seconds * 10):
        if found := what():
            return found
        SystemClock().sleep_ms(100)
    raise AssertionError("it did not come about")


@dataclass
class ControlPlane:
    process: subprocess.Popen
    port: int
    log: Path

    def put(self, path: str, body: dict) -> None:
        headers = {
            "Authorization": "Bearer operator.token-0123456789abcdef0123456789abcdef",
            "Content-Type": "application/json",
            "If-None-Match": "*",
        }
        url, data = f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode()
        urllib.request.urlopen(urllib.request.Request(url, data, headers, method="PUT"), timeout=10)

    def get(self, path: str) -> tuple[int, dict]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.loads(answer.read() or "{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or "{}")
        except OSError:
            return 0, {}


class Site:
    def __init__(self, tmp_path: Path, conninfo: str, served: Served) -> None:
        self.tmp_path = tmp_path
        self.api = served.api()
        for namespace in ("partage", "partage-defence", "partage-civil", "justice"):
            make_namespace(self.api, namespace)
        for domain in ("defence", "civil"):
            self.api.create(RAY_SERVICES, f"partage-{domain}", ray_service(domain))
        self.machines = Machines(self.api, SystemClock(), (Machine("n1", ("GPU-1", "GPU-2")),))
        self.machines.start()
        self.kuberay = KubeRay(self.api, ("partage-defence", "partage-civil"))
        self.kuberay.step()
        self.machines.step()
        (tmp_path / "conninfo").write_text(conninfo)
        trusted = {"certificate-authority": served.ca_file} if served.ca_file else {}
        clusters = [{"name": "c", "cluster": {"server": served.url} | trusted}]
        users = [{"name": "u", "user": {"token": served.token} if served.token else {}}]
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump({**KUBECONFIG, "clusters": clusters, "users": users}))
        self.planes: list[ControlPlane] = []

    def start(self, name: str) -> ControlPlane:
        labels = {"app.kubernetes.io/component": "control-plane"}
        spec = {"containers": [{"name": "c", "image": "x/y:1"}]}
        self.api.create(PODS, "partage", {"metadata": {"name": name, "labels": labels}, "spec": spec})
        home = self.tmp_path / name
        (home / "secrets").mkdir(parents=True)
        for key in SECRETS:
            (home / "secrets" / key).write_text(f"{key}-0123456789abcdef0123456789abcdef")
        port = free_port()
        environment = {
            **os.environ,  # noqa: TID251 - a child needs it
            "PYTHONPATH": str(ROOT),
            "PARTAGE_HOME": str(home),
            "PARTAGE_CACHE": str(home / "cache"),
            "PARTAGE_CONFIG": str(home / "config"),
            "PARTAGE_API_PORT": str(port),
            "PARTAGE_KUBECONFIG": str(self.tmp_path / "kubeconfig"),
            "PARTAGE_IDENTITY": name,
            "PARTAGE_LEASE_MS": "5000",
            "PARTAGE_TICK_MS": "200",
            "PARTAGE_DATABASE_FILE": str(self.tmp_path / "conninfo"),
        }
        log = self.tmp_path / f"{name}.log"
        command = [sys.executable, "-m", "cluster.main", "--platform", "kubernetes"]
        process = subprocess.Popen(command, env=environment, stdout=log.open("w"), stderr=subprocess.STDOUT)
        self.planes.append(ControlPlane(process, port, log))
        return self.planes[-1]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess:
        flags = ("--kubeconfig", str(self.tmp_path / "kubeconfig"), "-n", "justice")
        return run(tool("kubectl"), *flags, *arguments, stdin=stdin, home=self.tmp_path)

    def close(self) -> None:
        for plane in self.planes:
            if plane.process.poll() is None:
                plane.process.kill()
                plane.process.wait()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real_cluster)])
def site(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> Iterator[Site]:  # noqa: F811 - a fixture
    """Yield a cluster of its own, since the control plane looks at all of it."""
    server = FakeApiServer() if request.param == "fake" else start_real(tmp_path)
    served = Served.of(server)
    install(served.api())
    if served.fake is None:
        until_described(served, crds())
    site = Site(tmp_path, database, served)
    yield site
    site.close()
    server.close()


def test_a_claim_applied_as_a_resource_is_decided_by_the_running_loop(site: Site) -> None:
    plane = site.start("cp-0")
    until(lambda: plane.get("/readyz")[1].get("checks"))
    plane.put("/v1/policy", POLICY)
    tenant = {"path": "civil/justice", "namespace": "justice"}
    site.api.create(TENANTS, None, {"metadata": {"name": "justice"}, "spec": tenant})
    applied = site.kubectl("apply", "-f", "-", stdin=JOB)
    assert applied.returncode == 0, applied.stderr
    until(lambda: "conditions" in site.kubectl("get", "claim", "train", "-o", "yaml").stdout)
    found = site.api.get(CLAIMS, "justice", "train")["status"]
    assert found["claim"] == "civil/justice:train"
    assert [condition["type"] for condition in found["conditions"]] == ["Admitted", "Ready"]
    described = until(lambda: site.kubectl("describe", "claim", "train").stdout.partition("Events:")[2])
    assert found["sentence"].split(";")[0] in str(described)
    site.kubectl("delete", "claim", "train", "--wait=false")
    until(lambda: "not found" in site.kubectl("get", "claim", "train").stderr)


def test_the_controller_logs_in_with_what_the_client_was_given(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    clusters = [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}]
    users = [{"name": "u", "user": {"token": "t0ken"}}]
    path.write_text(yaml.safe_dump({**KUBECONFIG, "clusters": clusters, "users": users}))
    for connection in (Connection.from_kubeconfig(str(path)), Connection.to("https://127.0.0.1:1", "t0ken")):
        found = connection.credentials()
        assert (found["server"], found["token"]) == ("https://127.0.0.1:1", "t0ken")
    assert Connection.to("http://127.0.0.1:1").credentials()["token"] is None


@pytest.mark.parametrize(
    ("kubeconfig", "code", "says"),
    [
        ("", "outside_cluster", ("service account", "set PARTAGE_KUBECONFIG")),
        ("missing.yaml", "kubeconfig_unreadable", ("missing.yaml", "kubectl --kubeconfig")),
    ],
)
def test_outside_a_cluster_it_says_so_in_a_sentence_and_ends_with_a_status(
    tmp_path: Path, kubeconfig: str, code: str, says: tuple[str, ...]
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")},  # noqa: TID251 - a child needs it
        "PYTHONPATH": str(ROOT),
        "PARTAGE_HOME": str(tmp_path),
        "PARTAGE_KUBECONFIG": kubeconfig and str(tmp_path / kubeconfig),
    }
    command = [sys.executable, "-m", "cluster.main", "--platform", "kubernetes"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    (line,) = done.stderr.splitlines()
    assert done.returncode == CANNOT_START
    assert f"cannot start ({code}): " in line
    assert all(words in line for words in says)
