"""One suite, two servers: the fake always, the real one where KUBEBUILDER_ASSETS points at it."""

from __future__ import annotations

import functools
import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from random import Random  # noqa: TID251 - seeded here
from typing import Any

import pytest
import yaml

from cluster.clock import SystemClock
from cluster.kubernetes.api import Api, Connection, Patience
from tests.contract.apiserver.server import FakeApiServer
from tests.contract.kubernetes.real import RealApiServer
from tests.kubernetes_tools import run, tool

ROOT = Path(__file__).parents[3]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
PUBLISHED = ROOT.parent / "shared" / "data" / "api_specs" / "kuberay"


@dataclass
class Served:
    """A server to test against."""

    url: str
    token: str
    ca_file: str | None
    fake: FakeApiServer | None

    @classmethod
    def of(cls, server: FakeApiServer | RealApiServer) -> Served:
        """Return how the server is reached."""
        if isinstance(server, RealApiServer):
            return cls(server.url, server.token, server.ca_file, None)
        return cls(server.url, server.token or "", None, server)

    def connection(self, patience: Patience | None = None) -> Connection:
        connection = Connection.to(self.url, self.token, self.ca_file)
        connection.patience = patience or Patience(first_wait_ms=10)
        return connection

    def api(self, patience: Patience | None = None) -> Api:
        return Api(self.connection(patience), SystemClock(), Random(7))  # noqa: S311 - jitter


def _parsed(text: str | bytes) -> dict[str, Any]:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe, and in C


@functools.cache
def crds() -> list[dict[str, Any]]:
    """Return ours, and KubeRay's as published where they lie beside the repository."""
    own = [_parsed(path.read_text()) for path in sorted((ROOT / "helm" / "partage" / "crds").glob("*.yaml"))]
    return own + ray_crds()


def ray_crds() -> list[dict[str, Any]]:
    if PUBLISHED.is_dir():
        names = ("ray.io_rayclusters", "ray.io_rayservices")
        return [_parsed(gzip.decompress((PUBLISHED / f"{name}.yaml.gz").read_bytes())) for name in names]
    return list(yaml.safe_load_all((Path(__file__).parent / "fixtures" / "ray-crds.yaml").read_text()))


@functools.cache
def monitoring_crds() -> list[dict[str, Any]]:
    """Return our own small definitions of the Prometheus operator's kinds."""
    return list(yaml.safe_load_all((Path(__file__).parent / "fixtures" / "monitoring-crds.yaml").read_text()))


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = start_real(tmp_path_factory.mktemp("apiserver"))
    yield Served.of(server)
    server.close()


def start_real(folder: Path) -> RealApiServer:
    """Start a real API server, or skip."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")  # noqa: TID251 - the envtest convention
    if not assets:
        pytest.skip("KUBEBUILDER_ASSETS does not point at etcd, kube-apiserver and kubectl")
    return RealApiServer(Path(assets), folder)


@pytest.fixture(scope="session")
def fake_server() -> Iterator[Served]:
    server = FakeApiServer()
    yield Served.of(server)
    server.close()


@pytest.fixture(scope="session", params=["fake", pytest.param("real", marks=pytest.mark.real_cluster)])
def served(request: pytest.FixtureRequest) -> Served:
    """Either server, with the definitions installed; tests keep apart by namespace."""
    server: Served = request.getfixturevalue(f"{request.param}_server")
    install(server.api())
    if server.fake is None:
        until_described(server, crds())
    return server


def until_described(server: Served, definitions: Sequence[dict[str, Any]]) -> None:
    """Return once the server tells clients of the definitions: kubectl and helm ask before they send; it comes late."""
    pool, bearer = server.connection().client.rest_client.pool_manager, {"Authorization": f"Bearer {server.token}"}
    kinds = {crd["spec"]["names"]["kind"] for crd in definitions}
    for path, accept in (("/apis", AGGREGATED), ("/openapi/v2", "application/json")):
        for _ in range(300):
            answer = pool.request("GET", f"{server.url}{path}", headers={**bearer, "Accept": accept})
            if answer.status == HTTPStatus.OK and all(f'"{kind}"'.encode() in answer.data for kind in kinds):
                break
            SystemClock().sleep_ms(100)
        else:
            pytest.fail(f"{path} of {server.url} never named all of {sorted(kinds)}")


@pytest.fixture
def fake() -> Iterator[Served]:
    """Yield the fake alone: for faults that a real server cannot be asked for."""
    server = FakeApiServer(token="t0ken")
    yield Served.of(server)
    server.close()


def install(api: Api, definitions: Sequence[dict[str, Any]] | None = None) -> None:
    """Install the definitions, ours and KubeRay's unless others are given, and wait until the server serves them."""
    from cluster.kubernetes.kinds import Kind
    from cluster.kubernetes.refusals import Absent, Exists

    kind = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
    wanted = crds() if definitions is None else definitions
    for crd in wanted:
        try:
            api.create(kind, None, crd)
        except Exists:
            continue
    for crd in wanted:
        spec = crd["spec"]
        served_kind = Kind(spec["group"], spec["versions"][0]["name"], spec["names"]["plural"], spec["names"]["kind"])
        for _ in range(100):
            try:
                api.list_all(served_kind)
                break
            except Absent:
                SystemClock().sleep_ms(100)


@pytest.fixture
def namespace(served: Served, request: pytest.FixtureRequest) -> str:
    """Return a namespace of this test alone."""
    return make_namespace(served.api(), "t-" + str(abs(hash(request.node.nodeid)) % 10**10))


def make_namespace(api: Api, name: str) -> str:
    from cluster.kubernetes.kinds import Kind
    from cluster.kubernetes.refusals import Exists

    try:
        api.create(Kind("", "v1", "namespaces", "Namespace", namespaced=False), None, {"metadata": {"name": name}})
    except Exists:
        return name
    return name


Kubectl = Callable[..., Any]


@pytest.fixture
def kubectl(served: Served, tmp_path: Path) -> Kubectl:
    """Real kubectl, pointed at the server."""
    cluster = {"server": served.url} | ({"certificate-authority": served.ca_file} if served.ca_file else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": served.token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return lambda *arguments, stdin=None: run(
        tool("kubectl"), "--kubeconfig", str(path), *arguments, stdin=stdin, home=tmp_path
    )
